"""make_agent: an SB3 PPO with an entity policy, exactly as train.py builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, is_vecenv_wrapped

from attn_rl.actions import Actions, masks_in
from attn_rl.entities import EntitySpec, env_metadata
from attn_rl.observation_size import check_rollout
from attn_rl.sb3.policy import EntityAttentionPolicy
from attn_rl.training.guarded_ppo import GuardedPPO
from attn_rl.training.policies import EDGE_SETTINGS, NETWORK_SETTINGS, find_policy, refuse_unused
from attn_rl.training.presets import PPO_SETTINGS, Preset, Settings, find_preset, override, preset_of, read_preset
from attn_rl.training.ranges import check_products, check_schedule, check_value
from attn_rl.type_names import with_article
from attn_rl.vec_envs.adapter import make_vec_env
from attn_rl.vec_envs.guarded import MAX_ABS_REWARD, GuardedVecEnv
from attn_rl.vec_envs.memory import memory_of, remembering
from attn_rl.vec_envs.wrapper_check import check_wrappers
from attn_rl.wrappers.memory import MemoryOptions

Schedule = Callable[[float], float]
NO_MEMORY = {name: value for name, value in vars(Settings()).items() if name.startswith("memory_")}
SCHEDULES = ("learning_rate", "clip_range")
"""Settings that may also be a function of the training that is left, 1 to 0."""


def make_agent(
    env: VecEnv | str,
    policy: str = "attention",
    *,
    seed: int | None = None,
    device: str = "cpu",
    verbose: int = 0,
    max_abs_reward: float = MAX_ABS_REWARD,
    memory: Mapping[str, Any] | None = None,
    actions: Actions | None = None,
    **settings: Any,
) -> GuardedPPO:
    """Build the agent that ``python train.py`` trains.

    Names and kinds of features come from the environment's metadata; settings not given come from the environment's
    preset (:mod:`attn_rl.training.presets`), or from the general defaults.

    Args:
        env: an SB3 vector environment (:func:`make_vec_env`), or an id, of which as many are made as the preset says.
        policy: ``"attention"``, ``"deepsets"``, ``"flat"``, or of :func:`attn_rl.training.policies.register_policy`.
        seed: of the network, of the actions, and of an environment given by its id.
        device: as PyTorch names it, ``"cpu"`` or ``"cuda:0"``.
        verbose: as in SB3: 0 is silent.
        max_abs_reward: larger rewards stop the training, see :mod:`attn_rl.vec_envs.guarded`.
        memory: what to remember of the past, as entities: ``dict(steps=8)``, ``dict(sightings=8)``, with ``actions``,
            ``rewards`` and ``identity`` if need be (:class:`attn_rl.wrappers.memory.MemoryOptions`), in the place of
            all that a preset remembers. The environment gets the memory if it has none.
        actions: structured actions (``docs/actions.md``); None = the environment's ``metadata["actions"]``, if any.
        settings: fields of :class:`attn_rl.training.presets.Settings`. ``learning_rate`` (as a number it decays to a
            tenth) and ``clip_range`` may also be SB3's schedules, ``net_arch`` SB3's ``dict(pi=[...], vf=[...])``.

    Raises:
        ValueError: an unknown policy or setting, a setting that the policy does not take, a value out of its range, a
            device that is not there, actions that PPO cannot take, or an observation that holds no entities.
        TypeError: an environment that is not an SB3 vector environment.
    """
    preset = preset_of_env(env)
    check_device(device)
    check_value("seed", 0 if seed is None else seed)
    if memory is not None:
        settings |= {**NO_MEMORY, **{f"memory_{name}": value for name, value in memory.items()}}
    schedules = take_schedules(settings)
    n_envs = preset.n_envs if isinstance(env, str) else env.num_envs
    chosen = choose_settings(preset.settings(policy, n_envs), policy, settings)
    check_products({**vars(chosen), "n_envs": n_envs})
    games = make_vec_env(env, preset.n_envs, seed=seed) if isinstance(env, str) else env
    asked = any(name.startswith("memory_") for name in settings)
    if asked or memory_of(games) is None:  # a memory that the environment brings is preferred to a preset's
        games = remembering(games, memory_options(chosen))
    if memory_of(games) is not None:
        chosen = replace(chosen, presence=None)  # a Dict says itself what is there
    check_rollout(games.observation_space, games.num_envs, chosen.n_steps)
    actions = env_metadata(games).get("actions") if actions is None else actions
    unseen = (*chosen.ignore, *masks_in(games.observation_space, actions))
    guarded, spec = guard(games, chosen.presence, max_abs_reward, unseen)
    return GuardedPPO(
        EntityAttentionPolicy,
        guarded,
        policy_kwargs=policy_kwargs(spec, policy, chosen, actions),
        seed=seed,
        device=device,
        verbose=verbose,
        **ppo_settings(chosen, guarded.num_envs, schedules),
    )


def memory_options(settings: Settings) -> MemoryOptions | None:
    """What an agent remembers; None: nothing.

    Raises:
        ValueError: settings of the memory that need another one.
    """
    given = {
        name: getattr(settings, f"memory_{name}") for name in ("steps", "sightings", "actions", "rewards", "identity")
    }
    return MemoryOptions(**given, presence=settings.presence) if any(given.values()) else None


def take_schedules(settings: dict[str, Any]) -> dict[str, Schedule]:
    """Take the functions that stand in place of numbers out of the settings.

    Raises:
        ValueError: one that is no schedule.
    """
    schedules = {name: settings.pop(name) for name in SCHEDULES if callable(settings.get(name))}
    for name, schedule in schedules.items():
        check_schedule(name, schedule)
    return schedules


def choose_settings(default: Settings, policy: str, changes: Mapping[str, object]) -> Settings:
    """The settings of a policy, changed.

    Raises:
        ValueError: a name that does not exist, a value out of its range, or a setting that the policy does not take.
    """
    chosen = override(default, changes)
    refuse_unused(policy, vars(chosen), (vars(default), vars(Settings())))
    return chosen


def guard(
    env: VecEnv, presence: int | str | None, max_abs_reward: float, ignore: Sequence[str] = ()
) -> tuple[VecEnv, EntitySpec]:
    """The environment under guard, where it is not yet, and what its observation holds.

    Raises:
        ValueError: a bound that is none, actions that PPO cannot take, wrappers that spoil what the policy sees, no
            entities.
    """
    check_value("max_abs_reward", max_abs_reward)
    check_actions(env.action_space)
    check_wrappers(env, presence)
    spec = EntitySpec.from_env(env, presence, ignore)
    guarded = env if is_vecenv_wrapped(env, GuardedVecEnv) else GuardedVecEnv(env, spec, max_abs_reward=max_abs_reward)
    return guarded, spec


def ppo_settings(settings: Settings, n_envs: int, schedules: Mapping[str, Schedule]) -> dict[str, Any]:
    """What PPO is built with: numbers, and the schedules given in their place.

    Raises:
        ValueError: minibatches of one sample whose advantages are to be normalised.
    """
    chosen = {name: getattr(settings, name) for name in PPO_SETTINGS}
    chosen["batch_size"] = min(settings.batch_size, settings.n_steps * n_envs)
    chosen["shared_baseline"] = gcd(settings.shared_baseline, n_envs)  # groups must come out even
    if chosen["batch_size"] == 1 and settings.normalize_advantage:
        raise ValueError(
            f"batch_size={settings.batch_size} of n_steps={settings.n_steps} x n_envs={n_envs} samples: minibatches of "
            "one have no spread to normalise advantages by; expected 2 or more, or normalize_advantage=False"
        )
    rate = settings.learning_rate
    return chosen | {"learning_rate": LinearSchedule(rate, 0.1 * rate, 1.0)} | dict(schedules)


def policy_kwargs(
    spec: EntitySpec, policy: str, settings: Settings, actions: Actions | None = None
) -> dict[str, object]:
    """What ``EntityAttentionPolicy`` is built with: plain data, saved with the model."""
    named = find_policy(policy)
    extractor = {name: getattr(settings, name) for name in NETWORK_SETTINGS if name not in named.without}
    kinds = None if settings.relations == "features" and not spec.frames else spec.kinds or None
    extractor |= {"names": spec.names, "kinds": kinds, "presence": settings.presence}
    if spec.categories:  # not said where there are none: a registered extractor need not know of them
        extractor["categories"] = spec.categories
    if spec.edges:
        extractor["edges"] = spec.ends
        chosen = {name: getattr(settings, name) for name in EDGE_SETTINGS if name not in named.without}
        extractor |= {name: value for name, value in chosen.items() if value != getattr(Settings, name)}
    if spec.ignored:
        extractor["ignore"] = spec.ignored
    if "sort_by" not in named.without and settings.sort_by is not None:
        extractor["sort_by"] = _sorted_types(spec, settings.sort_by)
    arch = settings.net_arch
    found = {
        "features_extractor_class": named.extractor,
        "features_extractor_kwargs": extractor,
        "net_arch": {k: list(v) for k, v in arch.items()} if isinstance(arch, Mapping) else list(arch),
        "pointer": None if "pointer" in named.without else settings.pointer,
    }
    return found if not actions or "pointer" in named.without else found | {"actions": actions}


def _sorted_types(spec: EntitySpec, feature: str) -> dict[str, str]:
    found = {entity_type.name: feature for entity_type in spec.types if feature in entity_type.features}
    if not found:
        features = {entity_type.name: entity_type.features for entity_type in spec.types}
        raise ValueError(f"sort_by={feature!r}: no entity type has this feature; choose one of {features}")
    return found


def preset_of_env(env: VecEnv | str) -> Preset:
    """The preset of an id, or of the environment in a VecEnv: by its specification, or its metadata where it has none.

    Raises:
        TypeError: neither.
    """
    if isinstance(env, str):
        return find_preset(env)
    if not isinstance(env, VecEnv):
        raise TypeError(
            f"env is {with_article(type(env))}, expected an SB3 VecEnv or an id: "
            "make_vec_env(id, n_envs), or make_vec_env(a class or function that makes it, n_envs)"
        )
    try:
        spec = env.get_attr("spec")[0]
    except AttributeError:  # a vector environment that cannot be asked, but may have metadata
        spec = None
    if spec is not None:
        return preset_of(spec, spec.kwargs)
    return read_preset(env_metadata(env).get("preset", {}), "the environment")


def check_device(device: str | torch.device) -> None:
    """Raise where torch has no such device; Stable-Baselines3 would take the CPU without a word.

    Raises:
        ValueError: with the devices that are there.
    """
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    try:
        if str(device) == "auto" or not torch.empty(1, device=torch.device(device)).is_meta:
            return
    except (RuntimeError, AssertionError, TypeError):  # no such device, not compiled for it, no device at all
        pass
    raise ValueError(f"device={str(device)!r} is not there; choose one of {', '.join(there)}, or auto")


def check_actions(space: spaces.Space[object]) -> None:
    """Raise where PPO cannot act in a space.

    Raises:
        ValueError: another kind of space, or a Box without bounds.
    """
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Box):
        raise ValueError(
            f"the action space is {space}, expected a Discrete, MultiDiscrete, MultiBinary or bounded Box; "
            "wrap the environment in a gymnasium.ActionWrapper that offers one of these"
        )
    if not isinstance(space, spaces.Box) and len(space.shape or ()) > 1:
        raise ValueError(
            f"the action space is {space}, of shape {space.shape}, expected one dimension; "
            "flatten it in a gymnasium.ActionWrapper"
        )
    if isinstance(space, spaces.Box) and not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ValueError(
            f"the action space is {space}, expected finite bounds; give the environment's Box some, "
            "or wrap it in gymnasium.wrappers.RescaleAction"
        )
