"""Plane geometry by elementwise operations only: the same bits for every batch size."""

from __future__ import annotations

import numpy as np

_ANGLES = np.pi / 4 * np.arange(8)
COMPASS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
"""(8, 2) unit vectors: east, north-east, north, and on round."""


def length(vector: np.ndarray) -> np.ndarray:
    """Return the lengths of plane vectors: (..., 2) -> (...)."""
    x, y = vector[..., 0], vector[..., 1]
    return np.sqrt(x * x + y * y)


def fold(position: np.ndarray, wall: np.ndarray | float) -> np.ndarray:
    """Mirror what went beyond the walls at -wall and +wall back inside (one bounce)."""
    return np.where(np.abs(position) > wall, np.sign(position) * 2 * wall - position, position)
