r"""How old a memory is, as features that make both "exactly k steps ago" and "long ago" easy to read.

One number that grows with the age is hard to read exactly: to look 16 steps back and not 15 takes large weights. So an
age a is shown as

.. math:: \log(1 + a),\quad \cos(2\pi a / p),\ \sin(2\pi a / p)\quad\text{for } p = 2, 4, 8, \ldots

the positions of transformers (Vaswani et al. 2017, section 3.5) with periods that are whole numbers of steps: short
ones tell neighbours apart, the longest says roughly when, and a linear layer shifts one age to another. The logarithm
hardly leaves the range of training where episodes get three times as long.
"""

from __future__ import annotations

import numpy as np

FIRST_NAME = "log_age"
"""Name of the first column, the logarithm of the age + 1."""
MOST_AGE = 4095
"""Steps; what is older counts as this old."""
LONGEST_EXACT = 64
"""Longest period: sightings that are older than that are told apart by their logarithm alone."""


def age_names(most: int) -> tuple[str, ...]:
    """Names of the columns for ages up to ``most``."""
    waves = (f"age_{wave}_{period}" for period in _periods(most) for wave in ("cos", "sin"))
    return (FIRST_NAME, *(name for name in waves if name != "age_sin_2"))  # which is zero at whole steps


def age_columns(age: np.ndarray, most: int) -> np.ndarray:
    """Ages (...) in steps, 0 to :data:`MOST_AGE`, as features (..., A) float32."""
    angle = 2 * np.pi * age[..., None] / np.array(_periods(most))
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(*age.shape, -1)
    return np.concatenate([np.log1p(age)[..., None], waves[..., :1], waves[..., 2:]], axis=-1, dtype=np.float32)


def age_bounds(most: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (A,) of the columns."""
    low, high = -np.ones(len(age_names(most)), np.float32), np.ones(len(age_names(most)), np.float32)
    low[0], high[0] = 0.0, np.float32(np.log1p(MOST_AGE))
    return low, high


def _periods(most: int) -> list[int]:
    """2, 4, 8, ... to the first beyond ``most``, or to :data:`LONGEST_EXACT` if that is shorter."""
    periods = [2]
    while periods[-1] <= min(most, LONGEST_EXACT - 1):
        periods.append(2 * periods[-1])
    return periods
