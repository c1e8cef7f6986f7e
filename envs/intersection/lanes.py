"""The lanes of the junction: where they are, which one a vehicle is on, and who is seen from which lane.

Four arms, numbered as in HighwayEnv: 0 south, 1 west, 2 north, 3 east; x to the right, y *downwards*, in metres. Each
corner c has five lanes, 5 c + IN, RIGHT, ...: the way in from arm c, the three ways through the junction, and the way
out of the arm to its right, c - 1. A lane has a longitudinal coordinate s along it and a lateral one r across it. A
corner's lanes are those of corner 0, turned by c quarters.
"""

from __future__ import annotations

import numpy as np

from ..core.types import BoolArray, FloatArray, IntArray

IN, RIGHT, LEFT, STRAIGHT, OUT = range(5)
N_LANES = 20
WIDTH = 4.0
ACCESS = 100.0  # length of a way in or out
EDGE = 11.0  # of the junction's square
RIGHT_RADIUS, LEFT_RADIUS = 9.0, 13.0
SPEED_LIMIT = 10.0
REACH = 5.0  # a vehicle's length before and after its ends, a lane still counts as its own

_CORNER, _KIND = np.divmod(np.arange(N_LANES), 5)
IS_ARC: BoolArray = (_KIND == RIGHT) | (_KIND == LEFT)
RADIUS: FloatArray = np.where(_KIND == RIGHT, RIGHT_RADIUS, LEFT_RADIUS)
CLOCKWISE: FloatArray = np.where(_KIND == LEFT, -1.0, 1.0)
PRIORITY: IntArray = np.array([1, 1, 0, 1, 1])[_KIND] + 2 * (_CORNER % 2)
"""Who goes first: west and east before south and north, left turns after the others of their road."""
_ANGLE: FloatArray = np.radians(90 * _CORNER)
PHASE: FloatArray = _ANGLE + np.radians(np.where(_KIND == RIGHT, 180, 0))  # of an arc's start, seen from its centre
_START = {IN: (2, 111), RIGHT: (11, 11), LEFT: (-11, 11), STRAIGHT: (2, 11), OUT: (11, 2)}  # arcs: the centre
_END = {**_START, IN: (2, 11), STRAIGHT: (2, -11), OUT: (111, 2)}


def _turned(points: dict[int, tuple[int, int]]) -> FloatArray:
    """(20, 2): a point of each kind of lane, turned to each corner."""
    turned = []
    for angle, kind in zip(_ANGLE, _KIND, strict=True):
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned.append(rotation @ np.array(points[kind], np.float64))
    return np.array(turned)


ORIGIN = _turned(_START)
_WAY: FloatArray = _turned(_END) - ORIGIN
LENGTH: FloatArray = np.where(IS_ARC, RADIUS * np.pi / 2, np.sqrt((_WAY * _WAY).sum(axis=1)))
DIRECTION: FloatArray = _WAY / LENGTH[:, None]  # arcs: zero
HEADING: FloatArray = np.where(IS_ARC, PHASE + np.pi / 2 * CLOCKWISE, np.arctan2(_WAY[:, 1], _WAY[:, 0]))
"""The direction of a lane at its start."""
COS, SIN = np.cos(HEADING), np.sin(HEADING)
ARC_OFFSET: FloatArray = np.where(IS_ARC, CLOCKWISE * RADIUS, 0.0)
_LINE: FloatArray = np.concatenate([ORIGIN, DIRECTION], axis=1).T  # (4, 20)
_ARCS = np.flatnonzero(IS_ARC)
_ARC_RADIUS, _ARC_SIDE, _LENGTHS = RADIUS[_ARCS, None], CLOCKWISE[_ARCS, None], LENGTH[:, None]
_QUARTERS: FloatArray = np.pi / 2 * np.arange(4)[:, None]
DIRECTION_OF: IntArray = np.round(HEADING / (np.pi / 2)).astype(np.int64) % 4
BESIDE = WIDTH / 2 + 1  # metres from the middle of a lane within which drivers on it mind a vehicle
MEASURED = 6.0


def lane_to(corner: int, arm: int) -> int:
    """Return the lane through the junction from a corner to another arm."""
    return 5 * corner + {3: RIGHT, 1: LEFT, 2: STRAIGHT}[(arm - corner) % 4]


def lane_out(arm: int) -> int:
    """Return the way out along an arm."""
    return 5 * ((arm + 1) % 4) + OUT


