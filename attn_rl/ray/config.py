"""ppo_config: RLlib's PPO on an environment of entities, with the preset that ``train.py`` uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from attn_rl.adapters import plain_id
from attn_rl.entities import EntitySpec, env_metadata
from attn_rl.ray.batches import env_config, make_one
from attn_rl.ray.compat import registered_env
from attn_rl.ray.learner import EntityPPOLearner
from attn_rl.ray.module import EntityRLModule
from attn_rl.ray.runner import EntityEnvRunner
from attn_rl.training.agent import check_actions, choose_settings, memory_options, policy_kwargs
from attn_rl.training.arguments import Args, to_json
from attn_rl.training.policies import import_policy
from attn_rl.training.preset_file import preset_for
from attn_rl.training.presets import Preset, Settings, read_preset
from attn_rl.training.ranges import check_value
from attn_rl.wrappers.memory import MemoryOptions

SHARED = "shared"
"""Name of the module that all agents of a multi-agent environment share."""


class Seen(NamedTuple):
    """What one agent's environment is like.

    Attributes:
        observation_space, action_space: of one agent.
        spec: what its observation holds.
        memory: what is remembered of the past; None = nothing.
    """

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    spec: EntitySpec
    memory: MemoryOptions | None = None


def ppo_config(
    env: str | type[MultiAgentEnv],
    policy: str = "attention",
    *,
    preset: str | Path | Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    total_timesteps: int | None = None,
    n_envs: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> PPOConfig:
    """RLlib's PPO as ``attn_rl.train`` sets it up; every method of ``PPOConfig`` goes on from here.

    ::

        config = ppo_config("AttnRL/Seek-v0").env_runners(num_env_runners=2, num_envs_per_env_runner=64)
        algorithm = config.build_algo()

    A train batch has ``n_steps`` steps of ``n_envs`` environments, however many runners share the work. RLlib's KL
    penalty and its clipping of the value loss are off, as in SB3; ``.training(use_kl_loss=True)`` brings the first
    back. Failed runners are started again.

    Args:
        env: Gymnasium id, with its module in front if need be; or a ``MultiAgentEnv`` class, or the name of one that
            was registered with RLlib: then all agents share one module, called ``"shared"``.
        policy: name, or ``my_module:mine``.
        preset: a file of ``attn-rl tune``, or plain data as :func:`attn_rl.training.presets.register_preset` takes it;
            None: the environment's.
        env_kwargs: arguments of the environment.
        total_timesteps: over which the learning rate decays to a tenth; None: the preset's.
        n_envs: environments of one runner, side by side; None: the preset's.
        seed: of network, actions and environments.
        settings: fields of :class:`attn_rl.training.presets.Settings`; ``shared_baseline`` is always 1.

    Raises:
        ValueError: no such environment, an unknown setting or a value out of range, agents that differ, structured
            actions.
    """
    kwargs, policy = dict(env_kwargs or {}), import_policy(policy)
    creator = registered_env(env) if isinstance(env, str) else env
    several = None if creator is None else _make_several(creator, env, kwargs)
    found = _preset(env, kwargs, preset, several)
    n_envs, total = n_envs or found.n_envs, total_timesteps or found.total_timesteps
    if settings.get("shared_baseline", 1) != 1:
        raise ValueError("shared_baseline compares environments of one process; on RLlib leave it out")
    chosen = replace(choose_settings(found.settings(policy, n_envs), policy, settings), shared_baseline=1)
    if several is None:
        chosen, seen = _look(str(env), kwargs, chosen)
    else:
        seen = _look_at_several(several, chosen)
    for name, value in (("n_envs", n_envs), ("total_timesteps", total), ("seed", seed)):
        check_value(name, value)
    spec = RLModuleSpec(
        module_class=EntityRLModule,
        observation_space=seen.observation_space,
        action_space=seen.action_space,
        model_config=_model_config(env, kwargs, policy, seen.spec, chosen, n_envs, total, seed),
    )
    config = _ppo(chosen, n_envs, total).debugging(seed=seed)
    config.environment(
        plain_id(env) if isinstance(env, str) else env,
        env_config=env_config(kwargs, seen.memory),
        normalize_actions=False,  # what the policy says is what the environment gets, within its bounds
        clip_actions=True,
    )
    if several is None:
        return config.env_runners(env_runner_cls=EntityEnvRunner).rl_module(rl_module_spec=spec)
    config.multi_agent(policies={SHARED}, policy_mapping_fn=_shared)
    return config.rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={SHARED: spec}))


def _ppo(settings: Settings, n_envs: int, total: int) -> PPOConfig:
    batch = settings.n_steps * n_envs
    rate = settings.learning_rate
    return (
        PPOConfig()
        .env_runners(num_env_runners=0, num_envs_per_env_runner=n_envs)
        .learners(learner_class=EntityPPOLearner)
        .fault_tolerance(restart_failed_env_runners=True)
        .training(
            train_batch_size_per_learner=batch,
            minibatch_size=min(settings.batch_size, batch),
            num_epochs=settings.n_epochs,
            shuffle_batch_per_epoch=True,
            lr=[[0, rate], [total, 0.1 * rate]],
            gamma=settings.gamma,
            lambda_=settings.gae_lambda,
            entropy_coeff=settings.ent_coef,
            clip_param=settings.clip_range,
            vf_loss_coeff=settings.vf_coef,
            vf_clip_param=float("inf"),
            grad_clip=settings.max_grad_norm,
            grad_clip_by="global_norm",
            use_kl_loss=False,
        )
    )


def _model_config(
    env: object,
    env_kwargs: dict[str, Any],
    policy: str,
    spec: EntitySpec,
    settings: Settings,
    n_envs: int,
    total: int,
    seed: int,
) -> dict[str, Any]:
    """What builds the module, and what a run folder says of it: plain data."""
    built = policy_kwargs(spec, policy, settings)
    del built["features_extractor_class"]  # found by the policy's name
    env_id = plain_id(env) if isinstance(env, str) else f"{env.__module__}:{env.__qualname__}"  # type: ignore[attr-defined]
    args = Args(
        env=env_id,
        env_kwargs=env_kwargs,
        policy=policy,
        total_timesteps=total,
        seed=seed,
        n_envs=n_envs,
        settings=settings,
    )
    return {"policy": policy, "policy_kwargs": built, "run": to_json(args)}


def _preset(env: object, env_kwargs: dict[str, Any], preset: Any, several: MultiAgentEnv | None) -> Preset:
    if preset is None and several is not None:
        return read_preset(env_metadata(several).get("preset", {}), str(env), env_kwargs)
    return preset_for(preset, str(env), env_kwargs)


def _look(env: str, env_kwargs: dict[str, Any], settings: Settings) -> tuple[Settings, Seen]:
    """Make a single agent's environment once, and look at it; the settings as they hold there."""
    memory = memory_options(settings)
    one = make_one(env, env_kwargs, memory)
    if memory is not None:
        settings = replace(settings, presence=None)  # a Dict says itself what is there
    check_actions(one.action_space)
    _refuse_structure(one)
    spec = EntitySpec.from_env(one, settings.presence, settings.ignore)
    one.close()
    return settings, Seen(one.observation_space, one.action_space, spec, memory)


