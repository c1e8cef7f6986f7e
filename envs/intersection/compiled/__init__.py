"""The frame of ``traffic.py`` in C++: the same games to the last bit, several times as fast."""

from __future__ import annotations

from ...core.state import State
from ..traffic import Traffic
from .traffic import CompiledTraffic, library


def play(state: State, frames: int) -> None:
    """Play some frames of all junctions, in C++ where that can be, else in NumPy."""
    (CompiledTraffic if why_not_compiled() is None else Traffic)(state).play(frames)


def why_not_compiled() -> str | None:
    """Say why there is no compiled frame on this machine; None where there is."""
    found = library()
    return found if isinstance(found, str) else None
