"""Numbers about attention maps: pure functions of arrays, each with its formula and its source.

Shapes: S states, H heads, Q query rows, K columns (tokens), N slots, n present ones. Weights of absent columns are 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNUSED_BELOW = 0.01
"""Nats of ``uniform_kl`` below which a map plays no part in what the policy does."""


def entropy(weights: np.ndarray, present: np.ndarray) -> np.ndarray:
    r"""Normalised entropy of attention weights: 0 = all on one token, 1 = uniform.

    .. math:: -\sum_i w_i \log w_i \,/\, \log n

    Ghader & Monz 2017, section 5; divided by log n so that states with many and few entities compare. 0 for n < 2.

    Args:
        weights: (..., K), rows sum to 1.
        present: boolean, broadcastable to (..., K).

    Returns:
        (...)
    """
    logs = np.log(np.where(weights > 0, weights, 1.0))
    count = np.broadcast_to(present, weights.shape).sum(-1)
    normalised: np.ndarray = -(weights * logs).sum(-1) / np.log(np.maximum(count, 2))
    return normalised


def largest(weights: np.ndarray) -> np.ndarray:
    r"""Largest weight, :math:`\max_i w_i`: (..., K) -> (...)."""
    heaviest: np.ndarray = weights.max(-1, initial=0.0)
    return heaviest


def mass_on(weights: np.ndarray, slot: np.ndarray) -> np.ndarray:
    r"""Weight on one slot per state, :math:`w_{slot}`; NaN where the slot is -1 (unknown).

    Args:
        weights: (S,N) or (S,H,N).
        slot: (S,).

    Returns:
        (S,) or (S,H)
    """
    index = np.maximum(slot, 0).reshape(-1, *[1] * (weights.ndim - 1))
    mass = np.take_along_axis(weights, index, -1)[..., 0]
    return np.where((slot >= 0).reshape(-1, *[1] * (mass.ndim - 1)), mass, np.nan)


def top1(scores: np.ndarray, slot: np.ndarray, present: np.ndarray) -> np.ndarray:
    r"""Whether the present entity of the largest score is ``slot``: 1, 0, NaN where nothing is known or present.

    .. math:: [\arg\max_{i\ present} s_i = slot]

    Args:
        scores: (S,N); NaN counts as lowest.
        slot: (S,), -1 = unknown.
        present: boolean (S,N).

    Returns:
        (S,)
    """
    best = top_slot(scores, present)
    return np.where((slot >= 0) & (best >= 0), (best == slot).astype(float), np.nan)


def top_slot(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Slot of the largest score among present entities (S,); -1 where nothing is present or scored."""
    usable = present & ~np.isnan(scores)
    best = np.where(usable, scores, -np.inf).argmax(-1)
    return np.where(usable.any(-1), best, -1)


def total_variation(weights: np.ndarray, others: np.ndarray) -> np.ndarray:
    r"""How far apart two maps are, each scaled to sum 1, NaN counted as 0: 0 = alike, 1 = on different entities.

    .. math:: \tfrac12 \sum_i \lvert w_i - v_i \rvert

    Args:
        weights, others: (S,N), not negative.

    Returns:
        (S,)
    """
    scaled = [np.nan_to_num(x) / np.maximum(np.nan_to_num(x).sum(-1, keepdims=True), 1e-9) for x in (weights, others)]
    distance: np.ndarray = 0.5 * np.abs(scaled[0] - scaled[1]).sum(-1)
    return distance


def effect_title(name: str) -> str:
    """What pictures and page call an effect: ``"absence_kl"`` -> ``"absence effect"``."""
    return f"{name.removesuffix('_kl').replace('_', ' ')} effect"


def rollout(patterns: Sequence[np.ndarray], reader: np.ndarray) -> np.ndarray:
    r"""Attention rollout: how much of each input token is mixed into what is read out.

    .. math:: \tilde A_l = \tfrac12 (\bar A_l + I), \qquad r = \mathrm{reader}\ \tilde A_L \cdots \tilde A_1

    Abnar & Zuidema 2020, section 3, with heads averaged; here the last layer may have only the rows that are read.

    Args:
        patterns: per layer (S,H,Q,K), first layer first.
        reader: weights over the last layer's Q rows that make up the readout (S,Q).

    Returns:
        (S,K), rows sum to 1.
    """
    return _chain([(pattern.mean(1), 0.5, 0.5) for pattern in patterns], reader)


def gradient_attention(
    patterns: Sequence[np.ndarray], gradients: Sequence[np.ndarray], reader: np.ndarray
) -> np.ndarray:
    r"""Gradient-weighted relevance of each token for the action taken.

    .. math:: \bar A_l = \mathbb{E}_h\left[(\nabla A_l \odot A_l)^+\right], \qquad R \leftarrow R + \bar A_l R

    Chefer et al. 2021 (Generic Attention-model Explainability), equations 5 and 6, R starting as the identity; the
    gradient is of the chosen action's logit.

    Args:
        patterns: per layer (S,H,Q,K).
        gradients: of the same shapes.
        reader: as for :func:`rollout`.

    Returns:
        (S,K)
    """
    steps = [np.maximum(a * g, 0.0).mean(1) for a, g in zip(patterns, gradients, strict=True)]
    relevance: np.ndarray = _chain([(step, 1.0, 1.0) for step in steps], reader) - _pad(reader, patterns[0].shape[-1])
    return relevance


def _chain(steps: Sequence[tuple[np.ndarray, float, float]], reader: np.ndarray) -> np.ndarray:
    """reader @ prod_l (a x matrix_l + b x identity), from the last layer down; each row vector (S,Q) -> (S,K)."""
    row = reader
    for matrix, a, b in reversed(steps):
        row = a * np.einsum("sq,sqk->sk", row, matrix) + b * _pad(row, matrix.shape[-1])
    return row


def _pad(row: np.ndarray, width: int) -> np.ndarray:
    """Query row i is token i: (S,Q) -> (S,K)."""
    return np.pad(row, ((0, 0), (0, width - row.shape[-1])))


def ranks(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Place of every slot when present ones are sorted by falling score: 0, 1, ...; N for absent ones; (S,N)."""
    order = np.argsort(np.where(present, -np.nan_to_num(scores), np.inf), axis=-1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(scores.shape[-1])[None], -1)
    return np.where(present, places, scores.shape[-1])


def curve_area(similarity: np.ndarray, present: np.ndarray) -> np.ndarray:
    r"""Mean height of a deletion or insertion curve over its n + 1 points.

    .. math:: \frac{1}{n+1} \sum_{k=0}^{n} e^{-D_{KL}(\pi \| \pi_k)}

    Petsiuk et al. 2018 (RISE), section 4.1, with the likeness of the whole policy in place of a class probability.

    Args:
        similarity: (S,N+1), point k = after k entities.
        present: boolean (S,N).

    Returns:
        (S,)
    """
    counted = np.arange(similarity.shape[-1])[None] <= present.sum(-1, keepdims=True)
    area: np.ndarray = (similarity * counted).sum(-1) / counted.sum(-1)
    return area


def scaled(score: float, random: float, oracle: float) -> float:
    r"""Where a score lies between a random order (0) and the leave-one-out oracle (1).

    .. math:: (s - s_{random}) / (s_{oracle} - s_{random})

    NaN where the two hardly differ: then no order is better than another.
    """
    span = oracle - random
    return float("nan") if abs(span) < 1e-4 else (score - random) / span


def mean(values: np.ndarray) -> float:
    """Mean over what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