def _routes() -> IntArray:
    """(4, 4, 3): the lanes from an arm to another; from an arm to itself there is no way, and -1."""
    routes = np.full((4, 4, 3), -1)
    for origin in range(4):
        for goal in set(range(4)) - {origin}:
            routes[origin, goal] = 5 * origin + IN, lane_to(origin, goal), lane_out(goal)
    return routes


ROUTES = _routes()


def wrap(angle: FloatArray) -> FloatArray:
    """Return the same angles in [-pi, pi)."""
    wrapped: FloatArray = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped


def coordinates(lane: IntArray, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return s and r of points on a lane each: (...), (...), (...) -> (...), (...)."""
    origin_x, origin_y, along_x, along_y = _LINE.take(lane, axis=1)
    dx, dy = x - origin_x, y - origin_y
    s, r = dx * along_x + dy * along_y, dy * along_x - dx * along_y
    arcs = np.nonzero(IS_ARC[lane])
    if len(arcs[0]):
        s[arcs], r[arcs] = _along_arc(lane[arcs], dx[arcs], dy[arcs])
    return s, r


def _along_arc(lane: IntArray, dx: FloatArray, dy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """s and r from what a point is away from an arc's centre."""
    start = PHASE[lane]
    phase = start + wrap(np.arctan2(dy, dx) - start)
    clockwise, radius = CLOCKWISE[lane], RADIUS[lane]
    return clockwise * (phase - start) * radius, clockwise * (radius - np.sqrt(dx * dx + dy * dy))


def survey(x: FloatArray, y: FloatArray, heading: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return the nearest lane of each vehicle, and s and r on every lane: (k,), (20, k), (20, k).

    Near is a lane that is few metres beside and beyond the vehicle, and few radians off its heading. Arcs more than
    six metres beside it are not measured (s is infinite), unless all lanes are that far.
    """
    lane, s, r, distance = _survey(x, y, heading, MEASURED)
    lost = np.flatnonzero(distance > MEASURED)
    if len(lost):
        lane[lost], s[:, lost], r[:, lost], _ = _survey(x[lost], y[lost], heading[lost], np.inf)
    return lane, s, r


def _survey(
    x: FloatArray, y: FloatArray, heading: FloatArray, beside: float
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    origin_x, origin_y, along_x, along_y = _LINE[..., None]
    dx, dy = x - origin_x, y - origin_y
    s, r = dx * along_x + dy * along_y, dy * along_x - dx * along_y
    angle = np.abs(wrap(heading - _QUARTERS))[DIRECTION_OF]
    arc_x, arc_y = dx[_ARCS], dy[_ARCS]
    r[_ARCS] = _ARC_SIDE * (_ARC_RADIUS - np.sqrt(arc_x * arc_x + arc_y * arc_y))
    s[_ARCS] = np.inf
    arc, vehicle = np.nonzero(np.abs(r[_ARCS]) <= beside)
    on = _ARCS[arc]
    s[on, vehicle], _ = _along_arc(on, arc_x[arc, vehicle], arc_y[arc, vehicle])
    angle[on, vehicle] = np.abs(wrap(heading[vehicle] - heading_at(on, s[on, vehicle])))
    distance = np.abs(r) + np.maximum(s - _LENGTHS, 0) + np.maximum(0 - s, 0) + angle
    lane = np.argmin(distance, axis=0)
    return lane, s, r, distance[lane, np.arange(len(x))]


def heading_at(lane: IntArray, s: FloatArray) -> FloatArray:
    """Return the direction of a lane's centre at s."""
    heading: FloatArray = HEADING[lane]
    arcs = np.nonzero(IS_ARC[lane])
    if len(arcs[0]):
        on = lane[arcs]
        heading[arcs] = CLOCKWISE[on] * s[arcs] / RADIUS[on] + PHASE[on] + np.pi / 2 * CLOCKWISE[on]
    return heading


def point(lane: IntArray, s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return where a lane's centre is at s, and the direction there: x, y, cosine and sine of the heading."""
    cos, sin = COS[lane], SIN[lane]
    arcs = np.nonzero(IS_ARC[lane])
    if len(arcs[0]):
        heading = heading_at(lane[arcs], s[arcs])
        cos[arcs], sin[arcs] = np.cos(heading), np.sin(heading)
    origin_x, origin_y, along_x, along_y = _LINE.take(lane, axis=1)
    arc = ARC_OFFSET[lane]
    return origin_x + s * along_x + arc * sin, origin_y + s * along_y - arc * cos, cos, sin


def follow(routes: IntArray, stage: IntArray, s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return where points along routes are: x, y, cosine and sine of the heading, as ``s``.

    Args:
        routes: (3, M) lanes.
        stage: (M,), the lane of the route that s is measured along; beyond its end, the next one follows.
        s: (..., M) metres.
    """
    vehicle = np.arange(routes.shape[1])
    lane = np.broadcast_to(routes[stage, vehicle], s.shape)
    stage = np.broadcast_to(stage, s.shape)
    for _ in range(2):
        over = (s > LENGTH[lane]) & (stage < 2)
        s, stage = np.where(over, s - LENGTH[lane], s), stage + over
        lane = routes[stage, vehicle]
    return point(lane, s)


def is_on(lane: IntArray, s: FloatArray, r: FloatArray) -> BoolArray:
    """Say whether a vehicle counts as on a lane."""
    on: BoolArray = (np.abs(r) <= WIDTH / 2) & (s >= -REACH) & (s < LENGTH[lane] + REACH)
    return on


def seen_from(lane: int) -> list[tuple[int, float]]:
    """The lanes on which a driver looks for others, in order, and what to add to s there: own, next ones, last ones."""
    corner, kind = divmod(lane, 5)
    if kind == IN:
        ways = [(5 * corner + way, ACCESS) for way in (RIGHT, LEFT, STRAIGHT)]
        return [(lane, 0), *ways, (lane_out(corner), -ACCESS)]
    if kind == OUT:
        arm = (corner - 1) % 4
        ways = [(lane_to(c, arm), -LENGTH[lane_to(c, arm)]) for c in range(4) if c != arm]
        return [(lane, 0), (5 * arm + IN, ACCESS), *ways]
    arm = (corner + {RIGHT: 3, LEFT: 1, STRAIGHT: 2}[kind]) % 4
    return [(lane, 0), (lane_out(arm), LENGTH[lane]), (5 * corner + IN, -ACCESS)]


def _views() -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], FloatArray]:
    """The second, third, ... lane that is looked at: from which lanes, which one, what to add; and ``SEEN_ADDED``."""
    seen = [seen_from(lane) for lane in range(N_LANES)]
    table: FloatArray = np.full((N_LANES, N_LANES), np.inf)
    for lane, views in enumerate(seen):
        for other, added in views:
            table[other, lane] = added
    further = []
    for i in range(1, 5):
        lanes = [lane for lane in range(N_LANES) if len(seen[lane]) > i]
        others, more = zip(*(seen[lane][i] for lane in lanes), strict=True)
        further.append((np.array(lanes), np.array(others), np.array(more, np.float64)[:, None]))
    return further, table


_FURTHER, SEEN_ADDED = _views()
"""``SEEN_ADDED[a, b]``: what to add to s on lane a for a driver on lane b; infinite: he does not look there."""


def seen_at(s: FloatArray, r: FloatArray) -> FloatArray:
    """Return where drivers on each lane see a vehicle, in coordinates of that lane: (20, k); infinite: they do not.

    They take the first of their lanes that it counts as on, with a metre to spare on each side.
    """
    is_there = (np.abs(r) <= BESIDE) & (s >= -REACH) & (s < _LENGTHS + REACH)
    on = np.where(is_there, s, np.inf)
    seen = on.copy()
    for lanes, others, added in _FURTHER:
        first = seen[lanes]
        seen[lanes] = np.where(np.isinf(first), on[others] + added, first)
    return seen


def is_clear(lane: IntArray, s: FloatArray, r: FloatArray, heading: FloatArray) -> BoolArray:
    """Say which vehicles keep to a way in or out, six metres or more from the junction.

    Such a vehicle is nearest to its lane and on no other one: the lanes that lead there end (and start) further away
    than ``REACH``, and the way beside it runs four metres to the side.
    """
    out = lane % 5 == OUT
    gap = np.where(out, s, ACCESS - s)
    angle = np.abs(wrap(heading - HEADING[lane]))
    clear: BoolArray = ((lane % 5 == IN) | out) & (gap > 6) & (gap <= ACCESS) & (np.abs(r) < 0.5) & (angle < 0.5)
    return clear
