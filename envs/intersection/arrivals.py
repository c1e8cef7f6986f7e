"""Vehicles that come and go: arrivals as HighwayEnv draws them, who leaves, and the arrays that hold them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core.randomness import RandomStream
from ..core.state import State
from ..core.types import BoolArray, FloatArray, IntArray
from . import lanes
from .traffic import FLAGS, FLOATS

ROOM = 15.0  # metres around a new vehicle that must be free
LEAVES_AT = lanes.ACCESS - 4 * 5.0  # metres along the way out
PER_VEHICLE = (*FLOATS, *FLAGS, "stage", "lane", "origin", "goal", "present")


class Arrival(NamedTuple):
    """One vehicle that wants to come in, for each of n junctions: arrays (n,)."""

    comes: BoolArray
    origin: IntArray
    goal: IntArray
    s: FloatArray
    """Metres along the way in."""
    speed: FloatArray
    delta: FloatArray
    """Exponent of the driver model: 3.5 to 4.5."""


def empty(n: int, n_places: int) -> State:
    """Return n junctions without vehicles: every array of ``PER_VEHICLE`` is (n, n_places)."""
    kinds = dict.fromkeys(FLOATS, np.float64) | dict.fromkeys((*FLAGS, "present"), np.bool_)
    arrays: dict[str, np.ndarray] = {name: np.zeros((n, n_places), kinds.get(name, np.int64)) for name in PER_VEHICLE}
    arrays["goal"] += 1  # a way that exists, from anywhere
    return State(**arrays, ego=np.full(n, -1), frames=np.zeros(n, np.int64))


def normal_pair(random: RandomStream) -> FloatArray:
    """Draw two standard normal numbers a row: (n, 2), by Box and Muller."""
    u = random.uniform(2)
    radius, angle = np.sqrt(-2 * np.log1p(-u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def draw_arrival(random: RandomStream, at: float, probability: float, spread: tuple[float, float] = (1, 1)) -> Arrival:
    """Draw who comes in, from any arm to any other.

    Args:
        random: the streams of n junctions.
        at: metres along the way in, 5 less than the mean.
        probability: that anybody comes.
        spread: standard deviations of place (m) and speed (m/s).
    """
    u, normal = random.uniform(2), normal_pair(random)
    route = random.integers(1, 0, 12)[:, 0]
    origin, further = np.divmod(route, 3)
    place, speed = at + 5 + normal[:, 0] * spread[0], 8 + normal[:, 1] * spread[1]
    return Arrival(u[:, 0] <= probability, origin, (origin + 1 + further) % 4, place, speed, 3.5 + u[:, 1])


def admit(state: State, arrival: Arrival) -> BoolArray:
    """Let vehicles in, each behind all others of its junction, where 15 m around it are free; return where."""
    lane = 5 * arrival.origin + lanes.IN
    x, y, _, _ = lanes.point(lane, arrival.s)
    dx, dy = state.x - x[:, None], state.y - y[:, None]
    blocked = ((np.sqrt(dx * dx + dy * dy) < ROOM) & state.present).any(axis=1)
    comes: BoolArray = arrival.comes & ~blocked
    speed = arrival.speed
    vehicle: dict[str, np.ndarray] = {
        "x": x,
        "y": y,
        "heading": lanes.HEADING[lane],
        "speed": speed,
        "target_speed": speed,
    }
    vehicle |= {"delta": arrival.delta, "lane": lane, "origin": arrival.origin, "goal": arrival.goal}
    put(state, np.flatnonzero(comes), vehicle)
    return comes


def put(state: State, rows: IntArray, vehicle: dict[str, np.ndarray]) -> IntArray:
    """Put a vehicle (arrays (n,)) into the first free place of some junctions; return the places."""
    places: IntArray = state.present[rows].sum(axis=1)
    for name in PER_VEHICLE:
        getattr(state, name)[rows, places] = vehicle[name][rows] if name in vehicle else 0
    state.present[rows, places] = True
    return places


def leaving(state: State) -> BoolArray:
    """Say which vehicles have driven far enough along a way out to be taken away: (n, V). Never the ego."""
    s, _ = lanes.coordinates(state.lane, state.x, state.y)
    is_ego = np.arange(state.x.shape[1]) == state.ego[:, None]
    gone: BoolArray = state.present & ~is_ego & (state.lane % 5 == lanes.OUT) & (s >= LEAVES_AT)
    return gone


def take_away(state: State, gone: BoolArray) -> None:
    """Remove vehicles; the others move up and keep their order."""
    rows = np.flatnonzero(gone.any(axis=1))
    if not len(rows):
        return
    stays = state.present[rows] & ~gone[rows]
    order = np.argsort(~stays, axis=1, kind="stable")
    for name in PER_VEHICLE:
        values = getattr(state, name)
        values[rows] = np.take_along_axis(values[rows], order, axis=1)
    state.present[rows] = np.arange(stays.shape[1]) < stays.sum(axis=1)[:, None]
    ego = state.ego[rows]
    state.ego[rows] = np.where(ego < 0, -1, np.argmax(order == ego[:, None], axis=1))
