"""Where remembered rows are kept: those of the last steps, and the last sighting of each thing.

Shapes: n environments, N slots of what is remembered, F features, A columns of the age, M remembered rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from attn_rl.observation_size import check_slots
from attn_rl.wrappers.memory.age import MOST_AGE, age_bounds, age_columns, age_names
from attn_rl.wrappers.memory.sources import PRESENT, Observation, Source

PAST, UNSEEN = "past_", "unseen_"
Which = np.ndarray | slice
"""Environments: indices, booleans or a slice."""


class RememberedRows:
    """Rows of one type that is made of another: M slots with its features, and the age.

    Args:
        name: of the type.
        source: what is remembered.
        capacity: slots M.
        most_age: ages up to this are told apart exactly.

    Attributes:
        forgotten: how many rows the running episodes had to drop (n,).
    """

    forgotten: np.ndarray

    def __init__(self, name: str, source: Source, capacity: int, most_age: int) -> None:
        self.name, self.source, self.capacity, self.most_age = name, source, capacity, most_age
        check_slots(name, capacity, len(self.features))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the F + A features."""
        return (*self.source.features, *age_names(self.most_age))

    @property
    def spaces(self) -> dict[str, gym.Space[Any]]:
        """The block and its presence; bounds include 0, for absent rows."""
        ends = zip((self.source.low, self.source.high), age_bounds(self.most_age), strict=True)
        low, high = (np.concatenate([own, age], dtype=np.float32) for own, age in ends)
        low, high = (np.tile(bound, (self.capacity, 1)) for bound in (np.minimum(low, 0), np.maximum(high, 0)))
        flags = spaces.MultiBinary(self.capacity)
        return {self.name: spaces.Box(low, high, dtype=np.float32), self.name + PRESENT: flags}


class PastSteps(RememberedRows):
    """The rows of the last K steps, newest first: slot ``k * N + i`` holds slot i of k + 1 steps ago."""

    def __init__(self, n_envs: int, source: Source, steps: int) -> None:
        super().__init__(PAST + source.name, source, steps * source.capacity, steps)
        self.columns = age_columns(np.repeat(np.arange(1, steps + 1), source.capacity), steps)
        self.rows = np.zeros((n_envs, self.capacity, len(source.features)), np.float32)
        self.present = np.zeros((n_envs, self.capacity), bool)
        self.forgotten = np.zeros(n_envs, np.int64)

    def remember(self, obs: Observation, deed: np.ndarray) -> None:
        """Put a step of all environments into the past."""
        x, present = self.source.rows(obs, deed)
        n = self.source.capacity
        self.forgotten += self.present[:, -n:].sum(1)
        self.rows = np.concatenate([x, self.rows[:, :-n]], axis=1)
        self.present = np.concatenate([present, self.present[:, :-n]], axis=1)

    def forget(self, which: Which) -> None:
        """Clear the memory of some environments."""
        self.rows[which], self.present[which], self.forgotten[which] = 0, False, 0

    def recall(self, obs: Observation, which: Which) -> tuple[np.ndarray, np.ndarray]:
        """What some environments remember: features (n,M,F+A) and presence (n,M)."""
        present = self.present[which]
        return with_ages(self.rows[which], present, self.columns), present.astype(np.int8)

    def slot(self, age: int, slot: int) -> int:
        """Where the row is that was in a slot so many steps ago; -1: it is none of these."""
        n = self.source.capacity
        return (age - 1) * n + slot if 0 < age <= self.capacity // n else -1


class Sightings(RememberedRows):
    """The last sighting of each thing; those that are seen now stay in the store, and are hidden when it is recalled.

    Args:
        identity: features by which a thing is recognised; none: every row that was seen is a sighting of its own.
    """

    def __init__(self, n_envs: int, source: Source, sightings: int, identity: Sequence[str]) -> None:
        super().__init__(UNSEEN + source.name, source, sightings, MOST_AGE)
        known = identity if set(identity) <= set(source.features) else ()
        self._identity = [source.features.index(name) for name in known]
        slots = sightings + source.capacity  # what is seen now takes no slot away from what is not
        self.rows = np.zeros((n_envs, slots, len(source.features)), np.float32)
        self.ages = np.zeros((n_envs, slots), np.int64)  # 0 = empty
        self.forgotten = np.zeros(n_envs, np.int64)

    def remember(self, obs: Observation, deed: np.ndarray) -> None:
        """Put a step of all environments into the past: what is seen replaces its last sighting."""
        x, present = self.source.rows(obs, deed)
        older = np.where((self.ages > 0) & ~self._seen(self.rows, x, present), self.ages + 1, 0)
        rows, ages = np.concatenate([x, self.rows], axis=1), np.concatenate([present * 1, older], axis=1)
        self.rows, self.ages, lost = _youngest(rows, ages, self.ages.shape[1])
        self.forgotten += lost

    def forget(self, which: Which) -> None:
        """Clear the memory of some environments."""
        self.rows[which], self.ages[which], self.forgotten[which] = 0, 0, 0

    def recall(self, obs: Observation, which: Which) -> tuple[np.ndarray, np.ndarray]:
        """What some environments remember and do not see now: features (n,M,F+A) and presence (n,M)."""
        x, present = self.source.rows(obs, np.zeros((0, 0)))
        unseen = np.where(self._seen(self.rows[which], x, present), 0, self.ages[which])
        rows, ages, _ = _youngest(self.rows[which], unseen, self.capacity)
        columns = age_columns(np.minimum(ages, MOST_AGE), MOST_AGE)
        return with_ages(rows, ages > 0, columns), (ages > 0).astype(np.int8)

    def slot(self, age: int, slot: int) -> int:
        """Nobody knows where a sighting went."""
        return -1

    def _seen(self, rows: np.ndarray, x: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Which rows (n,M,F) are of things among those of x (n,N,F) that are ``present`` (n,N): (n,M)."""
        if not self._identity:
            return np.zeros(rows.shape[:2], bool)
        same = (rows[:, :, None, self._identity] == x[:, None, :, self._identity]).all(-1)
        seen: np.ndarray = (same & present[:, None]).any(-1)
        return seen


def with_ages(rows: np.ndarray, present: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """Rows (n,M,F) and the columns of their ages (M,A) or (n,M,A), side by side; zero where not ``present`` (n,M)."""
    ages = np.broadcast_to(ages, (*rows.shape[:2], ages.shape[-1]))
    return np.where(present[..., None], np.concatenate([rows, ages], axis=2), np.float32(0))


def _youngest(rows: np.ndarray, ages: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows (n,M,F) of the lowest ages (n,M), where 0 is none, youngest first; and how many more there were."""
    there = ages > 0
    order = np.argsort(np.where(there, ages, np.iinfo(ages.dtype).max), axis=1, kind="stable")[:, :most]
    lost = np.maximum(there.sum(1) - most, 0)
    return np.take_along_axis(rows, order[..., None], 1), np.take_along_axis(ages, order, 1), lost
