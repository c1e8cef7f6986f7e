"""Whether modules are still what they were when somebody looked."""

from __future__ import annotations

from itertools import chain
from typing import Any

from torch import Tensor, nn

from attn_rl.nn.stages import GLOBAL_HOOKS, hooks_of

OF_EVERY_MODULE = frozenset(vars(nn.Module()))
PASSING = frozenset({"collecting"})
"""Settings that change from pass to pass and are asked for at each."""


class Snapshot:
    """What some modules consist of, numbers in tensors apart: classes, parts, settings, hooks, and where weights lie.

    Args:
        modules: the modules, without those inside them.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        self._modules = modules
        self._vars = [vars(module) for module in modules]
        self._parts: list[dict[str, Any]] = [
            part for module in modules for part in (module._modules, module._parameters, module._buffers)
        ]
        self._hooks = [*chain.from_iterable(map(hooks_of, modules)), *GLOBAL_HOOKS]
        own = (x for module in modules for x in (*module._parameters.values(), *module._buffers.values()))
        self._tensors = [x for x in own if x is not None]
        self._settings = [(found, name) for found in self._vars for name in found.keys() - OF_EVERY_MODULE - PASSING]
        self._taken = self._facts()

    def _facts(self) -> tuple[list[Any], ...]:
        return (
            [*map(type, self._modules)],
            [*map(len, self._vars)],  # one more may be a method that somebody replaced
            [*map(id, chain.from_iterable([part.values() for part in self._parts]))],
            [*map(len, self._hooks)],
            [*map(Tensor.data_ptr, self._tensors)],
            [found[name] for found, name in self._settings],
        )

    def holds(self) -> bool:
        """Whether nothing has changed, not even a number such as ``eps``; weights may have moved."""
        try:
            return self._facts() == self._taken
        except (KeyError, RuntimeError, ValueError):  # a setting is gone, or cannot be compared
            return False
