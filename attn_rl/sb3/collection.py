"""Rollouts as Stable-Baselines3's PPO plays them, with less around every step."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from attn_rl.sb3.past_buffer import PastBuffer
from attn_rl.sb3.reward_scale import RewardScale, no_statistics
from attn_rl.sb3.shared_baseline import play_the_same, share_baseline
from attn_rl.vec_envs.memory import find_memory, memory_of


class LeanRollouts(OnPolicyAlgorithm):
    """Mixin over an on-policy algorithm of SB3: the same rollouts from the same draws.

    All episodes that ran out of time in a step are valued in one pass, where SB3 takes one pass each; transitions are
    copied once, and advantages are computed without SB3's operations per step. This is
    ``OnPolicyAlgorithm.collect_rollouts`` of Stable-Baselines3 2.9.2 otherwise; compare it at every release.

    Args:
        args, kwargs: as the algorithm's.
        normalize_reward: learn from rewards divided by the running spread of discounted returns, see
            :class:`attn_rl.sb3.reward_scale.RewardScale`. The critic's values are in this unit, too; episode returns in
            the log are not. The scale is saved with the model.
        shared_baseline: so many environments in a row play the same games, and their advantages are taken against each
            other's, see :mod:`attn_rl.sb3.shared_baseline`; 1: every environment for itself.

    Raises:
        ValueError: ``normalize_reward`` or ``shared_baseline`` with ``use_sde``, whose rollouts SB3 collects itself; a
            number of environments that ``shared_baseline`` does not divide, once it learns.
    """

    memory: dict[str, Any] | None = None
    """What the environment remembers, see :class:`attn_rl.vec_envs.memory.VecMemory`; saved with the model."""
    normalize_reward: bool
    return_statistics: dict[str, float]
    _reward_scale: RewardScale | None = None
    shared_baseline: int = 1

    def __init__(self, *args: Any, normalize_reward: bool = False, shared_baseline: int = 1, **kwargs: Any) -> None:
        self.normalize_reward, self.return_statistics = normalize_reward, no_statistics()
        self.shared_baseline = shared_baseline
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        if (remembered := memory_of(self.env)) is not None:
            self.memory = remembered.as_dict()
        self._store_past_once()
        if self.normalize_reward and self.use_sde:
            raise ValueError(
                "normalize_reward=True and use_sde=True: SB3 collects such rollouts itself, with rewards as they are; "
                "leave one, or wrap the environment in VecNormalize(norm_obs=False)"
            )
        if self.shared_baseline > 1 and self.use_sde:
            raise ValueError(
                f"shared_baseline={self.shared_baseline} and use_sde=True: SB3 collects such rollouts itself; leave one"
            )
        if self.normalize_reward:
            self.return_statistics = dict(self.return_statistics)  # an agent adapted from another counts for itself
            self._reward_scale = RewardScale(self.n_envs, self.gamma, self.return_statistics)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        if self.n_envs % self.shared_baseline:  # which only learning minds
            raise ValueError(
                f"shared_baseline={self.shared_baseline} does not divide n_envs={self.n_envs}: so many environments in "
                "a row play the same games"
            )
        prepared = super()._setup_learn(*args, **kwargs)
        if self.shared_baseline > 1 and self.env is not None and np.all(self._last_episode_starts):  # not in the middle
            self._last_obs = play_the_same(self.env, self._last_obs, self.shared_baseline, self.seed)
        return prepared

    def _store_past_once(self) -> None:
        """Put a buffer without copies of past steps in the place of SB3's own, where a memory brings some."""
        memory, own = find_memory(self.env), self.rollout_buffer
        if memory is None or not memory.options.steps or type(own) is not DictRolloutBuffer:
            return
        spaces_and_size = own.buffer_size, self.observation_space, self.action_space
        rates = {"gamma": own.gamma, "gae_lambda": own.gae_lambda, "n_envs": own.n_envs}
        self.rollout_buffer = PastBuffer(memory, *spaces_and_size, device=self.device, **rates)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_reward_scale"]

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Collect ``n_rollout_steps`` in every environment; False where the callback ended the training.

        Callbacks find the same names in ``locals``.
        """
        if self.use_sde:  # its noise is renewed inside SB3's loop
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        if not self._collect(env, callback, rollout_buffer, n_rollout_steps):
            return False
        with torch.no_grad():
            values = self.policy.predict_values(obs_as_tensor(self._last_obs, self.device))  # type: ignore[arg-type]
        dones: Any = self._last_episode_starts
        if is_stock(rollout_buffer):
            compute_returns_and_advantage(rollout_buffer, values.cpu().numpy().flatten(), dones)
        else:
            rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        if self.shared_baseline > 1:
            starts = np.concatenate([rollout_buffer.episode_starts, np.asarray(dones)[None]])
            rollout_buffer.advantages = share_baseline(rollout_buffer.advantages, starts, self.shared_baseline)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _collect(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """The steps of :meth:`collect_rollouts`."""
        add: Any = partial(add_transition, rollout_buffer) if is_stock(rollout_buffer) else rollout_buffer.add
        for n_steps in range(n_rollout_steps):  # noqa: B007 (callbacks may ask for it)
            obs_tensor = self._tensors(self._last_obs)
            with torch.no_grad():
                actions, values, log_probs = self.policy(obs_tensor)
            actions = actions.cpu().numpy()
            clipped_actions = self._within_bounds(actions)
            new_obs, rewards, dones, infos = env.step(clipped_actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            if self._reward_scale is not None:
                rewards = self._reward_scale(rewards, dones)
            if isinstance(self.action_space, spaces.Discrete):
                actions = actions.reshape(-1, 1)
            if dones.any():
                rewards = self._add_terminal_values(rewards, dones, infos)
            episode_starts = self._last_episode_starts
            add(self._last_obs, actions, rewards, episode_starts, values, log_probs)
            self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
        return True

    def _tensors(self, observation: Any) -> Any:
        """As ``obs_as_tensor``: what lies on the CPU already is not asked where it should be."""
        if self.device.type != "cpu":
            return obs_as_tensor(observation, self.device)
        if isinstance(observation, dict):
            return {
                key: torch.from_numpy(block) if isinstance(block, np.ndarray) else torch.as_tensor(block)
                for key, block in observation.items()
            }
        return torch.from_numpy(observation)

    def _within_bounds(self, actions: np.ndarray) -> np.ndarray:
        """What the environments take: continuous actions within their bounds."""
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if self.policy.squash_output:
            return self.policy.unscale_action(actions)
        clipped: np.ndarray = np.clip(actions, self.action_space.low, self.action_space.high)
        return clipped

    def _add_terminal_values(self, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]) -> np.ndarray:
        """Bootstrap episodes that ran out of time with the value of their last state (SB3's issue #633)."""
        late = [i for i in np.flatnonzero(dones) if infos[i].get("TimeLimit.truncated")]
        late = [i for i in late if infos[i].get("terminal_observation") is not None]
        if late:
            stacked = self._stacked([infos[i]["terminal_observation"] for i in late])
            with torch.no_grad():
                values = self.policy.predict_values(obs_as_tensor(stacked, self.device))
            if not np.issubdtype(rewards.dtype, np.floating):  # nothing of a value would be left in whole numbers
                rewards = rewards.astype(np.float32)
            rewards[late] += self.gamma * values.flatten().cpu().numpy()
        return rewards

    def _stacked(self, observations: list[Any]) -> Any:
        """A batch of single observations, each in its space's shape."""
        shape: Any = self.observation_space.shape
        if isinstance(self.observation_space, spaces.Dict):
            blocks: Any = self.observation_space.spaces
            return {key: np.stack([np.reshape(x[key], blocks[key].shape) for x in observations]) for key in blocks}
        return np.stack([np.reshape(x, shape) for x in observations])


def is_stock(buffer: RolloutBuffer) -> bool:
    """Whether ``buffer`` is one of Stable-Baselines3's own, with no method replaced."""
    replaced = {"add", "compute_returns_and_advantage"} & vars(buffer).keys()
    return type(buffer) in (RolloutBuffer, DictRolloutBuffer, PastBuffer) and not replaced


def add_transition(
    buffer: RolloutBuffer,
    observation: Any,
    actions: np.ndarray,
    rewards: np.ndarray,
    episode_starts: np.ndarray,
    values: Tensor,
    log_probs: Tensor,
) -> None:
    """``buffer.add`` of a step of B environments, each number copied once."""
    at = buffer.pos
    if isinstance(buffer, PastBuffer):
        buffer.keep_past(observation)
    if isinstance(buffer, DictRolloutBuffer):
        for key, block in buffer.observations.items():
            block[at] = observation[key].reshape(block[at].shape)
    else:
        buffer.observations[at] = observation.reshape(buffer.observations[at].shape)
    buffer.actions[at] = actions.reshape(buffer.n_envs, buffer.action_dim)
    buffer.rewards[at], buffer.episode_starts[at] = rewards, episode_starts
    buffer.values[at], buffer.log_probs[at] = values.cpu().numpy().flatten(), log_probs.cpu().numpy()
    buffer.pos += 1
    buffer.full = buffer.pos == buffer.buffer_size


def compute_returns_and_advantage(buffer: RolloutBuffer, last_values: np.ndarray, dones: np.ndarray) -> None:
    """``buffer.compute_returns_and_advantage``, bit for bit: only the sum over time is left in the loop.

    Args:
        buffer: a full rollout of B environments.
        last_values: of what follows its last step (B,).
        dones: whether episodes ended there (B,).
    """
    goes_on = 1.0 - np.concatenate([buffer.episode_starts[1:], dones[None].astype(np.float32)])
    next_values = np.concatenate([buffer.values[1:], last_values[None]])
    surprise = buffer.rewards + buffer.gamma * next_values * goes_on - buffer.values
    weight, advantage = buffer.gamma * buffer.gae_lambda * goes_on, np.zeros_like(last_values)
    for step in reversed(range(buffer.buffer_size)):
        buffer.advantages[step] = advantage = surprise[step] + weight[step] * advantage
    buffer.returns = buffer.advantages + buffer.values
