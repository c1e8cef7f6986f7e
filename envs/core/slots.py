"""Entity slots: their spaces, how many of them there are, and moving entities between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import gymnasium as gym
import numpy as np

from .state import State
from .types import IntArray

MOST_SLOTS = 1 << 20
"""Slots of one type of entity."""
MOST_BYTES = 1 << 32
"""Of the observations of all games side by side."""


def features(low: Sequence[float], high: Sequence[float], n_slots: int | None = None) -> gym.spaces.Box:
    """Return the float32 Box of one vector (F,), or of ``n_slots`` rows of it (n_slots, F).

    An absent row is zeros, so the bounds of rows are widened to include 0.
    """
    low_row, high_row = np.asarray(low, np.float32), np.asarray(high, np.float32)
    if n_slots is None:
        return gym.spaces.Box(low_row, high_row, dtype=np.float32)
    low_row, high_row = np.minimum(low_row, 0), np.maximum(high_row, 0)
    return gym.spaces.Box(np.tile(low_row, (n_slots, 1)), np.tile(high_row, (n_slots, 1)), dtype=np.float32)


def check_counts(
    min_entities: int, max_entities: int, capacity: int | None, least: int = 1, of: str | None = None
) -> int:
    """Return the number of slots, after checking ``least <= min_entities <= max_entities <= capacity``.

    Args:
        min_entities: fewest entities in an episode.
        max_entities: most entities in an episode.
        capacity: slots in the observation; None: as many as ``max_entities``.
        least: fewest entities the rules can work with.
        of: the type of entities, where there are several.

    Raises:
        ValueError: where the numbers do not fit together, with a hint.
    """
    capacity = max_entities if capacity is None else capacity
    where = "" if of is None else f"{of}: "
    if min_entities < least:
        raise ValueError(f"{where}min_entities={min_entities} is too few for these rules; pass {least} or more")
    if min_entities > max_entities:
        raise ValueError(
            f"{where}min_entities={min_entities} exceeds max_entities={max_entities}; "
            f"pass max_entities={min_entities} or more, or a smaller min_entities"
        )
    if max_entities > capacity:
        raise ValueError(
            f"{where}max_entities={max_entities} exceeds capacity={capacity}; pass capacity={max_entities} or more"
        )
    if capacity > MOST_SLOTS:
        given = "max_entities" if capacity == max_entities else "capacity"
        raise ValueError(f"{where}{given}={capacity:,}; expected at most {MOST_SLOTS:,}: more only fill the memory")
    if capacity < 1:
        raise ValueError(f"{where}capacity={capacity}; a block needs at least one slot, filled or not")
    return capacity


def per_type(argument: str, given: int | Mapping[str, int] | None, default: Mapping[str, int]) -> dict[str, int]:
    """Return a number for each type of entity.

    Args:
        argument: its name, for the error message.
        given: a mapping (missing types: the default), one number for all types, or None: the default.
        default: for each type there is.

    Raises:
        ValueError: for a type that does not exist.
    """
    if isinstance(given, (int, np.integer)):
        return dict.fromkeys(default, int(given))
    chosen = dict(given or {})
    if unknown := sorted(set(chosen) - set(default)):
        raise ValueError(f"{argument} names {unknown}; expected some of {list(default)}")
    return {**default, **chosen}


def all_inside(space: gym.Space[object], actions: np.ndarray) -> bool:
    """Say whether a batch of actions lies in the space of one."""
    if isinstance(space, gym.spaces.Box):
        return bool(((actions >= space.low) & (actions <= space.high)).all())
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        most = space.n if isinstance(space, gym.spaces.Discrete) else space.nvec
        return actions.dtype.kind in "iu" and bool(((actions >= 0) & (actions < most)).all())
    return all(space.contains(action) for action in actions)


def reorder(state: State, order: IntArray, arrays: Iterable[str], slots: Iterable[str] = ()) -> None:
    """Move entities to new slots, in place: new slot j holds what was in slot ``order[:, j]``.

    Args:
        state: the games of n environments.
        order: (n, N) int64, a permutation per row, as ``RandomStream.order`` draws it.
        arrays: names of the (n, N, ...) arrays to move.
        slots: names of (n,) arrays that hold the slot of an entity (-1: none), which follow it.
    """
    rows = np.arange(len(order))[:, None]
    for name in arrays:
        setattr(state, name, getattr(state, name)[rows, order])
    for name in slots:
        old = getattr(state, name)
        setattr(state, name, np.where(old < 0, -1, np.argmax(order == old[:, None], axis=1)))
