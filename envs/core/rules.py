"""What an environment has to define: its rules, over the games of many environments at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from .drawing import Canvas
from .randomness import RandomStream
from .state import Outcome, State
from .types import FloatArray, IntArray


class Rules(ABC):
    """The rules of n games side by side; ``state`` holds the games, one row each.

    n is the number of sub-environments, or fewer if only some begin a new episode. Besides the arrays that
    ``begin`` returns, a state has ``steps`` (n,) int64, the steps played so far; the caller counts
    them (after ``advance``, before ``shuffle`` and ``observe``).

    A batch equals its single environments bit for bit, so: draw only from ``random``, the same amount
    for every row; use elementwise operations, sorts and sums along the last axis, no matrix products
    (BLAS rounds differently for other batch sizes).

    Slots are counted over all entity types, in the order of the observation space (sorted by key).
    """

    @abstractmethod
    def begin(self, random: RandomStream) -> State:
        """Return ``len(random)`` new games: a state whose arrays have that many rows."""

    @abstractmethod
    def advance(self, state: State, actions: np.ndarray, random: RandomStream) -> Outcome:
        """Play one step of each game, changing ``state`` in place."""

    @abstractmethod
    def observe(self, state: State) -> dict[str, np.ndarray]:
        """Return the observation of each game: new float32 and int8 arrays, absent rows zero."""

    def shuffle(self, state: State, random: RandomStream) -> None:  # noqa: B027 (nothing is a fine default)
        """Give the entities new slots, after every ``begin`` and ``advance``; see ``reorder`` in ``slots.py``.

        Default: they keep their slots.
        """

    def relevant_slots(self, state: State) -> IntArray:
        """Return the slot of the decisive entity of each game, (n,) int64, -1 where there is none."""
        return np.full(len(state.steps), -1)

    def relevant_past_slots(self, state: State) -> IntArray:
        """Return where the decisive entity was before, where it is not seen now.

        Returns:
            (n, 2) int64: how many steps ago (0: nothing of the past decides), and in which slot, counted as in
            :meth:`relevant_slots`.
        """
        return np.zeros((len(state.steps), 2), np.int64)

    @abstractmethod
    def entity_places(self, state: State) -> FloatArray:
        """Return where each slot's entity is in the picture.

        Returns:
            (n, slots, 2) float64: x to the right, y upwards, both in [-1, 1] over the whole picture;
            NaN for an absent slot.
        """

    def ego_place(self, state: State) -> FloatArray:
        """Return where the ego is in the picture: (n, 2), in [-1, 1] (default: the centre)."""
        return np.zeros((len(state.steps), 2))

    @abstractmethod
    def draw(self, game: State, canvas: Canvas) -> None:
        """Draw one game; ``game`` is the state of one environment, without the batch axis."""

    @abstractmethod
    def oracle(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scripted policy's actions for a batched observation."""
