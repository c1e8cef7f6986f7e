"""One scale for rewards of any size, at any time: the spread of the returns that values are to predict."""

from __future__ import annotations

from math import sqrt

import numpy as np

LIMIT = 10.0
"""Scaled rewards are clipped to this size, as in Stable-Baselines3's ``VecNormalize``."""
FIELDS = ("count", "sum", "squares")
"""Of the returns so far: how many, what they add up to, and what their squares do."""
TRACES = ("weight", "square_weight", "return_sum")


class RewardScale:
    """Divides rewards by the standard deviation, over all states so far, of the discounted return from there on.

    Values then spread by 1 whatever the unit of the rewards. Advantages have a size of their own, small while nothing
    is rewarded, where PPO's usual scaling of every minibatch to unit variance blows noise up. The scale is at least a
    tenth of the mean return's size, since rewards that never differ have no spread, and 1 before the first reward.

    ``VecNormalize(norm_reward=True)`` of Stable-Baselines3 (Engstrom et al. 2020, "Implementation matters in deep
    policy gradients") takes the spread of what was rewarded *before* a state instead. The two agree where rewards are
    dense. Where an episode is paid at its end, all states but the last have 0 behind them and the whole return ahead:
    by that scale, returns are several times too large.

    Returns need no waiting for the end of an episode. A reward r in its state k adds ``gamma^(k-t) r`` to the return
    ``G_t`` of every state t up to there, so to the sum of all returns it adds ``r u`` and to the sum of their squares
    ``r (2 c + r w)``, where ``u = sum_t gamma^(k-t)``, ``w = sum_t gamma^(2(k-t))`` and ``c = sum_t gamma^(k-t) G_t``.

    Args:
        n_envs: environments side by side.
        gamma: discount factor.
        statistics: :data:`FIELDS` so far, which this object goes on counting in.
    """

    def __init__(self, n_envs: int, gamma: float, statistics: dict[str, float]) -> None:
        self.gamma, self.statistics = gamma, statistics
        self.traces = np.zeros((len(TRACES), n_envs))
        """``u``, ``w`` and ``c`` of each environment's running episode (3,n_envs)."""

    @property
    def scale(self) -> float:
        """What rewards are divided by."""
        count, total, squares = (self.statistics[name] for name in FIELDS)
        mean = total / max(count, 1.0)
        return sqrt(max(squares / max(count, 1.0) - mean**2, (0.1 * mean) ** 2)) or 1.0

    def __call__(self, rewards: np.ndarray, dones: np.ndarray) -> np.ndarray:
        """Count a step's rewards (n_envs,), and whether it ended episodes; return them scaled, float32."""
        rewards = rewards.astype(np.float32)  # as SB3's buffers hold them, whatever the environments return
        self.count(rewards.astype(np.float64))
        self.traces[:, dones] = 0.0
        scaled: np.ndarray = np.minimum(np.maximum(rewards / self.scale, -LIMIT), LIMIT)
        return scaled

    def count(self, rewards: np.ndarray) -> None:
        """Count a step's rewards, float64, of all environments or of the first (n,)."""
        weight, square_weight, return_sum = self.traces[:, : len(rewards)]
        weight *= self.gamma
        weight += 1.0
        square_weight *= self.gamma**2
        square_weight += 1.0
        statistics, weighted = self.statistics, rewards * square_weight
        statistics["count"] += len(rewards)
        statistics["sum"] += float(rewards @ weight)
        statistics["squares"] += float(rewards @ (2.0 * return_sum + weighted))
        return_sum += weighted
        return_sum *= self.gamma


def no_statistics() -> dict[str, float]:
    """Those of before the first step."""
    return dict.fromkeys(FIELDS, 0.0)
