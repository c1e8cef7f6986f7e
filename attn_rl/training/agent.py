"""make_agent: an SB3 PPO with an entity policy, exactly as train.py builds it."""

from __future__ import annotations

from typing import Any, get_args

from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, is_vecenv_wrapped

from attn_rl.entities import EntitySpec
from attn_rl.sb3.extractor import DeepSetsExtractor, EntityAttentionExtractor, EntityExtractor, FlatExtractor
from attn_rl.sb3.policy import EntityAttentionPolicy
from attn_rl.training.guarded_ppo import GuardedPPO
from attn_rl.training.limits import refuse_excess
from attn_rl.training.presets import PPO_SETTINGS, Relations, Settings, find_preset, override
from attn_rl.vec_envs.adapter import make_vec_env
from attn_rl.vec_envs.guarded import MAX_ABS_REWARD, GuardedVecEnv
from attn_rl.vec_envs.wrapper_check import check_wrappers

EXTRACTORS: dict[str, type[EntityExtractor]] = {
    "attention": EntityAttentionExtractor,
    "deepsets": DeepSetsExtractor,
    "flat": FlatExtractor,
}
ATTENTION_ONLY = ("n_heads", "readout", "similarity", "log_count", "relations")
SET_ONLY = ("n_layers", "ego_conditioning")


def make_agent(
    env: VecEnv | str,
    policy: str = "attention",
    *,
    seed: int | None = None,
    device: str = "cpu",
    verbose: int = 0,
    max_abs_reward: float = MAX_ABS_REWARD,
    **settings: Any,
) -> GuardedPPO:
    """Build the agent that ``python train.py`` trains.

    Names and kinds of features come from the environment's metadata; settings not given come from the environment's
    preset (:mod:`attn_rl.training.presets`), or from the general defaults.

    Args:
        env: an SB3 vector environment (:func:`make_vec_env`), or an id, of which the preset's number is made.
        policy: ``"attention"``, ``"deepsets"`` or ``"flat"``.
        seed: of the network and of the actions (and of the environment).
        device: torch's name of it.
        verbose: SB3's.
        max_abs_reward: larger rewards stop the training, see :mod:`attn_rl.vec_envs.guarded`.
        settings: fields of :class:`attn_rl.training.presets.Settings`.

    Raises:
        ValueError: an unknown policy or setting, or an observation that holds no entities.
        TypeError: an environment that is not an SB3 vector environment.
    """
    if not isinstance(env, str | VecEnv):
        raise TypeError(
            f"env is a {type(env).__name__}, expected an SB3 VecEnv or an id: "
            "make_vec_env(id, n_envs), or DummyVecEnv([lambda: your_env])"
        )
    if policy not in EXTRACTORS:
        raise ValueError(f"policy={policy!r} is unknown; choose one of {sorted(EXTRACTORS)}")
    env_id, env_kwargs = (env, {}) if isinstance(env, str) else describe(env)
    preset = find_preset(env_id, env_kwargs)
    chosen = override(preset.settings(policy), settings)
    refuse_excess({**vars(chosen), "n_envs": preset.n_envs if isinstance(env, str) else env.num_envs})
    if isinstance(env, str):
        env = make_vec_env(env, preset.n_envs, seed=seed)
    check_wrappers(env, chosen.presence)
    spec = EntitySpec.from_env(env, chosen.presence)
    if not is_vecenv_wrapped(env, GuardedVecEnv):
        env = GuardedVecEnv(env, spec, max_abs_reward=max_abs_reward)
    return GuardedPPO(
        EntityAttentionPolicy,
        env,
        learning_rate=LinearSchedule(chosen.learning_rate, 0.1 * chosen.learning_rate, 1.0),
        policy_kwargs=policy_kwargs(spec, policy, chosen),
        seed=seed,
        device=device,
        verbose=verbose,
        **{name: getattr(chosen, name) for name in PPO_SETTINGS}
        | {"batch_size": min(chosen.batch_size, chosen.n_steps * env.num_envs)},
    )


def policy_kwargs(spec: EntitySpec, policy: str, settings: Settings) -> dict[str, Any]:
    """What ``EntityAttentionPolicy`` is built with: plain data, saved with the model."""
    left_out = () if policy == "attention" else ATTENTION_ONLY if policy == "deepsets" else ATTENTION_ONLY + SET_ONLY
    network = (
        "d_model",
        "n_heads",
        "n_layers",
        "readout",
        "similarity",
        "log_count",
        "ego_conditioning",
        "normalize",
        "relations",
    )
    if settings.relations not in get_args(Relations):
        raise ValueError(f"relations={settings.relations!r} is unknown; choose one of {get_args(Relations)}")
    extractor = {name: getattr(settings, name) for name in network if name not in left_out}
    kinds = None if settings.relations == "learned" else spec.kinds or None
    if extractor.get("relations") in ("on", "learned"):
        extractor["relations"] = "auto"
    extractor |= {"names": spec.names, "kinds": kinds, "presence": settings.presence}
    if policy == "flat" and settings.sort_by is not None:
        extractor["sort_by"] = _sorted_types(spec, settings.sort_by)
    return {
        "features_extractor_class": EXTRACTORS[policy],
        "features_extractor_kwargs": extractor,
        "net_arch": list(settings.net_arch),
        "pointer": None if policy == "flat" else settings.pointer,
    }


def _sorted_types(spec: EntitySpec, feature: str) -> dict[str, str]:
    found = {entity_type.name: feature for entity_type in spec.types if feature in entity_type.features}
    if not found:
        features = {entity_type.name: entity_type.features for entity_type in spec.types}
        raise ValueError(f"sort_by={feature!r}: no entity type has this feature; choose one of {features}")
    return found


def describe(env: VecEnv) -> tuple[str, dict[str, Any]]:
    """The id and the arguments of the environment in a VecEnv; empty where it does not say."""
    spec = env.get_attr("spec")[0]
    return ("", {}) if spec is None else (spec.id, dict(spec.kwargs))
