"""Separate copies of an environment, for whatever has no native batch; and what may be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import index
from typing import SupportsIndex

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.env_util import make_vec_env as sb3_make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from attn_rl.adapters import family_of, find_spec, make_env
from attn_rl.observation_size import check_observations
from attn_rl.type_names import with_article
from attn_rl.vec_envs.replayable import ReplayableEnv
from attn_rl.vec_envs.supervised import SupervisedVecEnv
from attn_rl.wrappers.advice import require_fixed_shapes

MOST_ENVS = 1 << 16
"""Copies of an environment: beyond that they would only fill the memory."""


def check_request(env_id: object, n_envs: object, seed: object, env_kwargs: object) -> None:
    """Raise where the arguments of :func:`attn_rl.make_vec_env` cannot be meant.

    Raises:
        TypeError: something that makes no environments, or an argument of another type.
        ValueError: a number out of range.
    """
    name = type(env_id).__name__
    if isinstance(env_id, VecEnv | gym.vector.VectorEnv):
        use = "VectorEnvAdapter(env) hands it to SB3" if isinstance(env_id, gym.vector.VectorEnv) else "use it as it is"
        raise TypeError(f"env_id is a vector environment ({name}) already: {use}")
    if isinstance(env_id, gym.Env):
        raise TypeError(
            f"env_id is an environment ({name}), and copies are needed: pass its class, or a function that makes a new "
            f"one at every call, e.g. `lambda: {name}(...)`"
        )
    if not isinstance(env_id, str) and not callable(env_id):
        raise TypeError(
            f"env_id is {with_article(type(env_id))}; expected an id (str), a class, or a function that returns a new "
            "environment"
        )
    if not isinstance(n_envs, SupportsIndex):
        raise TypeError(f"n_envs={n_envs!r}; expected a whole number, 1 or more")
    if not isinstance(seed, SupportsIndex | None):
        raise TypeError(f"seed={seed!r}; expected a whole number or None")
    if not isinstance(env_kwargs, Mapping | None):
        raise TypeError(f"env_kwargs={env_kwargs!r}; expected a dict, the environment's arguments by name")
    if index(n_envs) < 1:
        raise ValueError(f"n_envs={n_envs}; expected 1 or more")
    if index(n_envs) > MOST_ENVS:
        raise ValueError(f"n_envs={n_envs:,}; expected at most {MOST_ENVS:,}: more would only fill the memory")
    if seed is not None and index(seed) < 0:
        raise ValueError(f"seed={seed}; expected 0 or more, or None for a random one")


def make_copies(
    env_id: str | Callable[..., gym.Env],
    n_envs: int,
    seed: int | None,
    env_kwargs: dict[str, object],
    vec_env_cls: type[DummyVecEnv] | type[SubprocVecEnv] | None,
    limits: Mapping[str, object],
) -> VecEnv:
    """Make copies whose running episodes can be restored; the parameters are those of :func:`attn_rl.make_vec_env`.

    Args:
        limits: of :class:`SupervisedVecEnv`, where each copy gets a process of its own.
    """
    if isinstance(env_id, str):
        spec = find_spec(env_id)
        family = family_of(spec)
        if vec_env_cls is None and family is not None and family.slow and n_envs > 1:
            vec_env_cls = SubprocVecEnv
        told = None if ":" in env_id else spec
        make: Callable[..., gym.Env] = partial(_make_registered, env_id, told, render_mode="rgb_array")
    else:
        make = env_id
    supervised = vec_env_cls is SubprocVecEnv
    copies = sb3_make_vec_env(
        partial(_make_one, make, n_envs),
        n_envs,
        seed,
        env_kwargs=env_kwargs,
        wrapper_class=ReplayableEnv,
        vec_env_cls=SupervisedVecEnv if supervised else vec_env_cls,
        vec_env_kwargs=dict(limits) if supervised else None,
    )
    for i in range(n_envs):
        copies.set_attr("index", i, indices=[i])
    return copies


def _make_registered(env_id: str, spec: EnvSpec | None, **kwargs: object) -> gym.Env:
    """``make_env``, also in a process that did not run the script or notebook that registered the id."""
    if spec is not None:
        gym.registry.setdefault(spec.id, spec)
    return make_env(env_id, **kwargs)


def _make_one(make: Callable[..., gym.Env], n_envs: int, **env_kwargs: object) -> gym.Env:
    """A single environment, checked before anything is built around it, and before its copies are made."""
    env = make(**env_kwargs)
    if not isinstance(env, gym.Env):
        raise TypeError(f"{make} returned {with_article(type(env))}; expected a new gymnasium.Env at every call")
    require_fixed_shapes(env.observation_space)
    check_observations(env.observation_space, n_envs)
    return env
