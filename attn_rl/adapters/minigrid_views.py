"""What an agent of MiniGrid sees: its own view, as the environment gives it, or the objects of the whole grid."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from minigrid.core.constants import COLOR_NAMES, COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX

from attn_rl.wrappers import EntityBlock
from attn_rl.wrappers.base import DROPPED, Info
from attn_rl.wrappers.block import Overflow, PaddedRows
from attn_rl.wrappers.text import FEATURES as WORD_FEATURES
from attn_rl.wrappers.text import UNKNOWN_WORDS, Sentences

PLACE = ("right", "ahead")
STATES = tuple(STATE_TO_IDX)
NONE = "none"
"""Value of a category that says nothing: no colour, no state, nothing carried."""


class View(Protocol):
    """A form of observation.

    Attributes:
        space: of it.
        metadata: names, categories and kinds of its features.
        capacity: slots for things, which stand before all others.
    """

    space: spaces.Dict
    metadata: dict[str, Any]
    capacity: int

    def observe(self, grid_env: Any, obs: dict[str, Any]) -> tuple[dict[str, np.ndarray], Info]:
        """The observation of this moment, and figures for info; ``obs`` is MiniGrid's own."""
        ...

    def fitting(self, types: frozenset[str], colours: frozenset[str]) -> list[int]:
        """The slots that hold something of one of these types in one of these colours."""
        ...

    def cells(self) -> np.ndarray:
        """Where in the grid the things in the first slots are (n,2), slot by slot."""
        ...

    @property
    def n_slots(self) -> int:
        """Slots of all entity types together."""
        ...


# ---- the agent's own view --------------------------------------------------------------------------------------

TYPES = tuple(sorted(OBJECT_TO_IDX, key=lambda word: int(OBJECT_TO_IDX[word])))
COLOURS = (NONE, *sorted(COLOR_TO_IDX, key=lambda word: int(COLOR_TO_IDX[word])))
CELL_STATES = (NONE, *STATES)
CELL = (*PLACE, "colour", "type", "state")
AGENT = ("direction", "carried", "carried_colour")
DIRECTIONS = ("right", "down", "left", "up")
CATEGORIES = {
    "ego": {"direction": DIRECTIONS, "carried": (NONE, *TYPES), "carried_colour": COLOURS},
    "cells": {"colour": COLOURS, "type": TYPES, "state": CELL_STATES},
}
VOCABULARY = (
    *(",", "a", "after", "and", "at", "avoid", "ball", "behind", "blue", "box", "door", "end", "fetch"),
    *("find", "from", "front", "get", "go", "goal", "green", "grey", "hallway", "in", "key", "lava", "left"),
    *("matching", "maze", "must", "near", "next", "object", "of", "on", "open", "opening", "pick", "purple"),
    *("put", "reach", "red", "right", "room", "rooms", "square", "the", "then", "to", "traverse", "unlock"),
    *("up", "use", "yellow", "you", "your"),
)
"""All words of MiniGrid's and BabyAI's missions."""
MOST_WORDS = 48
"""Slots for words; the longest missions seen have 37."""
UNSEEN, EMPTY, DOOR = (OBJECT_TO_IDX[word] for word in ("unseen", "empty", "door"))
SAME = {
    "type": {"cells": ("type",), "ego": ("carried",), "words": ("word",)},
    "colour": {"cells": ("colour",), "ego": ("carried_colour",), "words": ("word",)},
}


