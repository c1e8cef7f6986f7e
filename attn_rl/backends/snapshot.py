"""Whether modules are still what they were when somebody looked."""

from __future__ import annotations

from itertools import chain
from operator import attrgetter, is_
from typing import Any

from torch import Tensor, nn

from attn_rl.compat import GLOBAL_HOOKS, hooks_of, parts_of

OF_EVERY_MODULE = frozenset(vars(nn.Module()))
PASSING = frozenset({"collecting"})
"""Settings that change from pass to pass and are asked for at each."""
UNREAD = frozenset({"pending_sum", "pending_square", "pending_count", "running_count"})
"""Buffers that no pass reads: where their numbers lie does not matter."""


FORWARD = attrgetter("forward")


class Snapshot:
    """What some modules consist of, numbers in tensors apart: classes, parts, settings, hooks, and where weights lie.

    Acting asks at every step, so that every question is one walk over a list in C.

    Args:
        modules: the modules, without those inside them.

    Attributes:
        tensors: their parameters, and buffers that take part in a pass.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        self._modules = modules
        self._vars = [vars(module) for module in modules]  # one more in them may be a method that somebody replaced
        parts = [part for module in modules for part in parts_of(module)]
        counted: list[dict[Any, Any]] = [*parts, *chain.from_iterable(map(hooks_of, modules)), *GLOBAL_HOOKS]
        self._empty = [found for found in counted if not found]  # most, and to see that they still are is quick
        self._filled = [found for found in counted if found]
        named = [(name, x) for part in parts for name, x in part.items() if isinstance(x, Tensor)]
        self.tensors = [x for name, x in named if name not in UNREAD]
        self._settings = [(found, name) for found in self._vars for name in found.keys() - OF_EVERY_MODULE - PASSING]
        self._parts = [(part, name) for part in parts for name in part]
        self._held = [part[name] for part, name in self._parts]
        self._classes = [*set(map(type, modules))]
        self._taken = self._facts()

    def _facts(self) -> tuple[Any, ...]:
        """What must stay equal; strides and numbers of elements stand for shapes."""
        return (
            [*map(len, self._filled)],
            [*map(type, self._modules)],
            [*map(FORWARD, self._classes)],
            [*map(len, self._vars)],
            [*map(Tensor.data_ptr, self.tensors)],
            [*map(Tensor.numel, self.tensors)],
            [*map(Tensor.stride, self.tensors)],
            [found[name] for found, name in self._settings],
        )

    def holds(self) -> bool:
        """Whether nothing has changed, not even a number such as ``eps``; weights may have moved."""
        try:
            same = all(map(is_, [part[name] for part, name in self._parts], self._held))
            return same and not any(self._empty) and self._facts() == self._taken
        except (KeyError, RuntimeError, ValueError):  # a setting is gone, or cannot be compared
            return False
