"""One scale for rewards of any size: the running standard deviation of discounted returns."""

from __future__ import annotations

from math import sqrt

import numpy as np

LIMIT = 10.0
"""Scaled rewards are clipped to this size, as in Stable-Baselines3's ``VecNormalize``."""
FIELDS = ("count", "mean", "variance")


class RewardScale:
    """Divides rewards by the running standard deviation of discounted returns, so that their unit does not matter.

    As ``VecNormalize(norm_reward=True)`` of Stable-Baselines3 (Engstrom et al. 2020, "Implementation matters in deep
    policy gradients"): each environment's rewards are summed, discounted, since its episode began, and the spread of
    these sums over all steps so far is the scale. Advantages then have a size of their own, small while nothing is
    rewarded, where PPO's usual scaling of every minibatch to unit variance blows noise up. Unlike there, the scale
    is at least a tenth of the mean return's size, since rewards that never differ have no spread, and 1 before the
    first reward.

    Args:
        n_envs: environments side by side.
        gamma: discount factor.
        statistics: ``count``, ``mean`` and ``variance`` of the sums so far, which this object goes on counting in.
    """

    def __init__(self, n_envs: int, gamma: float, statistics: dict[str, float]) -> None:
        self.gamma, self.statistics = gamma, statistics
        self.returns = np.zeros(n_envs)
        """Discounted sum of each environment's rewards in its running episode (n_envs,)."""

    @property
    def scale(self) -> float:
        """What rewards are divided by."""
        return sqrt(max(self.statistics["variance"], (0.1 * self.statistics["mean"]) ** 2)) or 1.0

    def __call__(self, rewards: np.ndarray, dones: np.ndarray) -> np.ndarray:
        """Count a step's rewards (n_envs,), and whether it ended episodes; return them scaled, float32."""
        rewards = rewards.astype(np.float32)  # as SB3's buffers hold them, whatever the environments return
        self.returns *= self.gamma
        self.returns += rewards
        self._count(self.returns)
        self.returns[dones] = 0.0
        scaled: np.ndarray = np.minimum(np.maximum(rewards / self.scale, -LIMIT), LIMIT)
        return scaled

    def _count(self, values: np.ndarray) -> None:
        """Merge mean and variance with those of ``values`` (Chan et al. 1979)."""
        statistics, n = self.statistics, len(values)
        their_mean = float(np.add.reduce(values)) / n
        centred = values - their_mean
        apart = their_mean - statistics["mean"]
        statistics["count"] += n
        share = n / statistics["count"]
        statistics["mean"] += share * apart
        their_variance = float(centred @ centred) / n
        statistics["variance"] += share * (their_variance - statistics["variance"] + (1 - share) * apart**2)


def no_statistics() -> dict[str, float]:
    """Those of before the first step."""
    return dict.fromkeys(FIELDS, 0.0)
