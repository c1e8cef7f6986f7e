"""Who must yield: vehicles whose ways would cross within three seconds, and of those the one of lower priority."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..core.types import BoolArray, FloatArray, IntArray
from . import lanes
from .collisions import Pairs

if TYPE_CHECKING:
    from .traffic import Traffic

TIMES: FloatArray = np.arange(0.25, 3, 0.25)
NEAR = 5.0  # metres between centres, beyond which rectangles are not compared
HALF_LENGTH, HALF_WIDTH = 1.5 * 5 / 2, 0.9 * 2 / 2  # longer and narrower than the vehicles
_POINTS = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1), (0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], np.float64) * (
    HALF_LENGTH,
    HALF_WIDTH,
)


class Forecast(NamedTuple):
    """Where vehicles will be: arrays (11, M)."""

    x: FloatArray
    y: FloatArray
    cos: FloatArray
    sin: FloatArray


def yielding(traffic: Traffic, due: BoolArray) -> IntArray:
    """Return the places of the vehicles that must yield to a partner, in those junctions whose vehicles are ``due``.

    As in HighwayEnv, the coordinate along the lane that a vehicle is on is taken for one along the lane that it
    follows: where the two differ, the forecast is off by the length of a lane.
    """
    who, place, pairs = np.flatnonzero(due), np.cumsum(due) - 1, traffic.pairs.of(due)
    ahead = forecast(traffic.routes[:, who], traffic.stage[who], traffic.s[who], traffic.speed[who])
    met: BoolArray = np.any(meetings(ahead, place[pairs.first], place[pairs.second]), axis=0)
    return _loser(traffic, pairs.where(met))


def forecast(routes: IntArray, stage: IntArray, s: FloatArray, speed: FloatArray) -> Forecast:
    """Return where vehicles will be if they follow their routes at constant speed, at each of ``TIMES``.

    Args:
        routes: (3, M) lanes.
        stage: (M,) which of them is followed now.
        s: (M,) metres along it.
        speed: (M,) metres a second.
    """
    return Forecast(*lanes.follow(routes, stage, s + speed * TIMES[:, None]))


def meetings(forecast: Forecast, one: IntArray, other: IntArray) -> BoolArray:
    """Say which pairs would meet, at each of ``TIMES``: (11, P)."""
    dx, dy = forecast.x[:, other] - forecast.x[:, one], forecast.y[:, other] - forecast.y[:, one]
    met: BoolArray = dx * dx + dy * dy <= NEAR * NEAR
    time, pair = np.nonzero(met)
    if len(time):
        a = Forecast(*(part[time, one[pair]] for part in forecast))
        b = Forecast(*(part[time, other[pair]] for part in forecast))
        met[time, pair] = _reaches_into(a, b) | _reaches_into(b, a)
    return met


def _reaches_into(one: Forecast, other: Forecast) -> BoolArray:
    """Say whether a corner, a middle of a side or the centre of one rectangle lies in the other one.

    As in HighwayEnv, the other one is turned the wrong way round: its heading counts negative.
    """
    dx = one.x - other.x
    dy = one.y - other.y
    x = dx[:, None] + one.cos[:, None] * _POINTS[:, 0] - one.sin[:, None] * _POINTS[:, 1]
    y = dy[:, None] + one.sin[:, None] * _POINTS[:, 0] + one.cos[:, None] * _POINTS[:, 1]
    along = other.cos[:, None] * x - other.sin[:, None] * y
    across = other.sin[:, None] * x + other.cos[:, None] * y
    inside: BoolArray = np.any((np.abs(along) <= HALF_LENGTH) & (np.abs(across) <= HALF_WIDTH), axis=1)
    return inside


def _loser(traffic: Traffic, pairs: Pairs) -> IntArray:
    """Of two in conflict, the one on the road of lower priority; of equals, the one that has the other in front."""
    one, other = pairs
    priority = lanes.PRIORITY[traffic.lane]
    dx, dy = traffic.x[other] - traffic.x[one], traffic.y[other] - traffic.y[one]
    one_behind = dx * traffic.cos[one] + dy * traffic.sin[one] > -dx * traffic.cos[other] - dy * traffic.sin[other]
    first_yields = np.where(priority[one] == priority[other], one_behind, priority[one] < priority[other])
    yielder: IntArray = np.where(first_yields, one, other)
    return yielder
