"""Advantages on the learner, as ``EntityPPO`` has them, and the statistics that move once per train batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets
from torch import Tensor

from attn_rl.ray.module import EntityRLModule
from attn_rl.sb3.reward_scale import FIELDS, LIMIT, RewardScale


class EntityAdvantages(ConnectorV2):  # type: ignore[misc]
    """Takes the place of RLlib's ``GeneralAdvantageEstimation``, last in the learner's pipeline.

    Three things differ. The normalisers see every observation of the train batch, once. Rewards are scaled by the
    running spread of discounted returns where the settings say ``normalize_reward``. Advantages are brought to unit
    variance only where they say ``normalize_advantage``, which RLlib does always.

    Args:
        gamma: discount factor.
        gae_lambda: bias-variance trade-off of the advantages.
        normalize_advantage, normalize_reward: see :class:`attn_rl.training.presets.Settings`.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        gamma: float,
        gae_lambda: float,
        normalize_advantage: bool,
        normalize_reward: bool,
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self.gamma, self.gae_lambda = gamma, gae_lambda
        self.normalize_advantage, self.normalize_reward = normalize_advantage, normalize_reward
        self._traces: dict[str, dict[str, np.ndarray]] = {}  # of the episodes in the last train batch, by module

    def __call__(self, *, rl_module: Any, episodes: Any, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add advantages and value targets to the columns of each module."""
        chunks = list(self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False))
        for module_id, columns in batch.items():
            own = [chunk for chunk in chunks if chunk.module_id in (None, module_id)]
            self._add(rl_module[module_id].unwrapped(), module_id, own, columns)
        return batch

    def _add(self, module: EntityRLModule, module_id: str, chunks: list[Any], columns: dict[str, Any]) -> None:
        real = columns[Columns.LOSS_MASK]  # RLlib adds a step to each chunk, for the value of what comes after
        with torch.no_grad():
            values = module.compute_values(columns)
        module.collect(_rows(columns[Columns.OBS], real))
        steps = real.sum()
        add_over_learners([*module.collected, steps])
        module.num_timesteps += steps
        rewards = columns[Columns.REWARDS].cpu().numpy().astype(np.float64)
        if self.normalize_reward:
            rewards = self._scaled(module, module_id, chunks, rewards)
        predicted = values.cpu().numpy()
        flags = (columns[name].cpu().numpy() for name in (Columns.TERMINATEDS, Columns.TRUNCATEDS))
        targets = compute_value_targets(predicted, rewards, *flags, self.gamma, self.gae_lambda)
        advantages = targets - predicted
        if self.normalize_advantage:
            kept = advantages[real.cpu().numpy()]
            advantages = (advantages - kept.mean()) / (kept.std() + 1e-8)
        for name, found in ((Postprocessing.ADVANTAGES, advantages), (Postprocessing.VALUE_TARGETS, targets)):
            columns[name] = torch.as_tensor(found, dtype=torch.float32, device=values.device)

    def _scaled(self, module: EntityRLModule, module_id: str, chunks: list[Any], rewards: np.ndarray) -> np.ndarray:
        """Count the rewards of a train batch, then divide them by the scale."""
        own = _by_episode(chunks, rewards)
        known = dict(zip(FIELDS, module.reward_statistics.tolist(), strict=True))
        scale = RewardScale(len(own), self.gamma, dict(known))
        before = self._traces.get(module_id, {})
        for i, (episode, _) in enumerate(own):
            scale.traces[:, i] = before.get(episode, 0.0)
        for t in range(max((len(brought) for _, brought in own), default=0)):
            scale.count(np.array([brought[t] for _, brought in own if len(brought) > t]))
        self._traces[module_id] = {episode: scale.traces[:, i].copy() for i, (episode, _) in enumerate(own)}
        added = torch.tensor([scale.statistics[name] - known[name] for name in FIELDS], dtype=torch.float64)
        add_over_learners([added])
        module.reward_statistics += added.to(module.reward_statistics.device)
        scale.statistics.update(zip(FIELDS, module.reward_statistics.tolist(), strict=True))
        return np.clip(rewards / scale.scale, -LIMIT, LIMIT)


def add_over_learners(sums: Sequence[Tensor]) -> None:
    """Let every learner have the sums of all, in place; nothing to do for a single one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for each in sums:
            torch.distributed.all_reduce(each)


def _by_episode(chunks: list[Any], rewards: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """What each episode brought, by its id, the longest first; without the step that RLlib has added to each chunk."""
    found: dict[str, list[np.ndarray]] = {}
    start = 0
    for chunk in chunks:
        episode = chunk.id_.rpartition("_")[0]  # RLlib has put the chunk's number behind
        found.setdefault(episode, []).append(rewards[start : start + len(chunk) - 1])
        start += len(chunk)
    joined = [(episode, np.concatenate(parts)) for episode, parts in found.items()]
    return sorted(joined, key=lambda each: -len(each[1]))


def _rows(obs: Any, rows: Tensor) -> Any:
    """The given rows of observations, boolean (B,)."""
    return {key: block[rows] for key, block in obs.items()} if isinstance(obs, dict) else obs[rows]
