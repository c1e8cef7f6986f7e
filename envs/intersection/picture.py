"""Drawing a junction: north up, 100 metres wide."""

from __future__ import annotations

import numpy as np

from ..core.drawing import BAD, FLOOR, GOOD, INK, LINE, Canvas, blend
from ..core.state import State
from ..core.types import FloatArray
from . import lanes

SIGHT = 50.0  # metres from the centre to the border
ROAD, CAR, WRECK, EGO = (0.86, 0.86, 0.85), INK, BAD, (0.95, 0.58, 0.20)
_CORNERS = np.array([(-2.5, -1), (-2.5, 1), (2.5, 1), (2.5, -1)])


def place(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return where points are in the picture, those outside on its border: (...) -> (..., 2)."""
    return np.clip(np.stack([x, -y], axis=-1) / SIGHT, -1, 1)


def draw(game: State, goal: int, canvas: Canvas) -> None:
    """Draw the roads, the ego's way, and the vehicles with their headings; those that yield are pale."""
    half = lanes.WIDTH / SIGHT
    for shape in ((1, half), (half, 1)):
        canvas.box((0, 0), shape, ROAD, outline=None)
    canvas.box((0, 0), (lanes.EDGE / SIGHT,) * 2, ROAD, outline=None)
    for side in (-1, 1):
        edge, far = side * lanes.EDGE, side * SIGHT
        canvas.line(place(np.zeros(2), np.array([edge, far])), FLOOR, width=0.01)
        canvas.line(place(np.array([edge, far]), np.zeros(2)), FLOOR, width=0.01)
    route = np.tile(lanes.ROUTES[0, goal][:, None], 40)
    x, y, _, _ = lanes.follow(route, np.zeros(40, np.int64), np.linspace(40, 100 + lanes.LENGTH[route[1, 0]] + 25, 40))
    canvas.line(place(x, y), blend(GOOD, ROAD, 0.5), width=0.02)
    for i in np.flatnonzero(game.present & (np.maximum(np.abs(game.x), np.abs(game.y)) < SIGHT)):
        colour = EGO if i == game.ego else WRECK if game.crashed[i] else CAR
        _vehicle(game, int(i), blend(colour, FLOOR, 0.5) if game.yields[i] else colour, canvas)
    canvas.box((0, 0), (0.995, 0.995), None, outline=LINE)


def _vehicle(game: State, i: int, colour: tuple[float, ...], canvas: Canvas) -> None:
    cos, sin = np.cos(game.heading[i]), np.sin(game.heading[i])
    x, y = (
        game.x[i] + cos * _CORNERS[:, 0] - sin * _CORNERS[:, 1],
        game.y[i] + sin * _CORNERS[:, 0] + cos * _CORNERS[:, 1],
    )
    canvas.polygon(place(x, y), colour, outline=None)