class AgentView:
    """The cells of MiniGrid's own image, the mission's words, and of the agent what it knows of itself.

    Args:
        size: cells V along each side of the image; the agent stands in the middle of the last row.
        capacity: slots for cells; None: for all but the agent's.
        overflow: see :class:`attn_rl.wrappers.EntityBlock`.
        empty, unseen: whether empty and unseen cells are entities too.
    """

    def __init__(self, size: int, capacity: int | None, overflow: Overflow, *, empty: bool, unseen: bool) -> None:
        by = PLACE if overflow == "nearest" else None
        low = np.array([-1, 0, 0, 0, 0])
        most = np.array([1, 1, len(COLOURS) - 1, len(TYPES) - 1, len(CELL_STATES) - 1])
        self._cells = EntityBlock("cells", CELL, size**2 - 1 if capacity is None else capacity, low, most, overflow, by)
        self._sentences = Sentences(VOCABULARY)
        self._words = EntityBlock("words", WORD_FEATURES, MOST_WORDS, 0, self._sentences.most(MOST_WORDS))
        self._shown = _table(
            TYPES, frozenset(TYPES) - {word for word, keep in (("unseen", unseen), ("empty", empty)) if not keep}
        )
        right, down = np.meshgrid(np.arange(size) - size // 2, np.arange(size), indexing="ij")
        self._size, self._place = size, np.stack([right, size - 1 - down], -1)  # (V,V,2), in cells
        self._others = self._place.any(-1)  # all but the agent's own
        highest = np.array([len(values) - 1 for values in CATEGORIES["ego"].values()], np.float32)
        ego = spaces.Box(np.zeros_like(highest), highest, dtype=np.float32)
        self.space = spaces.Dict({"ego": ego, **self._cells.spaces, **self._words.spaces})
        self.metadata = {
            "entities": {"ego": AGENT, "cells": CELL, "words": WORD_FEATURES},
            "categories": {**CATEGORIES, "words": {"word": self._sentences.values}},
            "kinds": SAME,
        }
        self.capacity = self._cells.capacity
        self._said: tuple[str, PaddedRows, int] | None = None

    @property
    def n_slots(self) -> int:
        """Slots for cells and words."""
        return self.capacity + MOST_WORDS

    def observe(self, grid_env: Any, obs: dict[str, Any]) -> tuple[dict[str, np.ndarray], Info]:
        """The observation of this moment, and figures for info."""
        image = np.asarray(obs["image"], int)
        there = self._others & self._shown[image[..., 0]]
        place, (kind, colour, state) = self._place[there], image[there].T
        colour = np.where(_COLOURED[kind], colour + 1, 0)
        state = np.where(kind == DOOR, state + 1, 0)
        rows = np.empty((len(kind), len(CELL)), np.float32)
        rows[:, :2], rows[:, 2], rows[:, 3], rows[:, 4] = place / self._size, colour, kind, state
        padded = self._cells.pad(rows)
        self._seen = place[padded.kept], kind[padded.kept], colour[padded.kept]
        self._pose = np.array(grid_env.agent_pos), np.stack([grid_env.right_vec, grid_env.dir_vec])
        said, unknown = self._say(obs["mission"])
        told: Info = {UNKNOWN_WORDS: {"words": unknown}}
        if self._cells.counts:
            told[DROPPED] = {"cells": padded.dropped}
        blocks = {"cells": padded.x, "cells_present": padded.present}
        blocks |= {"words": said.x.copy(), "words_present": said.present.copy()}
        return {"ego": self._ego(obs["direction"], image), **blocks}, told

    def fitting(self, types: frozenset[str], colours: frozenset[str]) -> list[int]:
        """The slots that hold a cell of one of these types in one of these colours."""
        _, kind, colour = self._seen
        found: list[int] = np.flatnonzero(_table(TYPES, types)[kind] & _table(COLOURS, colours)[colour]).tolist()
        return found

    def cells(self) -> np.ndarray:
        """Where in the grid the cells in the slots are (n,2)."""
        here, axes = self._pose
        found: np.ndarray = here + self._seen[0] @ axes
        return found

    def _say(self, mission: str) -> tuple[PaddedRows, int]:
        """The mission's words in their slots, and how many are unknown; it stays the same for an episode."""
        if self._said is None or self._said[0] != mission:
            rows = self._sentences.rows(mission)
            self._said = mission, self._words.pad(rows), int((rows[:, 0] == 0).sum())
        return self._said[1:]

    def _ego(self, direction: int, image: np.ndarray) -> np.ndarray:
        """MiniGrid draws what is carried where the agent stands."""
        kind, colour, _ = image[self._size // 2, -1]
        carried = (0, 0) if kind in (UNSEEN, EMPTY) else (kind + 1, colour + 1)
        return np.array([direction, *carried], np.float32)


@cache
def _table(values: tuple[str, ...], chosen: Collection[str]) -> np.ndarray:
    """For each value, whether it is among those chosen."""
    return np.array([value in chosen for value in values])


_COLOURED = _table(TYPES, frozenset(TYPES) - {"unseen", "empty"})


# ---- the whole grid --------------------------------------------------------------------------------------------

OBJECTS = ("door", "key", "ball", "box", "goal", "lava")
OBJECT = (*PLACE, *OBJECTS, *COLOR_NAMES, *STATES)
EGO = (
    *(f"mission_{word}" for word in (*OBJECTS, *COLOR_NAMES)),
    *(f"carried_{word}" for word in (*OBJECTS, *COLOR_NAMES)),
    *("blocked_ahead", "blocked_right", "blocked_left"),
)
KINDS = {
    kind: {"ego": [[f"{owner}_{word}" for word in words] for owner in ("mission", "carried")], "objects": words}
    for kind, words in {"type": OBJECTS, "colour": tuple(COLOR_NAMES)}.items()
}


class WholeGrid:
    """The objects in the grid; the mission's types and colours, and what is carried, as flags.

    Args:
        capacity: slots for objects.
        overflow: see :class:`attn_rl.wrappers.EntityBlock`.
    """

    def __init__(self, capacity: int, overflow: Overflow) -> None:
        self.capacity = self.n_slots = capacity
        self._block = EntityBlock(
            "objects", OBJECT, capacity, -1, 1, overflow, PLACE if overflow == "nearest" else None
        )
        self.space = spaces.Dict({"ego": spaces.Box(0, 1, (len(EGO),), np.float32), **self._block.spaces})
        self.metadata = {"entities": {"ego": EGO, "objects": OBJECT}, "kinds": KINDS}

    def observe(self, grid_env: Any, obs: dict[str, Any]) -> tuple[dict[str, np.ndarray], Info]:
        """The observation of this moment, and figures for info."""
        objects = list(_objects(grid_env))
        padded = self._block.pad([_row(grid_env, thing, cell) for thing, cell in objects])
        self._things = [objects[i] for i in padded.kept]
        told: Info = {DROPPED: {"objects": padded.dropped}} if self._block.counts else {}
        return {"ego": _flags_of(grid_env), "objects": padded.x, "objects_present": padded.present}, told

    def fitting(self, types: frozenset[str], colours: frozenset[str]) -> list[int]:
        """The slots that hold an object of one of these types in one of these colours."""
        return [i for i, (thing, _) in enumerate(self._things) if thing.type in types and thing.color in colours]

    def cells(self) -> np.ndarray:
        """Where in the grid the objects in the slots are (n,2)."""
        return np.array([cell for _, cell in self._things]).reshape(-1, 2)


def _objects(grid_env: Any) -> Iterable[tuple[Any, np.ndarray]]:
    """Every object and its cell, in the grid's order."""
    grid = grid_env.grid
    for i, thing in enumerate(grid.grid):
        if thing is not None and thing.type in OBJECTS:
            yield thing, np.array([i % grid.width, i // grid.width])


def _row(grid_env: Any, thing: Any, cell: np.ndarray) -> np.ndarray:
    offset = (cell - grid_env.agent_pos) / max(grid_env.width, grid_env.height)
    state = ("open" if thing.is_open else "locked" if thing.is_locked else "closed") if thing.type == "door" else ""
    place = [offset @ grid_env.right_vec, offset @ grid_env.dir_vec]
    flags = [_flags(OBJECTS, thing.type), _flags(tuple(COLOR_NAMES), thing.color), _flags(STATES, state)]
    return np.concatenate([place, *flags])


def _flags_of(grid_env: Any) -> np.ndarray:
    """What the mission names, what is carried, and which ways are blocked."""
    carried = () if grid_env.carrying is None else (grid_env.carrying.type, grid_env.carrying.color)
    ways = (grid_env.dir_vec, grid_env.right_vec, -grid_env.right_vec)
    cells = [grid_env.grid.get(*(grid_env.agent_pos + way)) for way in ways]
    blocked = [cell is not None and not cell.can_overlap() for cell in cells]
    words = (*OBJECTS, *COLOR_NAMES)
    flags = [_flags(words, *grid_env.mission.split()), _flags(words, *carried), np.array(blocked)]
    return np.concatenate(flags).astype(np.float32)


def _flags(words: tuple[str, ...], *said: str) -> np.ndarray:
    return np.array([word in said for word in words], np.float32)
