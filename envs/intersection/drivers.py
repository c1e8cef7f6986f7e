"""How vehicles drive: steering along a lane, and the Intelligent Driver Model behind the vehicle in front.

Sources: HighwayEnv 1.12's ``ControlledVehicle`` and ``IDMVehicle``; Treiber, Hennecke and Helbing 2000 for the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.types import FloatArray, IntArray
from . import lanes

if TYPE_CHECKING:
    from .traffic import Traffic

PURSUIT = 0.1  # seconds ahead that a driver steers for
LATERAL_GAIN, HEADING_GAIN, SPEED_GAIN = 1 / 0.6, 1 / 0.2, 1 / 0.6  # 1/s
HALF_LENGTH = 2.5
MOST_APPROACH, MOST_STEERING = np.pi / 4, np.pi / 3
MOST_ACCELERATION, BRAKING = 6.0, 3.0  # m/s2, comfortable
HARDEST = 6.0  # m/s2, of either
GAP, TIME_GAP = 7.0, 1.5  # metres and seconds behind the vehicle in front


def not_zero(value: FloatArray) -> FloatArray:
    """Keep a divisor at least .01 away from zero."""
    return np.where(np.abs(value) > 1e-2, value, np.where(value >= 0, 1e-2, -1e-2))


def steer(traffic: Traffic, target: IntArray, s: FloatArray, r: FloatArray) -> FloatArray:
    """Return the slip angle with which each vehicle steers for its lane: (M,).

    A controller of the lateral position asks for a heading, one of the heading for a turn. Below some two metres a
    second it is unstable: it blows up the last bit of a coordinate tenfold a frame. So here and in ``lanes`` every
    operation is HighwayEnv's, in its order, also where another one would be shorter.
    """
    speed = not_zero(traffic.speed)
    ahead = lanes.heading_at(target, s + traffic.speed * PURSUIT)
    approach = np.arcsin(np.clip(-LATERAL_GAIN * r / speed, -1, 1))
    wanted = ahead + np.clip(approach, -MOST_APPROACH, MOST_APPROACH)
    turn = HEADING_GAIN * lanes.wrap(wanted - traffic.heading)
    slip = np.arcsin(np.clip(HALF_LENGTH / speed * turn, -1, 1))
    steering = np.clip(np.arctan(2 * np.tan(slip)), -MOST_STEERING, MOST_STEERING)
    turned: FloatArray = np.arctan(0.5 * np.tan(steering))
    return turned


def accelerate(traffic: Traffic, target: IntArray, s: FloatArray) -> FloatArray:
    """Return what each driver asks for, in m/s2: (M,). The ego only holds its target speed."""
    wish = np.clip(traffic.target_speed, 0, lanes.SPEED_LIMIT)
    free = np.power(np.maximum(traffic.speed, 0) / np.abs(not_zero(wish)), traffic.delta)
    changing = np.flatnonzero(target != traffic.lane)
    looks = np.concatenate([traffic.index, changing])
    lane, at = np.concatenate([traffic.lane, target[changing]]), np.concatenate([traffic.s, s[changing]])
    braking = _braking(traffic, looks, lane, at)
    wanted = MOST_ACCELERATION * (1 - free)
    acceleration = wanted - braking[: len(wanted)]
    on_next = wanted[changing] - braking[len(wanted) :]
    acceleration[changing] = np.minimum(acceleration[changing], on_next)
    acceleration = np.clip(acceleration, -HARDEST, HARDEST)
    ego = traffic.is_ego
    acceleration[ego] = SPEED_GAIN * (traffic.target_speed[ego] - traffic.speed[ego])
    return acceleration


def _braking(traffic: Traffic, which: IntArray, lane: IntArray, s: FloatArray) -> FloatArray:
    """Return what the vehicle in front on a lane takes off the acceleration: (k,).

    It is looked for on the given lane; how far away it is, is measured along the lane that the vehicle is on.
    """
    braking = np.zeros(len(which))
    away = traffic.seen.ravel().take(traffic.partners[which] * lanes.N_LANES + lane[:, None])
    away -= s[:, None]
    np.copyto(away, np.inf, where=away < 0)
    nearest = np.argmin(away, axis=1)
    rows = np.flatnonzero(np.isfinite(away[np.arange(len(which)), nearest]))
    me = which[rows]
    front = traffic.partners[me, nearest[rows]]
    ahead = lanes.coordinates(traffic.lane[me], traffic.x[front], traffic.y[front])[0] - traffic.s[me]
    closing = (traffic.vx[me] - traffic.vx[front]) * traffic.cos[me] + (
        traffic.vy[me] - traffic.vy[front]
    ) * traffic.sin[me]
    speed = traffic.speed[me]
    gap = GAP + speed * TIME_GAP + speed * closing / (2 * np.sqrt(MOST_ACCELERATION * BRAKING))
    ratio = gap / not_zero(ahead)
    braking[rows] = MOST_ACCELERATION * (ratio * ratio)
    return braking
