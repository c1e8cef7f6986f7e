"""A synthetic crowd for speed measurements: observations cost next to nothing, so that the policy is what is timed.

An observation is a Box (N,F): a random number of entities in random slots, their last column a presence flag. The same
numbers are served one by one (:class:`Crowd`, a Gymnasium environment) and as a batch (:class:`CrowdVecEnv`).
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

N_ACTIONS = 9
EPISODE = 24
POOL = 1024


def crowd(n_slots: int, n_features: int, presence: float, seed: int) -> np.ndarray:
    """Draw ``POOL`` observations (POOL,N,F) whose number of entities is uniform around ``presence`` x N."""
    random = np.random.default_rng(seed)
    spread = min(presence, 1 - presence) / 2
    counts = np.rint(n_slots * random.uniform(presence - spread, presence + spread, POOL)).clip(1, n_slots)
    there = random.random((POOL, n_slots)).argsort(1) < counts[:, None]
    x = random.standard_normal((POOL, n_slots, n_features)).astype(np.float32)
    x[..., -1] = 1.0
    return x * there[..., None]


def observation_space(n_slots: int, n_features: int) -> spaces.Box:
    """The space of the observations of :func:`crowd`."""
    return spaces.Box(-np.inf, np.inf, (n_slots, n_features), np.float32)


class Crowd(gym.Env):
    """One environment: ``EPISODE`` steps, reward 1 for action 0, next observation from the pool."""

    def __init__(self, n_slots: int, n_features: int, presence: float, seed: int) -> None:
        self.observation_space = observation_space(n_slots, n_features)
        self.action_space = spaces.Discrete(N_ACTIONS)
        self.pool, self.at, self.steps = crowd(n_slots, n_features, presence, seed), 0, 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode."""
        self.steps = 0
        return self._next(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Play one step."""
        self.steps += 1
        return self._next(), float(action == 0), self.steps == EPISODE, False, {}

    def _next(self) -> np.ndarray:
        self.at = (self.at + 1) % POOL
        return self.pool[self.at]


class CrowdVecEnv(VecEnv):
    """The same for ``num_envs`` environments at once."""

    def __init__(self, num_envs: int, n_slots: int, n_features: int, presence: float, seed: int) -> None:
        super().__init__(num_envs, observation_space(n_slots, n_features), spaces.Discrete(N_ACTIONS))
        self.pool = crowd(n_slots, n_features, presence, seed)
        self.at = np.arange(num_envs)
        self.steps = np.arange(num_envs) % EPISODE

    def reset(self) -> np.ndarray:
        """Begin an episode everywhere."""
        return self._next()

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions."""
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict]]:
        """Play one step everywhere."""
        self.steps += 1
        dones = self.steps == EPISODE
        self.steps[dones] = 0
        infos: list[dict] = [{} for _ in range(self.num_envs)]
        obs = self._next()
        for i in np.flatnonzero(dones):
            infos[i]["terminal_observation"] = obs[i]
        return obs, (self.actions == 0).astype(np.float32), dones, infos

    def _next(self) -> np.ndarray:
        self.at = (self.at + 1) % POOL
        return self.pool[self.at]

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name, indices=None):
        """One value per environment."""
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name, value, indices=None) -> None:
        """Unused."""

    def env_method(self, method_name, *args, indices=None, **kwargs):
        """Unused."""
        raise NotImplementedError(method_name)

    def env_is_wrapped(self, wrapper_class, indices=None) -> list[bool]:
        """No wrappers."""
        return [False] * self.num_envs


def one_by_one(num_envs: int, *shape) -> DummyVecEnv:
    """``num_envs`` single environments in SB3's DummyVecEnv."""
    return DummyVecEnv([lambda i=i: Crowd(*shape, seed=i) for i in range(num_envs)])


def batched(num_envs: int, *shape) -> CrowdVecEnv:
    """``num_envs`` environments in one array program."""
    return CrowdVecEnv(num_envs, *shape, seed=0)
