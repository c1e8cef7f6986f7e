"""The vehicles of many junctions in C++: what ``traffic.Traffic`` does, to the last bit."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np

from ...core.compiler import NotCompiled, load
from ...core.state import State
from .. import lanes
from ..drivers import MOST_STEERING
from ..traffic import FLAGS, FLOATS, STORED

FLOAT, INT, FLAG = "double", "int64_t", "uint8_t"
TYPES = {FLOAT: np.float64, INT: np.int64, FLAG: np.uint8}
TIMES, LANES = 11, lanes.N_LANES
_WORK = ("s", "r", "cos", "sin", "vx", "vy", "target_s", "ahead", "sine", "slip", "free", "powered")
_THEN = ("then_x", "then_y", "then_cos", "then_sin", "q_y", "q_x", "q_angle", "q_cos", "q_sin")
PER_VEHICLE = {  # name: type and how many
    **dict.fromkeys((*FLOATS, *_WORK, "acceleration", "course"), (FLOAT, 1)),
    **dict.fromkeys(_THEN, (FLOAT, TIMES)),
    "seen": (FLOAT, LANES),
    **dict.fromkeys(("stage", "lane", "target", "front", "next_front"), (INT, 1)),
    "routes": (INT, 3),
    **dict.fromkeys((*FLAGS, "is_ego", "is_surveyed", "is_lost"), (FLAG, 1)),
}
PER_GAME = {"first": INT, "frames": INT}
PHASES = ("follow", "accelerate", "turn", "regulate", "set_course", "move", "locate", "locate_lost", "collide")
ASK, USE = 0, 1


def _tables() -> dict[str, tuple[str, np.ndarray]]:
    """What C++ must know about lanes: name -> type and values, (20,) or (20, 20) or (20, 5)."""
    of_lane = {
        **{"origin_x": lanes.ORIGIN[:, 0], "origin_y": lanes.ORIGIN[:, 1]},
        **{"along_x": lanes.DIRECTION[:, 0], "along_y": lanes.DIRECTION[:, 1], "length": lanes.LENGTH},
        **{"radius": lanes.RADIUS, "clockwise": lanes.CLOCKWISE, "phase": lanes.PHASE, "heading_of": lanes.HEADING},
        **{"cos_of": lanes.COS, "sin_of": lanes.SIN, "arc_offset": lanes.ARC_OFFSET, "seen_added": lanes.SEEN_ADDED},
    }
    view, added = np.full((LANES, 5), -1), np.zeros((LANES, 5))
    for lane in range(LANES):
        for i, (other, more) in enumerate(lanes.seen_from(lane)):
            view[lane, i], added[lane, i] = other, more
    tables = {name: (FLOAT, values) for name, values in {**of_lane, "view_added": added}.items()}
    whole = {"view": view, "direction_of": lanes.DIRECTION_OF, "priority": lanes.PRIORITY}
    tables |= {name: (INT, values) for name, values in whole.items()} | {"is_arc": (FLAG, lanes.IS_ARC)}
    return {name: (kind, np.ascontiguousarray(values, TYPES[kind])) for name, (kind, values) in tables.items()}


TABLES = _tables()
_POINTERS = {name: kind for name, (kind, _) in (PER_VEHICLE | TABLES).items()} | PER_GAME


class Frame(ctypes.Structure):
    """The struct that C++ sees."""

    _fields_ = [*((name, ctypes.c_void_p) for name in _POINTERS), ("n", ctypes.c_int64), ("n_games", ctypes.c_int64)]


@cache
def library() -> ctypes.CDLL | str:
    """The compiled frame, or why there is none."""
    members = "".join(f"{kind}* {name}; " for name, kind in _POINTERS.items())
    try:
        found = load(Path(__file__).parent, "frame.cpp", f"struct Frame {{ {members}int64_t n, n_games; }};")
    except NotCompiled as error:
        return str(error)
    for name in PHASES:
        function = getattr(found, name)
        function.argtypes, function.restype = [ctypes.POINTER(Frame), ctypes.c_int64], ctypes.c_int64
    return found


class CompiledTraffic:
    """As :class:`attn_rl.envs.intersection.traffic.Traffic`: all present vehicles, one after the other, M in all."""

    def __init__(self, state: State):
        found = library()
        if isinstance(found, str):
            raise RuntimeError(found)
        self.state, self.library = state, found
        self.row, self.column = np.nonzero(state.present)
        self._frame = Frame.from_buffer_copy(_with_tables())
        self._frame.n, self._frame.n_games = len(self.row), len(state.x)
        self._arrays: dict[str, np.ndarray] = {}
        self._make_room(len(self.row))
        self._take()
        self._look()
        self._locate()

    def play(self, frames: int) -> None:
        """Play some frames and write the vehicles back into the state."""
        for _ in range(frames):
            self._play_frame()
        for name in STORED:
            getattr(self.state, name)[self.row, self.column] = self._arrays[name]
        self.state.frames[:] = self._arrays["frames"]

    def _make_room(self, n_vehicles: int) -> None:
        sizes, used = dict.fromkeys(TYPES, 0), dict.fromkeys(TYPES, 0)
        for kind, times in PER_VEHICLE.values():
            sizes[kind] += times * n_vehicles
        blocks = {kind: np.empty(size, TYPES[kind]) for kind, size in sizes.items()}
        for name, (kind, times) in PER_VEHICLE.items():
            end = used[kind] + times * n_vehicles
            self._point(name, blocks[kind][used[kind] : end])
            used[kind] = end

    def _point(self, name: str, values: np.ndarray) -> None:
        self._arrays[name] = values
        setattr(self._frame, name, values.ctypes.data)

    def _take(self) -> None:
        """Take the vehicles out of the state."""
        state, here = self.state, (self.row, self.column)
        for name in STORED:
            self._arrays[name][:] = getattr(state, name)[here]
        self._arrays["routes"][:] = lanes.ROUTES[state.origin[here], state.goal[here]].T.ravel()
        self._arrays["is_ego"][:] = self.column == state.ego[self.row]
        self._point("first", np.concatenate([[0], np.cumsum(state.present.sum(axis=1))]))
        self._point("frames", state.frames.astype(np.int64))

    def _play_frame(self) -> None:
        arrays = self._arrays
        one, other = arrays["sine"], arrays["slip"]
        self._know("follow")
        np.arcsin(one, out=other)
        np.power(arrays["free"], arrays["delta"], out=arrays["powered"])
        self._know("accelerate")
        self._call("turn")
        self._steer(one, other)
        n = self._call("regulate", ASK)
        self._directions(n)
        self._call("regulate", USE)
        self._call("set_course")
        np.cos(arrays["course"], out=arrays["cos"])
        np.sin(arrays["course"], out=arrays["sin"])
        np.sin(arrays["slip"], out=arrays["sine"])
        self._call("move")
        self._look()
        self._locate()
        self._call("collide")

    def _call(self, phase: str, asks: int = USE) -> int:
        asked: int = getattr(self.library, phase)(self._frame, asks)
        return asked

    def _know(self, phase: str) -> int:
        """Let a phase ask for angles, find them, and let it use them."""
        n = self._call(phase, ASK)
        if n:
            np.arctan2(self._arrays["q_y"][:n], self._arrays["q_x"][:n], out=self._arrays["q_angle"][:n])
        return self._call(phase, USE)

    def _directions(self, n: int) -> None:
        if n:
            np.cos(self._arrays["q_y"][:n], out=self._arrays["q_cos"][:n])
            np.sin(self._arrays["q_y"][:n], out=self._arrays["q_sin"][:n])

    def _steer(self, one: np.ndarray, other: np.ndarray) -> None:
        """From the sine of a slip angle to the one that the greatest steering angle allows; see ``drivers.steer``."""
        np.arcsin(one, out=other)
        np.tan(other, out=one)
        one *= 2
        np.arctan(one, out=other)
        np.clip(other, -MOST_STEERING, MOST_STEERING, out=other)
        np.tan(other, out=one)
        one *= 0.5
        np.arctan(one, out=other)

    def _look(self) -> None:
        np.cos(self._arrays["heading"], out=self._arrays["cos"])
        np.sin(self._arrays["heading"], out=self._arrays["sin"])

    def _locate(self) -> None:
        if self._know("locate"):
            self._know("locate_lost")


@cache
def _with_tables() -> Frame:
    """A frame that knows the lanes, and no vehicles."""
    return Frame(**{name: values.ctypes.data for name, (_, values) in TABLES.items()})
