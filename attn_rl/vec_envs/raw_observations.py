"""Observations as separate copies of an environment hand them out, before they are cast, broadcast or stacked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper

from attn_rl.sb3.compat import look_before_saving, look_before_stacking
from attn_rl.vec_envs.adapter import VectorEnvAdapter
from attn_rl.vec_envs.supervised import SupervisedVecEnv


class Look(Protocol):
    """Looks at the observation of one environment; what it raises stops the step.

    ``last`` is the observation that its episode ended with, where one did and the vector environment tells it apart.
    """

    def __call__(self, space: spaces.Space[object], index: int, obs: Any, *last: Any) -> None: ...


def look_at_raw_observations(env: VecEnv, look: Look) -> bool:
    """Have ``look`` called with every observation as the environments hand it out; who asks last is called.

    Native batches hand out arrays that nobody has changed. Gymnasium's ``AsyncVectorEnv`` copies observations in
    processes of its own, where nobody can look: a key too many goes unseen there.

    Args:
        env: the vector environment, wrapped or not.
        look: what looks.

    Returns:
        Whether the dtypes of the observations are the environments' own, which nobody has cast to those of the space.
    """
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    look_here = partial(look, env.observation_space)
    if isinstance(env, DummyVecEnv):
        look_before_saving(env, partial(_saved, env, look_here))
    elif isinstance(env, SupervisedVecEnv):
        env.look = partial(_answered, look_here)
    elif isinstance(env, SubprocVecEnv):
        look_before_stacking(env, partial(_answered, look_here))
    elif isinstance(env, VectorEnvAdapter) and isinstance(copies := env.env.unwrapped, SyncVectorEnv):
        copies.envs = [
            _LookedAt(copy.env if isinstance(copy, _LookedAt) else copy, i, look_here)
            for i, copy in enumerate(copies.envs)
        ]
    return isinstance(env, SubprocVecEnv)


def _saved(env: DummyVecEnv, look: partial[None], index: int, obs: Any) -> None:
    _answered(look, index, obs, env.buf_infos[index] if env.buf_dones[index] else {})


def _answered(look: partial[None], index: int, obs: Any, info: Mapping[str, Any]) -> None:
    last = [info["terminal_observation"]] if "terminal_observation" in info else []
    look(index, obs, *last)


class _LookedAt(gym.Wrapper):
    """One copy of a ``SyncVectorEnv``, whose observations are looked at."""

    def __init__(self, env: gym.Env, index: int, look: partial[None]) -> None:
        super().__init__(env)
        self._look = partial(look, index)

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        """Reset and look."""
        obs, info = self.env.reset(**given)
        self._look(obs)
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step and look."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._look(obs)
        return obs, reward, terminated, truncated, info
