"""Plane geometry by elementwise operations only: the same bits for every batch size."""

from __future__ import annotations

import numpy as np

from .types import BoolArray, FloatArray, IntArray

_ANGLES = np.pi / 4 * np.arange(8)
COMPASS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
"""(8, 2) unit vectors: east, north-east, north, and on round."""


def length(vector: FloatArray) -> FloatArray:
    """Return the lengths of plane vectors: (..., 2) -> (...)."""
    x, y = vector[..., 0], vector[..., 1]
    return np.sqrt(x * x + y * y)


def closest(before: FloatArray, after: FloatArray) -> FloatArray:
    """Return the least distance from the origin of the segments before-after: (..., 2) -> (...)."""
    way = after - before
    size = way[..., 0] ** 2 + way[..., 1] ** 2
    along = -(before[..., 0] * way[..., 0] + before[..., 1] * way[..., 1]) / np.maximum(size, 1e-12)
    return length(before + np.clip(along, 0, 1)[..., None] * way)


def fold(position: FloatArray, wall: FloatArray | float) -> FloatArray:
    """Mirror what went beyond the walls at -wall and +wall back inside (one bounce)."""
    return np.where(np.abs(position) > wall, np.sign(position) * 2 * wall - position, position)


def crosses(start: FloatArray, goal: FloatArray, centre: FloatArray, half: FloatArray) -> BoolArray:
    """Say whether the segment from start to goal passes through a box that holds neither of its ends.

    Args:
        start: (..., 2).
        goal: (..., 2).
        centre: (..., 2), of the box.
        half: (..., 2), half of its width and height.

    Returns:
        (...) bool.
    """
    way = goal - start
    way = np.where(np.abs(way) < 1e-9, 1e-9, way)
    one, other = (centre - half - start) / way, (centre + half - start) / way
    enters = np.maximum(np.minimum(one, other).max(axis=-1), 0)
    leaves = np.minimum(np.maximum(one, other).min(axis=-1), 1)
    inside: BoolArray = (enters < leaves) & (enters > 0) & (leaves < 1)
    return inside


def way_round(start: FloatArray, goal: FloatArray, centre: FloatArray, half: FloatArray) -> FloatArray:
    """Return the length of the way from start to goal, round a corner of the box where it is in the way.

    Arguments as for :func:`crosses`; for thin boxes, of which one corner is enough. Returns (...).
    """
    corners = centre[..., None, :] + half[..., None, :] * np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    round_corner = length(corners - start[..., None, :]) + length(goal[..., None, :] - corners)
    return np.where(crosses(start, goal, centre, half), round_corner.min(axis=-1), length(goal - start))


def seats_in_rows(seat: IntArray, capacity: int) -> FloatArray:
    """Return where seats are (..., 2), x right, y up, in [-1, 1]: in rows, as many in each as there are rows."""
    columns = int(np.ceil(np.sqrt(capacity)))
    place = np.stack([seat % columns, -(seat // columns)], axis=-1)
    places: FloatArray = (place + (0.5 - columns / 2, columns / 2 - 0.5)) * (1.9 / columns)
    return places
