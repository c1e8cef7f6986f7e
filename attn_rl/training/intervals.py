"""Statistics over few seeds: interquartile means and their bootstrap intervals.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice". Scores come as one array
of seeds for each environment (a stratum): a bootstrap draw resamples the seeds of each environment by themselves, so
that no draw lacks an environment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_BOOTSTRAP = 5000
LEVEL = 95

Scores = NDArray[np.floating]
Strata = Sequence[Scores]


def interquartile_mean(scores: Scores) -> Scores:
    """Mean of the middle half along the last axis; a quarter is cut from either end: (..., R) -> (...)."""
    ordered = np.sort(scores, axis=-1)
    cut = int(0.25 * ordered.shape[-1])
    middle: Scores = ordered[..., cut : ordered.shape[-1] - cut].mean(-1)
    return middle


def resampled(strata: Strata, random: np.random.Generator, draws: int = N_BOOTSTRAP) -> list[Scores]:
    """Bootstrap draws of every stratum: (R_s,) each -> (draws, R_s) each."""
    return [stratum[random.integers(len(stratum), size=(draws, len(stratum)))] for stratum in strata]


def percentiles(draws: Scores) -> tuple[Scores, Scores]:
    """Lower and upper end of the 95% interval along the first axis: (draws, ...) -> (...), (...)."""
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return low, high


def interval(strata: Strata, seed: int = 0) -> tuple[float, float]:
    """95% interval of the interquartile mean over the seeds of all environments."""
    draws = np.concatenate(resampled(strata, np.random.default_rng(seed)), axis=-1)
    low, high = percentiles(interquartile_mean(draws))
    return float(low), float(high)
