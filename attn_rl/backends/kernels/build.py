"""Compile the kernels on this machine, once, and load them."""

from __future__ import annotations

import ctypes
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from attn_rl.backends.kernels.cache import compiled, load
from attn_rl.backends.kernels.structures import FAILURES, FUNCTIONS, header
from attn_rl.backends.kernels.switch import is_on

SOURCE = Path(__file__).with_name("kernels.cpp")
HEADERS = sorted(SOURCE.parent.glob("*.h"))
FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread"),
    # What -ffast-math stands for, less two things: NaN and inf stay what they are, and loading the library does not
    # switch denormal numbers off for the whole thread (-ffast-math with -shared links crtfastmath.o).
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math"),
)
SWITCH = "ATTN_RL_FUSED"
"""Environment variable; 0, false, off or no: never use the kernels."""


def library() -> ctypes.CDLL:
    """The compiled kernels, where :func:`why_not` has nothing against them."""
    found = _loaded()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def why_not() -> str | None:
    """Why there are no kernels on this machine, None where there are."""
    found = _loaded()
    return found if isinstance(found, str) else None


@cache
def _loaded() -> ctypes.CDLL | str:
    """The kernels, or why there are none; where they cannot be compiled or loaded a warning says so, once.

    Nothing but speed depends on them. They are compiled by ``$CXX`` (or c++, g++, clang++) into the user's cache
    folder, under a name that stands for source, compiler and processor: none is loaded where it was not compiled for.

    Raises:
        ValueError: the switch is neither on nor off.
    """
    if not is_on(SWITCH):
        return f"{SWITCH} switches the kernels off"
    try:
        loaded = load(compiled([SOURCE, *HEADERS], FLAGS, generated={"structures.h": header()}), tuple(FUNCTIONS))
    except OSError as error:
        warnings.warn(f"the kernels are left out, since {error}; {SWITCH}=0 silences this", stacklevel=2)
        return str(error)
    for name, taken in FUNCTIONS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype, function.errcheck = [ctypes.POINTER(taken)], ctypes.c_int64, _checked
    return loaded


def _checked(result: int, function: Any, arguments: Any) -> int:
    """What a kernel returns.

    Raises:
        MemoryError, RuntimeError: it failed.
    """
    if result < 0:
        error, words = FAILURES[result]
        raise error(words.format(repr(function.__name__)))
    return result
