"""The vehicles of many junctions as flat arrays, and one frame of their lives."""

from __future__ import annotations

import numpy as np

from ..core.state import State
from ..core.types import BoolArray, FloatArray, IntArray
from . import lanes
from .collisions import Pairs, collide
from .drivers import accelerate, steer
from .priorities import yielding

DT = 1 / 15  # seconds of a frame
REGULATION = 7  # frames between two looks at who must yield: HighwayEnv's int(15 / 2)
VEHICLE_LENGTH = 5.0
MOST_SPEED = 40.0
FLOATS = ("x", "y", "heading", "speed", "target_speed", "delta", "impact_x", "impact_y")
FLAGS = ("crashed", "yields", "is_hit")
STORED = (*FLOATS, *FLAGS, "stage", "lane")
"""What a vehicle carries from step to step, besides its route: names of (n, V) arrays of the state."""


class Traffic:
    """All present vehicles of n junctions, one after the other: M in all, every array (M,) unless said.

    Vehicles of one junction stand in HighwayEnv's order, oldest first; which of two vehicles a rule meets first depends
    on it. Attributes are those of ``STORED``: ``lane`` is the one that a vehicle is closest to, with the coordinates
    ``s`` and ``r`` there; ``routes`` (3, M) are the lanes from start to goal, of which ``stage`` is followed now.

    Args:
        state: arrays (n, V) by the names of ``STORED``, and ``present``, ``origin``, ``goal``; ``ego`` (n,), the ego's
            place or -1; ``frames`` (n,), how many were played.
    """

    x: FloatArray
    y: FloatArray
    heading: FloatArray
    speed: FloatArray
    target_speed: FloatArray
    delta: FloatArray
    impact_x: FloatArray
    impact_y: FloatArray
    crashed: BoolArray
    yields: BoolArray
    is_hit: BoolArray
    stage: IntArray
    lane: IntArray

    def __init__(self, state: State):
        self.state = state
        self.row, self.column = np.nonzero(state.present)
        for name in STORED:
            setattr(self, name, getattr(state, name)[self.row, self.column])
        self.routes: IntArray = lanes.ROUTES[state.origin[self.row, self.column], state.goal[self.row, self.column]].T
        self.is_ego: BoolArray = self.column == state.ego[self.row]
        self.index = np.arange(len(self.row))
        self.partners, self.pairs = _together(state.present, self.row, self.column)
        self.seen: FloatArray = np.full((len(self.row) + 1, lanes.N_LANES), np.inf)
        self._look()
        self._locate()

    def play(self, frames: int) -> None:
        """Play some frames and write the vehicles back into the state."""
        near = self.pairs.near(self, frames * DT)
        for _ in range(frames):
            self._frame(near)
        for name in STORED:
            getattr(self.state, name)[self.row, self.column] = getattr(self, name)

    def target(self) -> IntArray:
        """Return the lane that each vehicle follows."""
        lane: IntArray = self.routes[self.stage, self.index]
        return lane

    def _frame(self, near: Pairs) -> None:
        acts = self.is_ego | ~self.crashed
        target, s, r = self._follow(acts)
        slip = steer(self, target, s, r)
        acceleration = accelerate(self, target, s)
        self.state.frames += 1
        due = (self.state.frames % REGULATION == 0)[self.row]
        if due.any():
            self._regulate(due)
        self._move(slip, acceleration)
        self._locate()
        collide(self, near, DT)

    def _follow(self, acts: BoolArray) -> tuple[IntArray, FloatArray, FloatArray]:
        """Switch to the next lane of the route half a vehicle before the end; return the lane followed, s and r."""
        target = self.target()
        s, r = self.s.copy(), self.r.copy()
        self._refresh(np.flatnonzero(target != self.lane), target, s, r)
        ending = np.flatnonzero((s > lanes.LENGTH[target] - VEHICLE_LENGTH / 2) & acts & (self.stage < 2))
        if len(ending):
            self.stage[ending] += 1
            target[ending] = self.routes[self.stage[ending], ending]
            self._refresh(ending, target, s, r)
        return target, s, r

    def _refresh(self, which: IntArray, target: IntArray, s: FloatArray, r: FloatArray) -> None:
        if len(which):
            s[which], r[which] = lanes.coordinates(target[which], self.x[which], self.y[which])

    def _regulate(self, due: BoolArray) -> None:
        """Let those who yielded go on, and stop those who must yield now."""
        free = due & self.yields
        self.target_speed[free] = lanes.SPEED_LIMIT
        self.yields[free] = False
        stopping = yielding(self, due)
        stopping = stopping[~self.is_ego[stopping]]
        self.target_speed[stopping] = 0.0
        self.yields[stopping] = True

    def _move(self, slip: FloatArray, acceleration: FloatArray) -> None:
        """The kinematic bicycle model; a crashed vehicle runs straight on and brakes."""
        wrecked = self.crashed
        slip[wrecked] = 0.0
        acceleration[wrecked] = -self.speed[wrecked]
        if np.abs(self.speed).max(initial=0) > MOST_SPEED:
            least, most = -MOST_SPEED - self.speed, MOST_SPEED - self.speed
            acceleration = np.where(most < 0, np.minimum(acceleration, most), acceleration)
            acceleration = np.where(least > 0, np.maximum(acceleration, least), acceleration)
        course = self.heading + slip
        self.x += self.speed * np.cos(course) * DT
        self.y += self.speed * np.sin(course) * DT
        self.heading += self.speed * np.sin(slip) / (VEHICLE_LENGTH / 2) * DT
        self.speed += acceleration * DT
        hit = np.flatnonzero(self.is_hit)
        if len(hit):
            self.x[hit] += self.impact_x[hit]
            self.y[hit] += self.impact_y[hit]
            self.crashed[hit] = True
            self.is_hit[hit] = False
            self.impact_x[hit] = self.impact_y[hit] = 0.0
        self._look()

    def _look(self) -> None:
        self.cos, self.sin = np.cos(self.heading), np.sin(self.heading)
        self.vx, self.vy = self.speed * self.cos, self.speed * self.sin

    def _locate(self) -> None:
        """Find the lane of each vehicle, and who sees it where.

        Away from the junction, a vehicle that keeps to a way in or out is nearest to it and seen from nowhere else
        but the lanes that lead there: no need to measure all twenty.
        """
        self.s, self.r = lanes.coordinates(self.lane, self.x, self.y)
        simple = lanes.is_clear(self.lane, self.s, self.r, self.heading)
        few = np.flatnonzero(simple)
        self.seen[few] = self.s[few, None] + lanes.SEEN_ADDED[self.lane[few]]
        self._find_lanes(np.flatnonzero(~simple))

    def _find_lanes(self, which: IntArray) -> None:
        lane, s, r = lanes.survey(self.x[which], self.y[which], self.heading[which])
        self.lane[which] = lane
        chosen = np.arange(len(which))
        self.s[which], self.r[which] = s[lane, chosen], r[lane, chosen]
        self.seen[which] = lanes.seen_at(s, r).T


def _together(present: BoolArray, row: IntArray, column: IntArray) -> tuple[IntArray, Pairs]:
    """Return who shares a junction: partners (M, V), M where there is none, and all pairs, the older one first."""
    n_vehicles = len(row)
    place = np.full(present.shape, n_vehicles)
    place[row, column] = np.arange(n_vehicles)
    partners = place[row, : int(present.sum(axis=1).max(initial=1))]
    partners[partners == np.arange(n_vehicles)[:, None]] = n_vehicles
    first, second = np.nonzero((partners > np.arange(n_vehicles)[:, None]) & (partners < n_vehicles))
    return partners, Pairs(first, partners[first, second])
