"""Observations of fixed size: a Box (N,F) with a presence column, and parallel arrays, one value per entity each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from attn_rl.wrappers.base import ToEntities, declared_names, find
from attn_rl.wrappers.block import EntityBlock, Overflow


class BoxToEntities(ToEntities, RecordConstructorArgs):
    """Turn a ``Box (N,F)`` with a presence column into a block of entities and its presence flags.

    Args:
        env: the environment.
        name: key of the Box in a Dict observation; where the observation is the Box itself, the name that the entities
            get.
        presence: the column, by name or index: 1 = there, 0 = absent. What absent rows hold is never looked at.
        features: names of all F columns, with the presence column; None: those in the environment's metadata, else
            f0, f1, ...
        capacity: number of slots; None: N, which every observation fits into.
        overflow: for a smaller capacity, see :class:`attn_rl.wrappers.EntityBlock`.
        by: see :class:`attn_rl.wrappers.EntityBlock`.

    Raises:
        ValueError: no such key or column, no 2-D Box, or arguments that do not fit; while playing, another shape, a
            presence other than 0 and 1, NaN or inf in a row that is there, or more rows than ``capacity``.
    """

    def __init__(
        self,
        env: gym.Env,
        name: str = "items",
        *,
        presence: str | int,
        features: Sequence[str] | None = None,
        capacity: int | None = None,
        overflow: Overflow = "error",
        by: str | Sequence[str] | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, name=name, presence=presence, features=features, capacity=capacity, overflow=overflow, by=by
        )
        space, bare = find(env, name)
        if not isinstance(space, spaces.Box) or len(space.shape) != 2:
            raise ValueError(f"{name!r} is {space}; expected a Box of shape (N, F)")
        width = space.shape[1]
        columns = declared_names(env, name, width, features) or tuple(f"f{i}" for i in range(width))
        self.name, self._shape = name, space.shape
        self._presence = _column(name, columns, presence)
        self._kept = [i for i in range(width) if i != self._presence]
        low, high = space.low[:, self._kept].min(0), space.high[:, self._kept].max(0)
        names = [columns[i] for i in self._kept]
        block = EntityBlock(name, names, space.shape[0] if capacity is None else capacity, low, high, overflow, by)
        ToEntities.__init__(self, env, None if bare else [name], [block])

    def rows(self, observation: Any) -> dict[str, np.ndarray]:
        """Return the rows of an observation that are present."""
        value = np.asarray(observation if self._bare else observation[self.name])
        if value.shape != self._shape:
            raise ValueError(f"{self.name!r}: got an observation of shape {value.shape}; expected {self._shape}")
        there = _flags(self.name, value[:, self._presence])
        return {self.name: value[there][:, self._kept]}


class ArraysToEntities(ToEntities, RecordConstructorArgs):
    """Turn parallel arrays of a Dict observation, with one value (N,) or several (N,k) per entity, into one block.

    Args:
        env: the environment.
        name: the name that the entities get.
        keys: keys of the arrays, in the order of the features.
        presence: key of an array (N,) of flags, 1 = there; None: there is none.
        nan_absent: an entity whose values are all NaN is absent.
        features: names of the features; None: the key, numbered where it has several values (``pos_0``, ``pos_1``).
        capacity: number of slots; None: N, which every observation fits into.
        overflow: for a smaller capacity, see :class:`attn_rl.wrappers.EntityBlock`.
        by: see :class:`attn_rl.wrappers.EntityBlock`.

    Raises:
        ValueError: no such key, arrays of different length, or arguments that do not fit; while playing, another
            shape, a flag other than 0 and 1, NaN or inf in an entity that is there, or more of them than ``capacity``.
    """

    def __init__(
        self,
        env: gym.Env,
        name: str = "items",
        *,
        keys: Sequence[str],
        presence: str | None = None,
        nan_absent: bool = False,
        features: Sequence[str] | None = None,
        capacity: int | None = None,
        overflow: Overflow = "error",
        by: str | Sequence[str] | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self,
            name=name,
            keys=keys,
            presence=presence,
            nan_absent=nan_absent,
            features=features,
            capacity=capacity,
            overflow=overflow,
            by=by,
        )
        if presence is not None and nan_absent:
            raise ValueError(f"presence={presence!r} and nan_absent=True; give one rule for what is absent")
        sources = [*keys] if presence is None else [*keys, presence]
        arrays = _arrays(env, sources)
        self.name, self._keys, self._presence, self._nan_absent = name, tuple(keys), presence, nan_absent
        self._shapes = {key: space.shape for key, space in arrays.items()}
        low, high = (
            np.concatenate([getattr(arrays[key], bound).reshape(arrays[key].shape[0], -1) for key in keys], 1)
            for bound in ("low", "high")
        )
        columns = tuple(n for key in keys for n in _column_names(key, arrays[key].shape))
        names = declared_names(env, name, len(columns), features) or columns
        n = low.shape[0] if capacity is None else capacity
        ToEntities.__init__(self, env, sources, [EntityBlock(name, names, n, low.min(0), high.max(0), overflow, by)])

    def rows(self, observation: Any) -> dict[str, np.ndarray]:
        """Put the arrays side by side; return the entities that are present."""
        for key, shape in self._shapes.items():
            if np.shape(observation[key]) != shape:
                raise ValueError(f"{self.name!r}: {key!r} has shape {np.shape(observation[key])}; expected {shape}")
        parts = [np.asarray(observation[key], np.float32) for key in self._keys]
        values = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
        if self._presence is not None:
            values = values[_flags(self.name, np.asarray(observation[self._presence]))]
        elif self._nan_absent:
            values = values[~np.isnan(values).all(axis=1)]
        return {self.name: values}


def _column(name: str, columns: tuple[str, ...], presence: str | int) -> int:
    if isinstance(presence, str) and presence in columns:
        return columns.index(presence)
    if isinstance(presence, str) or not 0 <= presence < len(columns):
        raise ValueError(f"{name!r}: presence={presence!r} is no column of {columns}; give its name or index")
    return presence


def _flags(name: str, flags: np.ndarray) -> np.ndarray:
    odd = ~np.isin(flags, (0, 1))
    if odd.any():
        row = int(np.flatnonzero(odd)[0])
        raise ValueError(f"{name!r}: the presence of row {row} is {flags[row]}; expected 1 (there) or 0 (absent)")
    return flags.astype(bool)


def _arrays(env: gym.Env, keys: Sequence[str]) -> dict[str, spaces.Box]:
    """The arrays' spaces, as Boxes; all of the same length."""
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        raise ValueError(f"the observation is {space}; expected a Dict that holds the arrays {tuple(keys)}")
    if not keys:
        raise ValueError(f"keys=() names no array; choose from {list(space.spaces)}")
    if missing := [key for key in keys if key not in space.spaces]:
        raise ValueError(f"keys {missing} are not in the observation; choose from {list(space.spaces)}")
    found: dict[str, spaces.Box] = {}
    for key in keys:
        box = _as_box(space[key])
        if box is None or not 1 <= len(box.shape) <= 2:
            raise ValueError(f"{key!r} is {space[key]}; expected an array of shape (N,) or (N, k)")
        found[key] = box
    lengths = {key: box.shape[0] for key, box in found.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the arrays have different lengths {lengths}; expected one value per entity in each")
    return found


def _as_box(space: gym.Space[object]) -> spaces.Box | None:
    if isinstance(space, spaces.MultiBinary):
        return spaces.Box(0, 1, space.shape, np.float32)
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.Box(space.start.astype(np.float32), (space.start + space.nvec - 1).astype(np.float32))
    return space if isinstance(space, spaces.Box) else None


def _column_names(key: str, shape: tuple[int, ...]) -> list[str]:
    return [key] if len(shape) == 1 else [f"{key}_{i}" for i in range(shape[1])]
