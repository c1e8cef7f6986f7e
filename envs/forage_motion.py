"""How the ego and the hunters of Forage move, and a scripted policy that looks ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .core.geometry import COMPASS, length, way_round
from .core.types import BoolArray, FloatArray, IntArray

STRIDE = 0.12
BODY = 0.04  # walls stop the ego at this distance
REACH = {"food": 0.12, "poison": 0.08, "hunters": 0.08}  # what is nearer is touched
TURNING = 0.3  # how much of its wish a hunter's velocity takes on in a step
MOVES = STRIDE * np.concatenate([np.zeros((1, 2)), COMPASS])

_CLEARANCE = 0.01  # kept from walls and poison on the way
_POISON_DETOUR = 3.0  # the scripted policy would rather go this much farther than touch poison
_LOOK_AHEAD = 3  # steps
_SAFE_DISTANCE = 0.22
_FEAR = 20.0  # detour per unit of distance that a hunter is too near
_PATIENCE = 0.8  # what a danger one step later counts for


class Walls(NamedTuple):
    """The walls of n games: centre and half of the extent (n, W, 2), present (n, W) bool."""

    centre: FloatArray
    half: FloatArray
    present: BoolArray


def moved(ego: FloatArray, stride: FloatArray, walls: Walls) -> FloatArray:
    """Return where strides lead; where a wall is in the way, one slides along it.

    Args:
        ego: (n, P, 2).
        stride: (n, P, 2), or what broadcasts to it.
        walls: of the n games, relative to what ``ego`` is relative to.

    Returns:
        (n, P, 2).
    """
    for axis in (0, 1):
        goal = ego + stride * (np.arange(2) == axis)
        ego = np.where(_in_wall(goal, walls)[..., None], ego, goal)
    return ego


def _in_wall(place: FloatArray, walls: Walls) -> BoolArray:
    inside = (np.abs(place[:, :, None] - walls.centre[:, None]) < walls.half[:, None] + BODY).all(axis=-1)
    blocked: BoolArray = np.any(inside & walls.present[:, None], axis=-1)
    return blocked


def turned(velocity: FloatArray, way: FloatArray, speed: FloatArray) -> FloatArray:
    """Return the next velocity (..., 2) of hunters whose prey is ``way`` (..., 2) off; speed (...)."""
    wish = way * (speed / np.maximum(length(way), 1e-9))[..., None]
    return velocity + TURNING * (wish - velocity)


def scripted(obs: Mapping[str, np.ndarray]) -> IntArray:
    """Return the action (n,) with the least way left to where food is, detours for danger included."""
    present = {name[:-8]: block.astype(bool) for name, block in obs.items() if name.endswith("_present")}
    ego = obs["ego"][:, None, :2]
    walls = Walls(obs["walls"][..., :2], obs["walls"][..., 2:], present["walls"])
    stay = np.zeros((1, len(MOVES), 1))
    goal = np.clip(ego + moved(0 * ego + stay, MOVES, walls), -1, 1) - ego
    poison = obs["poison"]
    obstacles = Walls(
        np.concatenate([walls.centre, poison], axis=1),
        np.concatenate([walls.half + BODY, np.full_like(poison, REACH["poison"])], axis=1) + _CLEARANCE,
        np.concatenate([present["walls"], present["poison"]], axis=1),
    )
    food = obs["food"][..., :2]
    ways = np.where(present["food"], _ways(0 * ego, food, obstacles)[:, 0], np.inf)
    nearest = food[np.arange(len(food)), np.argmin(ways, axis=-1)]
    cost = _ways(goal, nearest[:, None], obstacles)[..., 0]
    touched = length(goal[:, :, None] - poison[:, None]) < REACH["poison"] + _CLEARANCE / 2
    cost += _POISON_DETOUR * (touched & present["poison"][:, None]).any(axis=-1)
    actions: IntArray = np.argmin(cost + _danger(goal, obs["hunters"], present["hunters"]), axis=1)
    return actions


def _ways(start: FloatArray, food: FloatArray, obstacles: Walls) -> FloatArray:
    """Return the way from (n, P, 2) to (n, F, 2), round whatever obstacle makes it longest: (n, P, F)."""
    begin, end = start[:, :, None], food[:, None]
    centre, half = obstacles.centre[:, None, None], obstacles.half[:, None, None]
    present = obstacles.present[:, None, None]
    ways = np.where(present, way_round(begin[..., None, :], end[..., None, :], centre, half), 0.0)
    longest: FloatArray = np.maximum(ways.max(axis=-1), length(end - begin))
    return longest


def _danger(stride: FloatArray, hunters: FloatArray, present: BoolArray) -> FloatArray:
    """Return how much hunters threaten one who goes on by ``stride`` (n, P, 2) for some steps: (n, P)."""
    here, velocity, speed = hunters[:, None, :, :2], STRIDE * hunters[:, None, :, 2:4], STRIDE * hunters[:, None, :, 4]
    ego, danger = np.zeros_like(stride), np.zeros(stride.shape[:2])
    for step in range(_LOOK_AHEAD):
        ego = ego + stride
        velocity = turned(velocity, ego[:, :, None] - here, speed)
        here = here + velocity
        too_near = np.maximum(_SAFE_DISTANCE - length(ego[:, :, None] - here), 0) * present[:, None]
        danger += _FEAR * _PATIENCE**step * too_near.sum(axis=-1)
    return danger
