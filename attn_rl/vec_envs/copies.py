"""Separate copies of an environment, for ids without a native batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium as gym
from stable_baselines3.common.env_util import make_vec_env as sb3_make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from attn_rl.adapters import family_of, find_spec, make_env
from attn_rl.vec_envs.replayable import ReplayableEnv
from attn_rl.vec_envs.supervised import SupervisedVecEnv


def make_copies(
    env_id: str,
    n_envs: int,
    seed: int | None,
    env_kwargs: dict[str, Any],
    vec_env_cls: type[DummyVecEnv] | type[SubprocVecEnv] | None,
    limits: Mapping[str, Any],
) -> VecEnv:
    """Make copies whose running episodes can be restored; the parameters are those of :func:`attn_rl.make_vec_env`.

    Args:
        limits: of :class:`SupervisedVecEnv`, where each copy gets a process of its own.
    """
    family = family_of(find_spec(env_id))
    make: str | Callable[..., gym.Env] = env_id
    if family is not None:
        make = partial(make_env, env_id, render_mode="rgb_array")
    if vec_env_cls is None and family is not None and family.slow and n_envs > 1:
        vec_env_cls = SubprocVecEnv
    supervised = vec_env_cls is SubprocVecEnv
    copies = sb3_make_vec_env(
        make,
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