def _make_several(creator: Any, env: object, env_kwargs: dict[str, Any]) -> MultiAgentEnv:
    made = creator(EnvContext(env_kwargs, worker_index=0))
    if not isinstance(made, MultiAgentEnv):
        raise ValueError(
            f"{env!r} makes a {type(made).__name__}, expected a MultiAgentEnv; give a single agent's environment by "
            "its Gymnasium id, with the module that registers it in front: my_module:My-v0"
        )
    return made


def _look_at_several(env: Any, settings: Settings) -> Seen:
    """Look at an environment of several agents, and close it."""
    observed, acted = _one_for_all(env, "observation"), _one_for_all(env, "action")
    check_actions(acted)
    _refuse_structure(env)
    data = env_metadata(env)
    names, kinds, categories, edges = (data.get(name) for name in ("entities", "kinds", "categories", "edges"))
    spec = EntitySpec.from_space(observed, names, kinds, settings.presence, categories, edges, settings.ignore)
    env.close()
    return Seen(observed, acted, spec)


def _refuse_structure(env: object) -> None:
    if env_metadata(env).get("actions"):
        raise ValueError(
            "the environment declares structured actions (metadata['actions']), whose later arguments see the earlier "
            "ones; RLlib's losses take one distribution from one pass. Train it with attn-rl train"
        )


def _one_for_all(env: Any, what: str) -> gym.Space[Any]:
    """The space that all agents have in common.

    Raises:
        ValueError: they have none.
    """
    spaces = [getattr(env, f"get_{what}_space")(agent) for agent in env.possible_agents]
    if any(space != spaces[0] for space in spaces):
        found = dict(zip(env.possible_agents, spaces, strict=True))
        raise ValueError(
            f"agents share one module, but their {what} spaces differ: {found}; "
            "pad them to one size, or give groups of agents modules of their own with .multi_agent() and .rl_module()"
        )
    return spaces[0]  # type: ignore[no-any-return]


def _shared(agent: object, episode: object, **kwargs: object) -> str:
    return SHARED
