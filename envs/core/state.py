"""The games of n environments, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import numpy as np

from .types import BoolArray, FloatArray


class State(SimpleNamespace):
    """The games of n environments: every attribute is an array with n rows."""

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (name, array) pairs."""
        yield from vars(self).items()

    def row(self, i: int) -> State:
        """Return the game of environment i: the same attributes without the batch axis."""
        return State(**{name: value[i] for name, value in self.arrays()})

    def copy(self) -> State:
        """Return a copy that shares no array."""
        return State(**{name: value.copy() for name, value in self.arrays()})


class Outcome(NamedTuple):
    """What one step brought, for n environments.

    Attributes:
        reward: (n,) float.
        terminated: (n,) bool.
        success: (n,) bool.
        scores: further (n,) float figures by name, reported in the info of an episode's last step.
    """

    reward: FloatArray
    terminated: BoolArray
    success: BoolArray
    scores: Mapping[str, np.ndarray] = MappingProxyType({})
