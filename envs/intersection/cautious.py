"""A scripted driver that sees what a policy sees: it goes where nobody can be, and brakes where somebody may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..core.types import BoolArray, FloatArray, IntArray
from . import lanes

STEP, HORIZON = 0.25, 16  # seconds between two looks ahead, and how many of them
SPEEDS = np.array([0, 4.5, 9])
LAG = 0.6  # seconds in which the ego's speed follows its aim
DISCS = (-1.6, 0.0, 1.6)  # metres ahead of a vehicle's centre
TOUCH = 2.4  # metres between two discs
FARTHEST = TOUCH + 2 * DISCS[-1] + 0.1  # metres between two centres, beyond which no discs touch
PLANS = np.array([(first, then) for first in range(3) for then in range(3)])
"""What to do now, and which of ``SPEEDS`` to aim at from the next second on."""


class Others(NamedTuple):
    """What the vehicles in sight may do, each along each route that it may be on: (T, H)."""

    x: FloatArray
    y: FloatArray
    cos: FloatArray
    sin: FloatArray


def drive(obs: Mapping[str, np.ndarray], goal: IntArray) -> IntArray:
    """Return the action that leads farthest without touching anybody within four seconds who drives on as he does.

    A plan that ends with the ego standing in the junction is taken only if all others touch or stand there too; if all
    touch, the one that does so last.

    Args:
        obs: a batched observation.
        goal: (n,) the arm that each ego drives to.
    """
    ego = _ego_ways(obs["ego"].astype(np.float64), goal)
    game, others = _others(obs)
    meets = _meets(ego, game, others)
    first = np.full((len(goal), len(PLANS)), HORIZON)
    np.minimum.at(first, game, np.where(meets.any(axis=2), np.argmax(meets, axis=2), HORIZON))
    worth = np.where(first == HORIZON, 1000 + ego.way - 500 * ego.blocks, 10 * first - ego.way)
    best: IntArray = PLANS[np.argmax(worth, axis=1), 0]
    return best


class EgoWays(NamedTuple):
    """Where each ego would be under each plan, at each look ahead: (n, 9, T); and how each plan ends: (n, 9)."""

    x: FloatArray
    y: FloatArray
    cos: FloatArray
    sin: FloatArray
    way: FloatArray
    """Metres driven."""
    blocks: BoolArray
    """The ego stands in the junction."""


def _meets(ego: EgoWays, game: IntArray, others: Others) -> BoolArray:
    """Say under which plan, and when, the ego would touch each possible vehicle: (H, 9, T)."""
    dx, dy = ego.x[game] - others.x.T[:, None], ego.y[game] - others.y.T[:, None]
    meets: BoolArray = dx * dx + dy * dy < FARTHEST * FARTHEST
    one, plan, time = np.nonzero(meets)
    apart_x, apart_y, mine = dx[one, plan, time], dy[one, plan, time], (game[one], plan, time)
    touch = np.zeros(len(one), bool)
    for ahead in DISCS:
        for further in DISCS:
            x = apart_x + ahead * ego.cos[mine] - further * others.cos[time, one]
            y = apart_y + ahead * ego.sin[mine] - further * others.sin[time, one]
            touch |= x * x + y * y < TOUCH * TOUCH
    meets[one, plan, time] = touch
    return meets


def _ego_ways(ego: FloatArray, goal: IntArray) -> EgoWays:
    x, y, speed = ego[:, 0] * 100, ego[:, 1] * 100, np.hypot(ego[:, 2], ego[:, 3]) * 20
    route = lanes.ROUTES[0, goal].T
    s = [lanes.coordinates(lane, x, y)[0] for lane in route]
    ends = lanes.LENGTH[route]
    on_way = np.where(s[1] < ends[1], ends[0] + s[1], ends[0] + ends[1] + s[2])
    start = np.where(s[0] < ends[0], s[0], on_way)[:, None]  # along the whole route
    now = SPEEDS[np.clip(np.round(speed / SPEEDS[1]).astype(np.int64)[:, None] + PLANS[:, 0] - 1, 0, 2)]
    at, speeds, places = start, np.broadcast_to(speed[:, None], now.shape), []
    for i in range(HORIZON):
        aim = now if i * STEP < 1 else SPEEDS[PLANS[:, 1]]
        speeds = speeds + (aim - speeds) * (1 - np.exp(-STEP / LAG))
        at = at + speeds * STEP
        places.append(at)
    s_ahead = np.stack(places, axis=-1)
    along = np.repeat(route, len(PLANS) * HORIZON, axis=1)
    points = lanes.follow(along, np.zeros(along.shape[1], np.int64), s_ahead.ravel())
    blocks = (at > ends[0, :, None] - 2) & (at < (ends[0] + ends[1])[:, None] + 4) & (speeds < 3)
    shown_x, shown_y, cos, sin = (part.reshape(s_ahead.shape) for part in points)
    return EgoWays(shown_x, shown_y, cos, sin, at - start, blocks)


def _others(obs: Mapping[str, np.ndarray]) -> tuple[IntArray, Others]:
    """Return where the vehicles in sight may be, and in which game each possibility is."""
    game, slot = np.nonzero(obs["vehicles_present"])
    x, y, vx, vy, cos, sin = (
        obs["vehicles"][game, slot, :6].astype(np.float64).T * np.array([[100, 100, 20, 20, 1, 1]]).T
    )
    vehicle, route, stage, s = _possible(x, y, np.arctan2(sin, cos))
    way = (vx * cos + vy * sin)[vehicle] * STEP * np.arange(1, HORIZON + 1)[:, None]
    return game[vehicle], Others(*lanes.follow(route, stage, s + way))


def _possible(x: FloatArray, y: FloatArray, heading: FloatArray) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Return the routes that vehicles may be on: vehicle (H,), lanes (3, H), stage (H,), s (H,)."""
    found = []
    for origin in range(4):
        for goal in set(range(4)) - {origin}:
            route = lanes.ROUTES[origin, goal]
            for stage, lane in enumerate(route):
                if stage == 2 and (goal - origin) % 4 != 2:
                    continue  # one route to each way out is enough
                s, r = lanes.coordinates(np.full(len(x), lane), x, y)
                on = (np.abs(r) < 1.5) & (s > -1) & (s <= lanes.LENGTH[lane])
                on &= np.abs(lanes.wrap(heading - lanes.heading_at(np.full(len(x), lane), s))) < 0.5
                vehicle = np.flatnonzero(on)
                found.append((vehicle, np.tile(route[:, None], len(vehicle)), np.full(len(vehicle), stage), s[vehicle]))
    vehicle, route, stage, s = zip(*found, strict=True)
    return np.concatenate(vehicle), np.concatenate(route, axis=1), np.concatenate(stage), np.concatenate(s)
