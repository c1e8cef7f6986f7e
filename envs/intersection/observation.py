"""What the ego sees: HighwayEnv's Kinematics features of the vehicles that it would show, and which one matters."""

from __future__ import annotations

import numpy as np

from ..core.state import State
from ..core.types import BoolArray, FloatArray, IntArray
from . import lanes
from .priorities import NEAR, TIMES, forecast, meetings

FEATURES = ("x", "y", "vx", "vy", "cos_h", "sin_h")
INTENTIONS = ("cos_d", "sin_d")
RANGE, SPEED_RANGE = 100.0, 20.0  # what is shown as 1: metres and metres a second
SIGHT = 200.0
BEHIND = -10.0  # metres along the ego's lane beyond which nobody is seen
TOP_SPEED = 9.0
BESIDE = 10.0  # metres that two vehicles may be away from the middle of their lanes
_WAYS_OUT = np.array([lanes.lane_out(arm) for arm in range(4)])
_ENDS = lanes.point(_WAYS_OUT, lanes.LENGTH[_WAYS_OUT])[:2]  # x and y of the ends of the ways out, (4,) each


def in_sight(state: State, capacity: int) -> tuple[BoolArray, IntArray]:
    """Return which vehicles are shown, (n, V), the nearest along the ego's lane, and how many more are seen, (n,)."""
    rows = np.arange(len(state.x))
    s, _ = lanes.coordinates(np.broadcast_to(state.lane[rows, state.ego, None], state.x.shape), state.x, state.y)
    away = s - s[rows, state.ego, None]
    dx, dy = state.x - state.x[rows, state.ego, None], state.y - state.y[rows, state.ego, None]
    seen = state.present & (away > BEHIND) & (np.sqrt(dx * dx + dy * dy) < SIGHT)
    seen[rows, state.ego] = False
    more = seen.sum(axis=1) - capacity
    if (more <= 0).all():
        return seen, np.zeros(len(rows), np.int64)
    order = np.argsort(np.where(seen, np.abs(away), np.inf), axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    return seen & (rank < capacity), np.maximum(more, 0)


def kinematics(state: State, rows: IntArray, places: IntArray, intentions: bool = False) -> FloatArray:
    """Return the features of vehicles as HighwayEnv normalises and clips them: (..., 6) float32; with intentions, 8."""
    x, y, heading, speed = (getattr(state, name)[rows, places] for name in ("x", "y", "heading", "speed"))
    told = np.empty((*x.shape, len(FEATURES) + intentions * len(INTENTIONS)))
    cos, sin = np.cos(heading), np.sin(heading)
    for i, (value, most) in enumerate([(x, RANGE), (y, RANGE), (speed * cos, SPEED_RANGE), (speed * sin, SPEED_RANGE)]):
        told[..., i] = np.clip(-1 + (value + most) * 2 / (2 * most), -1, 1)
    told[..., 4], told[..., 5] = cos, sin
    if intentions:
        dx, dy = (end[state.goal[rows, places]] - at for end, at in zip(_ENDS, (x, y), strict=True))
        told[..., 6:] = np.stack([dx, dy], axis=-1) / np.sqrt(dx * dx + dy * dy)[..., None]
    return told.astype(np.float32)


def first_met(state: State) -> IntArray:
    """Return the slot of the vehicle that the ego would meet first at its top speed, within three seconds: (n,), or -1.

    All others keep to their routes and speeds, whatever their priority.
    """
    when = meeting_times(state)
    first: IntArray = np.argmin(when, axis=1)
    return np.where(np.isfinite(when.min(axis=1)), first, -1)


def meeting_times(state: State) -> FloatArray:
    """Return after how many seconds the ego would meet each vehicle, as ``first_met`` says: (n, slots), or infinite."""
    n = len(state.x)
    row, slot = _within_reach(state)
    rows = np.concatenate([np.arange(n), row])  # the egos first
    places = np.concatenate([state.ego, state.slots[row, slot]])
    routes = lanes.ROUTES[state.origin[rows, places], state.goal[rows, places]].T
    stage, speed = state.stage[rows, places], state.speed[rows, places]
    speed[:n] = TOP_SPEED
    s, _ = lanes.coordinates(routes[stage, np.arange(len(rows))], state.x[rows, places], state.y[rows, places])
    met = meetings(forecast(routes, stage, s, speed), row, np.arange(n, len(rows)))
    when = np.full(state.slots.shape, np.inf)
    when[row, slot] = np.where(met.any(axis=0), TIMES[np.argmax(met, axis=0)], np.inf)
    return when


def _within_reach(state: State) -> tuple[IntArray, IntArray]:
    """Return the rows and slots of the vehicles that are near enough to be met within the time of a forecast."""
    rows = np.arange(len(state.x))[:, None]
    at = rows, np.maximum(state.slots, 0)
    dx, dy = (part[at] - part[rows, state.ego[:, None]] for part in (state.x, state.y))
    reach = NEAR + BESIDE + (TOP_SPEED + np.abs(state.speed[at])) * TIMES[-1]
    row, slot = np.nonzero((state.slots >= 0) & (dx * dx + dy * dy <= reach * reach))
    return row, slot
