"""Every private name of Stable-Baselines3 that attn_rl uses from outside of SB3's classes, in one place.

Our subclasses of SB3's classes use what they inherit (``self._last_obs`` in an algorithm) directly; everybody else asks
here. ``tests/test_compat.py`` checks all of these names against the installed version and says what needs each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from stable_baselines3.common.vec_env.subproc_vec_env import _stack_obs, _worker
from torch import Tensor

COUNTERS = ("num_timesteps", "_total_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
"""Attributes of an algorithm that count how far it is."""

ENVIRONMENT_BOUND = (
    *("observation_space", "action_space", "n_envs"),
    *("_last_obs", "_last_episode_starts", "_last_original_obs"),
)
"""Attributes of an algorithm that belong to its environment and cannot move to another one."""

CALLED_BY_PREDICT: dict[str, Callable[..., Any]] = {
    "_predict": ActorCriticPolicy._predict,
    "get_distribution": ActorCriticPolicy.get_distribution,
    "obs_to_tensor": BasePolicy.obs_to_tensor,
    "set_training_mode": BasePolicy.set_training_mode,
    "train": BasePolicy.train,
}
"""What ``predict`` of a policy calls on the policy itself, unless somebody has replaced it."""

run_worker = _worker
"""What a process of ``SubprocVecEnv`` runs: (its end of the pipe, the parent's end, the pickled function)."""


def stack_observations(observations: list[Any], space: spaces.Space[Any]) -> VecEnvObs:
    """Stack one observation per environment, as ``SubprocVecEnv`` does."""
    return _stack_obs(observations, space)


def forget_seeds(env: VecEnv) -> None:
    """Take back a seed that was set for the next reset."""
    env._reset_seeds()


def seed_each(env: VecEnv, seeds: list[int]) -> None:
    """Give every environment a seed of its own for the next reset; ``env.seed`` knows only successive ones."""
    env._seeds = list(seeds)


def look_before_saving(env: DummyVecEnv, look: Callable[[int, Any], None]) -> None:
    """Show each observation before the environment casts and broadcasts it into its own arrays.

    Args:
        env: to change; a second call replaces the first.
        look: is given the index of the environment and the observation; what it raises stops the step.
    """
    env._save_obs = partial(_look_and_save, env, look)  # type: ignore[method-assign]


def _look_and_save(env: DummyVecEnv, look: Callable[[int, Any], None], index: int, observation: VecEnvObs) -> None:
    look(index, observation)
    type(env)._save_obs(env, index, observation)


def look_before_stacking(env: SubprocVecEnv, look: Callable[[int, Any, dict[str, Any]], None]) -> None:
    """Show what each process answered to ``reset`` or ``step``, once all have answered and before it is stacked.

    Args:
        env: to change; a second call replaces the first.
        look: is given the index of the environment, its observation and its info (empty after ``reset``); what it
            raises stops the step.
    """
    env.remotes = tuple(_Kept(remote.pipe if isinstance(remote, _Kept) else remote) for remote in env.remotes)
    for method in ("reset", "step_wait"):
        setattr(env, method, partial(_look_and_stack, env, method, look))


class _Kept:
    """A process's pipe that keeps its last answer to ``reset`` or ``step``."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.asked = pipe, ""
        self.answer: tuple[Any, dict[str, Any]] | None = None

    def send(self, message: tuple[str, Any]) -> None:
        self.asked = message[0]
        self.pipe.send(message)

    def recv(self) -> Any:
        answer = self.pipe.recv()
        if self.asked in ("reset", "step"):
            self.answer = (answer[0], answer[3] if self.asked == "step" else {})
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipe, name)


def _look_and_stack(env: SubprocVecEnv, method: str, look: Callable[[int, Any, dict[str, Any]], None]) -> Any:
    kept: Any = env.remotes
    for remote in kept:
        remote.answer = None
    try:
        return getattr(type(env), method)(env)
    finally:  # its own error, of arrays that cannot be stacked, says less
        for index, remote in enumerate(kept):
            if remote.answer is not None:
                look(index, *remote.answer)


def set_up(agent: BaseAlgorithm) -> None:
    """Build the networks of an algorithm that was made with ``_init_setup_model=False``."""
    agent._setup_model()


def unsaved_names(agent: BaseAlgorithm) -> set[str]:
    """Return the names of the attributes that ``agent.save`` leaves out."""
    return set(agent._excluded_save_params())


def total_timesteps(agent: BaseAlgorithm) -> int:
    """Return how many steps the running ``learn`` aims at; 0 before the first."""
    return agent._total_timesteps


def aim_at(agent: BaseAlgorithm, total_timesteps: int) -> None:
    """Set how many steps the training aims at, of an agent that another loop trains."""
    agent._total_timesteps = total_timesteps


def progress_remaining(agent: BaseAlgorithm) -> float:
    """Return which share of ``learn`` is left, 1 to 0: what schedules are asked with."""
    return agent._current_progress_remaining


def statistics_window(agent: BaseAlgorithm) -> int:
    """Return over how many episodes reward and length are averaged."""
    return agent._stats_window_size


def last_observation(agent: BaseAlgorithm) -> np.ndarray | dict[str, np.ndarray]:
    """Return the observation that the next action will be chosen for.

    Raises:
        ValueError: before the first reset.
    """
    if agent._last_obs is None or isinstance(agent._last_obs, tuple):
        raise ValueError(f"{type(agent).__name__} has no last observation; call learn() once")
    return agent._last_obs


def last_episode_starts(agent: BaseAlgorithm) -> np.ndarray:
    """Return which environments begin an episode with the last observation: (n_envs,) bool.

    Raises:
        ValueError: before the first reset.
    """
    if agent._last_episode_starts is None:
        raise ValueError(f"{type(agent).__name__} has no running episodes; call learn() once")
    return agent._last_episode_starts


def go_on_from(agent: OnPolicyAlgorithm, observation: VecEnvObs, episode_starts: np.ndarray) -> None:
    """Make the next rollout begin at this observation.

    Args:
        agent: to set.
        observation: of all environments.
        episode_starts: which of them begin an episode with it: (n_envs,) bool.

    Raises:
        ValueError: a tuple of arrays, which no algorithm of SB3 takes.
    """
    if isinstance(observation, tuple):
        raise ValueError(f"got a tuple of {len(observation)} arrays; expected one array, or a dict of arrays")
    agent._last_obs = observation
    agent._last_episode_starts = episode_starts


def action_distribution(policy: ActorCriticPolicy, latent: Tensor) -> Distribution:
    """Return the distribution of actions after the policy's part of the network: latent (B, latent_dim_pi)."""
    return policy._get_action_dist_from_latent(latent)
