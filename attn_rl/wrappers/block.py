"""Any number of rows -> a block of declared capacity with presence flags; nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from gymnasium import spaces

from attn_rl.observation_size import check_slots

Overflow = Literal["error", "nearest"]


class PaddedRows(NamedTuple):
    """Rows in a block of capacity N.

    Attributes:
        x: (N,F) float32; absent rows zero.
        present: (N,) int8, 1 = there.
        kept: which of the given rows the first slots hold, in order: (K,) int64.
        dropped: how many of the given rows found no slot.
    """

    x: np.ndarray
    present: np.ndarray
    kept: np.ndarray
    dropped: int


class EntityBlock:
    """A block of N slots and F features that takes a varying number of entities.

    Args:
        name: name of the entity type, the block's key in the observation.
        features: names of the F features.
        capacity: number of slots N.
        low: lower bounds (F,), or one for all.
        high: upper bounds.
        overflow: more entities than capacity: ``"error"`` raises, ``"nearest"`` keeps those N whose features ``by``
            have the smallest Euclidean norm (in the order they came in) and says how many it dropped.
        by: features for ``"nearest"``, e.g. ``("dx", "dy")``: coordinates relative to the ego, or a distance.

    Raises:
        ValueError: a capacity below 1, names that are not distinct, or ``overflow`` and ``by`` that do not go together.
    """

    def __init__(
        self,
        name: str,
        features: Sequence[str],
        capacity: int,
        low: np.ndarray | float = -np.inf,
        high: np.ndarray | float = np.inf,
        overflow: Overflow = "error",
        by: str | Sequence[str] | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"{name!r}: capacity={capacity}; expected 1 or more slots")
        if not features:
            raise ValueError(
                f"{name!r} has no features; give entities that merely exist one constant feature (a column of ones), "
                "or leave them out of the observation"
            )
        check_slots(name, int(capacity), len(features))
        if len(set(features)) != len(features):
            raise ValueError(f"{name!r}: features={tuple(features)}; expected one distinct name per feature")
        self.name, self.features, self.capacity = name, tuple(features), int(capacity)
        self.low = np.broadcast_to(np.asarray(low, np.float32), (len(features),))
        self.high = np.broadcast_to(np.asarray(high, np.float32), (len(features),))
        self._by = self._columns(overflow, (by,) if isinstance(by, str) else by)

    @property
    def counts(self) -> bool:
        """Whether surplus entities are dropped and counted, rather than refused."""
        return self._by is not None

    @property
    def spaces(self) -> dict[str, spaces.Space[object]]:
        """The block and its presence, as the keys of a Dict space. Bounds include 0, for absent rows."""
        shape = (self.capacity, len(self.features))
        low = np.broadcast_to(np.minimum(self.low, 0), shape).copy()
        high = np.broadcast_to(np.maximum(self.high, 0), shape).copy()
        return {
            self.name: spaces.Box(low, high, dtype=np.float32),
            f"{self.name}_present": spaces.MultiBinary(self.capacity),
        }

    def pad(self, rows: np.ndarray | Sequence[object]) -> PaddedRows:
        """Put n entities into the slots; none at all is legal.

        Args:
            rows: (n,F); for n = 0 also an empty sequence.

        Raises:
            ValueError: another shape, a NaN or inf, or n > N with ``overflow="error"``.
        """
        rows = self._checked(rows)
        kept = np.arange(len(rows)) if len(rows) <= self.capacity else self._nearest(rows)
        x = np.zeros((self.capacity, len(self.features)), np.float32)
        present = np.zeros(self.capacity, np.int8)
        x[: len(kept)], present[: len(kept)] = rows[kept], 1
        return PaddedRows(x, present, kept, len(rows) - len(kept))

    def _columns(self, overflow: str, by: Sequence[str] | None) -> list[int] | None:
        if overflow not in ("error", "nearest"):
            raise ValueError(f"{self.name!r}: overflow={overflow!r}; expected 'error' or 'nearest'")
        if overflow == "error" and by is not None:
            raise ValueError(f"{self.name!r}: by={tuple(by)} needs overflow='nearest'; add it, or leave by out")
        if overflow == "error":
            return None
        if not by or not set(by) <= set(self.features):
            raise ValueError(
                f"{self.name!r}: overflow='nearest' with by={by and tuple(by)}; expected by=, one or more of the "
                f"features {self.features}, relative to the ego"
            )
        return [self.features.index(feature) for feature in by]

    def _checked(self, rows: np.ndarray | Sequence[object]) -> np.ndarray:
        rows = np.asarray(rows, np.float32)
        width = len(self.features)
        if rows.shape == (0,):
            return rows.reshape(0, width)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(
                f"{self.name!r}: got entities of shape {rows.shape}; expected (n, {width}), one row per entity, "
                f"features {self.features}"
            )
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            raise ValueError(
                f"{self.name!r}: entity {row} has {rows[row, column]} in feature {self.features[column]!r}; an entity "
                "that is there needs finite features: repair the environment, or leave the entity out"
            )
        return rows

    def _nearest(self, rows: np.ndarray) -> np.ndarray:
        if self._by is None:
            raise ValueError(
                f"{self.name!r}: {len(rows)} entities do not fit into capacity={self.capacity}; pass "
                f"capacity={len(rows)} or more, or overflow='nearest' with by=(features relative to the ego), "
                "which keeps the nearest and counts the rest"
            )
        distance = np.linalg.norm(rows[:, self._by], axis=1)
        return np.sort(np.argsort(distance, kind="stable")[: self.capacity])
