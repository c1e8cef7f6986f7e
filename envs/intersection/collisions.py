"""Which vehicles share a junction, and which of them touch: separating axes, as in HighwayEnv."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..core.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from .traffic import Traffic

HALF_LENGTH, HALF_WIDTH = 2.5, 1.0
DIAGONAL = np.sqrt(29.0)
_SLACK = 15.0  # metres: more than crashes push a vehicle within a step


class Pairs(NamedTuple):
    """Pairs of vehicles of one junction: places (P,), the older vehicle first."""

    first: IntArray
    second: IntArray

    def where(self, chosen: BoolArray) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.first[chosen], self.second[chosen])

    def of(self, chosen: BoolArray) -> Pairs:
        """Return the pairs of some vehicles; a junction is chosen as a whole."""
        return self.where(chosen[self.first])

    def near(self, traffic: Traffic, seconds: float) -> Pairs:
        """Return the pairs that may touch within some seconds, whatever they do."""
        dx, dy = self._between(traffic)
        speed = np.abs(traffic.speed) + 6 * seconds
        reach = DIAGONAL + _SLACK + (speed[self.first] + speed[self.second]) * seconds
        return self.where(dx * dx + dy * dy <= reach * reach)

    def _between(self, traffic: Traffic) -> tuple[FloatArray, FloatArray]:
        return traffic.x[self.first] - traffic.x[self.second], traffic.y[self.first] - traffic.y[self.second]

    def close(self, traffic: Traffic, dt: float) -> Pairs:
        """Return the pairs whose circles meet within dt seconds of the older one's way."""
        dx, dy = self._between(traffic)
        reach = DIAGONAL + traffic.speed[self.first] * dt
        return self.where(np.sqrt(dx * dx + dy * dy) <= reach)


def collide(traffic: Traffic, pairs: Pairs, dt: float) -> None:
    """Mark the vehicles that touch as crashed, and push apart those that will touch within dt seconds.

    A vehicle with several such partners is pushed by the youngest.
    """
    pairs = pairs.close(traffic, dt)
    if not len(pairs.first):
        return
    touching, will_touch, push_x, push_y = _separate(traffic, pairs, dt)
    traffic.crashed[pairs.first[touching]] = traffic.crashed[pairs.second[touching]] = True
    hit = np.flatnonzero(will_touch)
    if not len(hit):
        return
    who = np.concatenate([pairs.second[hit], pairs.first[hit]])
    partner = np.concatenate([pairs.first[hit], pairs.second[hit]])
    x = np.concatenate([-push_x[hit], push_x[hit]]) / 2
    y = np.concatenate([-push_y[hit], push_y[hit]]) / 2
    order = np.lexsort((partner, who))
    last = order[np.append(who[order][1:] != who[order][:-1], True)]
    traffic.impact_x[who[last]], traffic.impact_y[who[last]] = x[last], y[last]
    traffic.is_hit[who[last]] = True


def _separate(traffic: Traffic, pairs: Pairs, dt: float) -> tuple[BoolArray, BoolArray, FloatArray, FloatArray]:
    """Return whether two rectangles overlap, whether they will, and the shortest push of the first that parts them.

    On each of the four axes along the sides, a rectangle is an interval: its centre, and so much to both sides. How far
    apart two intervals are is measured from both ends, as HighwayEnv does: where one holds the other, that differs.
    """
    one, other = pairs
    cos = np.array([traffic.cos[one], -traffic.sin[one], traffic.cos[other], -traffic.sin[other]])
    sin = np.array([traffic.sin[one], traffic.cos[one], traffic.sin[other], traffic.cos[other]])
    turn_cos = np.abs(cos[0] * cos[2] + sin[0] * sin[2])
    turn_sin = np.abs(sin[0] * cos[2] - cos[0] * sin[2])
    along = HALF_LENGTH * turn_cos + HALF_WIDTH * turn_sin  # half of one, on the other's length
    across = HALF_LENGTH * turn_sin + HALF_WIDTH * turn_cos
    own_length, own_width = np.full_like(along, HALF_LENGTH), np.full_like(along, HALF_WIDTH)
    half_one, half_other = (
        np.array([own_length, own_width, along, across]),
        np.array([along, across, own_length, own_width]),
    )
    apart_x, apart_y = traffic.x[other] - traffic.x[one], traffic.y[other] - traffic.y[one]
    apart = apart_x * cos + apart_y * sin
    low, high = apart - half_other, apart + half_other
    touching: BoolArray = np.all(_gap(-half_one, half_one, low, high) <= 0, axis=0)
    moved_x, moved_y = (traffic.vx[one] - traffic.vx[other]) * dt, (traffic.vy[one] - traffic.vy[other]) * dt
    moved = moved_x * cos + moved_y * sin
    gap = _gap(np.minimum(moved, 0) - half_one, np.maximum(moved, 0) + half_one, low, high)
    will_touch: BoolArray = np.all(gap <= 0, axis=0)
    axis, rows = np.argmax(gap, axis=0), np.arange(len(one))
    push = np.abs(gap[axis, rows]) * np.where(apart[axis, rows] < 0, 1, -1)
    return touching, will_touch, push * cos[axis, rows], push * sin[axis, rows]


def _gap(low_a: FloatArray, high_a: FloatArray, low_b: FloatArray, high_b: FloatArray) -> FloatArray:
    """The distance of two intervals; negative where they overlap, and then the smaller of what both ends say."""
    upwards = np.where(low_a < low_b, low_b - high_a, low_a - high_b)
    downwards = np.where(high_a > high_b, low_a - high_b, low_b - high_a)
    return np.maximum(upwards, downwards)
