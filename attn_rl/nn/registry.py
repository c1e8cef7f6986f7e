"""Parts by name: a registry is a dictionary that anybody may add to."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def look_up(setting: str, name: str, registry: Mapping[str, T]) -> T:
    """The entry of that name.

    Raises:
        ValueError: there is none; the message names the setting, what there is, and the nearest name.
    """
    if name in registry:
        return registry[name]
    near = difflib.get_close_matches(str(name), registry, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{setting}={name!r} is unknown; {hint}choose one of {tuple(registry)}, or register it first")
