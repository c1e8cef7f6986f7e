"""Grids and pictures: every cell, or every patch, an entity with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from attn_rl.wrappers.base import ToEntities, find
from attn_rl.wrappers.block import EntityBlock, Overflow

PLACE = ("row", "column")
BRIGHTEST = 255.0
"""What pixels are divided by where their space has no bound of its own."""


class GridToEntities(ToEntities, RecordConstructorArgs):
    """Turn a grid of whole numbers (H,W) or (H,W,C) into entities, one for each cell.

    A cell's features: its row and column, as a share of the grid's longer side, and its numbers, channel by channel,
    each a category.

    Args:
        env: the environment.
        name: key of the grid in a Dict observation; where the observation is the grid itself, the name that the cells
            get.
        channels: names of the C channels; None: ``("value",)``, or c0, c1, ...
        values: per channel, the names of its values, or how many there are; a channel that is not named has as many as
            its bounds allow.
        absent: values of the first channel, by name or number, whose cells are no entities: what is empty.
        capacity: number of slots; None: H x W, which every observation fits into.
        overflow: for a smaller capacity, see :class:`attn_rl.wrappers.EntityBlock`.
        by: see :class:`attn_rl.wrappers.EntityBlock`.

    Raises:
        ValueError: no such key, another space, or arguments that do not fit; while playing, another shape, a number
            that is none of the values, or more cells than ``capacity``.
    """

    def __init__(
        self,
        env: gym.Env,
        name: str = "grid",
        *,
        channels: Sequence[str] | None = None,
        values: Mapping[str, Sequence[str] | int] | None = None,
        absent: Sequence[str | int] = (),
        capacity: int | None = None,
        overflow: Overflow = "error",
        by: str | Sequence[str] | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self,
            name=name,
            channels=channels,
            values=values,
            absent=absent,
            capacity=capacity,
            overflow=overflow,
            by=by,
        )
        space, bare = find(env, name)
        low, high = _whole_numbers(name, space)
        n = low.shape[2]
        named = tuple(channels or (("value",) if n == 1 else tuple(f"c{i}" for i in range(n))))
        if len(named) != n:
            raise ValueError(f"{name!r} has {n} channels; got channels={named}: give one name per channel")
        self.name, self._shape, self._bare_shape = name, low.shape, space.shape
        self._values = {
            c: _value_names(name, c, (values or {}).get(c), low[..., i], high[..., i]) for i, c in enumerate(named)
        }
        if unknown := sorted(set(values or {}) - set(named)):
            raise ValueError(f"{name!r}: values are given for {unknown}; the channels are {named}")
        self._absent = np.array([_number(name, value, self._values[named[0]]) for value in absent], int)
        self._place = _places(low.shape[:2])
        most = np.array([1, 1, *(len(each) - 1 for each in self._values.values())])
        block = EntityBlock(
            name, (*PLACE, *named), len(self._place) if capacity is None else capacity, 0, most, overflow, by
        )
        ToEntities.__init__(self, env, None if bare else [name], [block], {name: self._values})

    def rows(self, observation: Any) -> dict[str, np.ndarray]:
        """Return a row for each cell that is not absent."""
        grid = np.asarray(observation if self._bare else observation[self.name])
        if grid.shape != self._bare_shape:
            raise ValueError(f"{self.name!r}: got an observation of shape {grid.shape}; expected {self._bare_shape}")
        cells = grid.reshape(-1, self._shape[2])
        for column, (channel, values) in zip(cells.T, self._values.items(), strict=True):
            if not ((column >= 0) & (column < len(values))).all():
                wrong = column[(column < 0) | (column >= len(values))][0]
                raise ValueError(f"{self.name!r}: {channel!r} of a cell is {wrong}; expected 0 to {len(values) - 1}")
        there = ~np.isin(cells[:, 0], self._absent)
        return {self.name: np.concatenate([self._place[there], cells[there]], 1)}


class ImageToEntities(ToEntities, RecordConstructorArgs):
    """Turn a picture (H,W) or (H,W,C) into entities, one for each square patch.

    A patch's features: its row and column, as a share of the picture's longer side, and its pixels between 0 and 1.
    There is no convolution: for pictures of things that must be recognised first, ``CnnPolicy`` is the better choice.

    Args:
        env: the environment.
        name: key of the picture in a Dict observation; where the observation is the picture itself, the name that the
            patches get.
        patch: pixels along each side of a patch; must divide height and width.

    Raises:
        ValueError: no such key, no picture, or a patch that does not fit; while playing, another shape.
    """

    def __init__(self, env: gym.Env, name: str = "image", *, patch: int) -> None:
        RecordConstructorArgs.__init__(self, name=name, patch=patch)
        space, bare = find(env, name)
        if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
            raise ValueError(f"{name!r} is {space}; expected a picture, a Box of shape (H, W) or (H, W, C)")
        height, width, channels = (*space.shape, 1)[:3]
        if patch < 1 or height % patch or width % patch:
            fitting = [n for n in range(1, min(height, width) + 1) if not (height % n or width % n)]
            raise ValueError(f"patch={patch} does not divide {height} x {width} pixels; choose one of {fitting}")
        self.name, self._shape, self._patch = name, space.shape, patch
        self._low = float(space.low.min()) if np.isfinite(space.low).all() else 0.0
        high = float(space.high.max()) if np.isfinite(space.high).all() else BRIGHTEST
        self._scale = 1.0 / max(high - self._low, 1e-9)
        self._place = _places((height // patch, width // patch))
        pixels = [f"y{y}x{x}c{c}" for y in range(patch) for x in range(patch) for c in range(channels)]
        block = EntityBlock(name, (*PLACE, *pixels), len(self._place), 0, 1)
        ToEntities.__init__(self, env, None if bare else [name], [block])

    def rows(self, observation: Any) -> dict[str, np.ndarray]:
        """Return a row for each patch."""
        picture = np.asarray(observation if self._bare else observation[self.name], np.float32)
        if picture.shape != self._shape:
            raise ValueError(f"{self.name!r}: got an observation of shape {picture.shape}; expected {self._shape}")
        height, width, channels = (*self._shape, 1)[:3]
        n = self._patch
        parts = picture.reshape(height // n, n, width // n, n, channels).transpose(0, 2, 1, 3, 4)
        pixels = (parts.reshape(len(self._place), -1) - self._low) * self._scale
        return {self.name: np.concatenate([self._place, pixels], 1)}


def _places(shape: Sequence[int]) -> np.ndarray:
    """Row and column of every cell (H W,2), as a share of the longer side."""
    height, width = shape
    rows, columns = np.divmod(np.arange(height * width), width)
    return np.stack([rows, columns], 1).astype(np.float32) / max(height, width)


def _whole_numbers(name: str, space: gym.Space[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of a grid (H,W,C)."""
    shape = space.shape or ()
    if isinstance(space, spaces.MultiDiscrete):
        low, high = space.start, space.start + space.nvec - 1
    elif isinstance(space, spaces.MultiBinary):
        low, high = np.zeros(shape, int), np.ones(shape, int)
    elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.integer):
        low, high = space.low, space.high
    else:
        low = high = np.zeros(())
    if len(low.shape) not in (2, 3):
        raise ValueError(f"{name!r} is {space}; expected a grid of whole numbers, of shape (H, W) or (H, W, C)")
    height, width, channels = (*low.shape, 1)[:3]
    return low.reshape(height, width, channels), high.reshape(height, width, channels)


def _value_names(
    name: str, channel: str, given: Sequence[str] | int | None, low: np.ndarray, high: np.ndarray
) -> tuple[str, ...]:
    if given is None:
        if low.min() < 0:
            raise ValueError(
                f"{name!r}: {channel!r} may be {low.min()}; expected values from 0, or their names in values="
            )
        given = int(high.max()) + 1
    return tuple(map(str, range(given))) if isinstance(given, int) else tuple(given)


def _number(name: str, value: str | int, values: Sequence[str]) -> int:
    if isinstance(value, str) and value not in values:
        raise ValueError(f"{name!r}: absent={value!r} is none of the values {tuple(values)}")
    return values.index(value) if isinstance(value, str) else int(value)
