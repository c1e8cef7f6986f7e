"""Statistics over few seeds, beside :mod:`attn_rl.training.intervals`: probability of improvement, profiles, bands.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice". Scores come as one array
of seeds for each environment (a stratum): a bootstrap draw resamples the seeds of each environment by themselves, so
that no draw lacks an environment.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attn_rl.training.intervals import Strata, interquartile_mean, interval, percentiles, resampled

__all__ = ["interquartile_mean", "interval", "percentiles", "resampled"]


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Share of pairs in which ours is better; ties count half (Mann & Whitney): (..., R), (..., S) -> (...)."""
    difference = ours[..., :, None] - theirs[..., None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean((-2, -1))


def improvement(ours: Strata, theirs: Strata, seed: int = 0) -> tuple[float, float, float]:
    """Probability of improvement, averaged over environments, and its 95% interval."""
    random = np.random.default_rng(seed)
    pairs = list(zip(resampled(ours, random), resampled(theirs, random), strict=True))
    low, high = percentiles(np.mean([probability_of_improvement(*pair) for pair in pairs], axis=0))
    middle = np.mean([probability_of_improvement(*pair) for pair in zip(ours, theirs, strict=True)])
    return float(middle), float(low), float(high)


def performance_profile(strata: Strata, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs with a score above each threshold: (T,)."""
    return (np.concatenate(strata)[:, None] > thresholds).mean(0)


def profile_band(strata: Strata, thresholds: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise 95% band of :func:`performance_profile`: (T,), (T,)."""
    draws = np.concatenate(resampled(strata, np.random.default_rng(seed), 1000), axis=-1)
    return percentiles(np.stack([(draws > threshold).mean(-1) for threshold in thresholds], axis=-1))


def band(
    series: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray] = interquartile_mean, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A statistic of the runs at each point and its pointwise 95% band: (R,T) -> (T,), (T,), (T,)."""
    runs = np.random.default_rng(seed).integers(len(series), size=(500, len(series)))
    draws = np.stack([statistic(np.moveaxis(series[run], 0, -1)) for run in runs])
    return statistic(np.moveaxis(series, 0, -1)), *percentiles(draws)
