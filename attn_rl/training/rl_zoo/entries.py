"""Presets in the format of RL Zoo's hyperparameter files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from attn_rl.entities import EntitySpec, env_metadata
from attn_rl.training.agent import memory_options, policy_kwargs
from attn_rl.training.presets import PPO_SETTINGS, find_preset
from attn_rl.vec_envs.adapter import make_vec_env
from attn_rl.vec_envs.memory import VecMemory, remembering

POLICY = "attn_rl.EntityAttentionPolicy"


def zoo_entry(env_id: str, env_kwargs: Mapping[str, object] | None = None) -> dict[str, object]:
    """What RL Zoo needs to train the attention preset of an environment with Stable-Baselines3's PPO.

    Plain data. ``lin_`` is the Zoo's schedule, which falls to zero; ``train.py`` stops at a tenth.

    Args:
        env_id: Gymnasium id, e.g. ``"AttnRL/Seek-v0"``.
        env_kwargs: its arguments; variants have presets of their own.
    """
    preset = find_preset(env_id, env_kwargs)
    settings = preset.settings("attention")
    memory = memory_options(settings)
    env = remembering(make_vec_env(env_id, 1, env_kwargs=dict(env_kwargs or {})), memory)
    spec = EntitySpec.from_env(env, settings.presence, settings.ignore)
    network = policy_kwargs(spec, "attention", settings, env_metadata(env).get("actions"))
    env.close()
    network.pop("features_extractor_class")  # the policy's default
    ppo = {name: getattr(settings, name) for name in PPO_SETTINGS}
    if ppo.pop("normalize_reward"):  # SB3's PPO leaves it to a wrapper, and the Zoo puts that around
        ppo["normalize"] = "dict(norm_obs=False, norm_reward=True)"
    ppo.pop("shared_baseline")  # which is EntityPPO's alone
    ppo["batch_size"] = min(settings.batch_size, settings.n_steps * preset.n_envs)
    return {
        "policy": POLICY,
        "n_envs": preset.n_envs,
        "n_timesteps": preset.total_timesteps,
        "learning_rate": f"lin_{settings.learning_rate:g}",
        **ppo,
        "policy_kwargs": network,
        **({"vec_env_wrapper": {f"{VecMemory.__module__}.{VecMemory.__name__}": memory.as_dict()}} if memory else {}),
        **({"env_kwargs": dict(env_kwargs)} if env_kwargs else {}),
    }


def zoo_yaml(env_ids: Iterable[str], env_kwargs: Mapping[str, object] | None = None) -> str:
    """A hyperparameter file: one entry per environment, keyed by the id without its module, as the Zoo looks it up."""
    return "\n".join(
        f"{env_id.split(':')[-1]}:\n"
        + "".join(f"  {name}: {json.dumps(value)}\n" for name, value in zoo_entry(env_id, env_kwargs).items())
        for env_id in env_ids
    )
