r"""Several rollouts of the same game, judged against each other.

Where games differ in what can be reached (a long job shop, a wide map), most of what a return says is how hard the game
was. Playing each game K times takes that out: an action counts as good if it did better than the other rollouts of its
game did from the same step on,

.. math:: \hat A_k \leftarrow \frac{K}{K-1} \Big( \hat A_k - \frac{1}{K} \sum_j \hat A_j \Big)
          = \hat A_k - \frac{1}{K-1} \sum_{j \ne k} \hat A_j .

The others' advantages do not depend on what k does, so the gradient's expectation stays what it was. POMO (Kwon et al.
2020, equation 3) does this with returns and without a critic, starting every rollout in another city; here it is the
advantages, critic and all, so that rollouts may be cut anywhere, and nothing is asked of the actions.

Shapes: T steps, B environments, K in a row of them play the same games.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from attn_rl.sb3.compat import seed_each


def play_the_same(env: VecEnv, observation: Any, size: int, seed: int | None) -> Any:
    """Let every ``size`` environments in a row play the same games, from the first observation on, and return that.

    Args:
        env: environments that were just reset.
        observation: what they returned.
        size: K, how many play the same.
        seed: of the first environments, the next ones' follow; None: drawn.

    Raises:
        ValueError: environments whose games do not follow from their seeds.
    """
    if _same_in_groups(observation, size):
        return observation
    first = int(np.random.default_rng().integers(1 << 31)) if seed is None else seed
    seed_each(env.unwrapped, [first + i // size for i in range(env.num_envs)])
    observation = env.reset()
    if not _same_in_groups(observation, size):
        raise ValueError(
            f"shared_baseline={size}, but environments of one seed began different games; a game must follow from "
            "the seed alone: draw it from the generator that reset(seed=...) seeds"
        )
    return observation


def share_baseline(advantages: np.ndarray, episode_starts: np.ndarray, size: int) -> np.ndarray:
    """Return advantages (T,B) less the mean of the other rollouts of their game.

    Args:
        advantages: (T,B).
        episode_starts: which steps are the first of an episode (T,B).
        size: K.

    Raises:
        ValueError: rollouts of one game that do not go in step.
    """
    begins = _grouped(episode_starts, size)
    apart = (begins != begins[..., :1]).any(axis=(0, 2))
    if apart.any():
        raise ValueError(
            f"shared_baseline={size}, but environments {size * int(apart.argmax())} and the {size - 1} next ones began "
            "the same game and did not end it in the same step; rollouts are compared step by step, so an episode's "
            "length must not depend on the actions: pass shared_baseline=1"
        )
    grouped = _grouped(advantages, size)
    centred = (grouped - grouped.mean(axis=-1, keepdims=True)) * (size / (size - 1))
    shared: np.ndarray = centred.reshape(advantages.shape).astype(advantages.dtype)
    return shared


def _grouped(columns: np.ndarray, size: int) -> np.ndarray:
    """(T,B) -> (T,B/K,K)."""
    return columns.reshape(len(columns), -1, size)


def _same_in_groups(observation: Any, size: int) -> bool:
    blocks = observation.values() if isinstance(observation, Mapping) else [observation]
    grouped = (np.asarray(block).reshape(-1, size, *np.shape(block)[1:]) for block in blocks)
    return all(bool(np.array_equal(one, np.broadcast_to(one[:, :1], one.shape), equal_nan=True)) for one in grouped)
