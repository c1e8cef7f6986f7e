"""The process's random number generators, as JSON."""

from __future__ import annotations

import base64
import math
import random
from typing import Any

import numpy as np
import torch

NAMES = ("python", "numpy", "torch")
BIT_GENERATORS = {"PCG64": ("state", "inc"), "PCG64DXSM": ("state", "inc"), "MT19937": ("key", "pos")}
"""NumPy's bit generators that a file may put back, and what their state holds."""


def get_generators() -> dict[str, Any]:
    """State of Python's, NumPy's global and torch's generators."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states = {
        "python": [version, list(words), gauss],
        "numpy": [name, [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": _encode(torch.get_rng_state()),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = [_encode(state) for state in torch.cuda.get_rng_state_all()]
    return states


def set_generators(states: dict[str, Any]) -> None:
    """Put the generators where :func:`get_generators` found them."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_decode(states["torch"]))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([_decode(state) for state in states["cuda"]])


def why_no_generators(states: object) -> str | None:
    """Why a value out of a file is no state of the process's generators; None: it is one.

    NumPy and torch check little: a position outside the generator's words would be read from foreign memory.
    """
    if not isinstance(states, dict) or not {"python", "numpy", "torch"} <= states.keys() <= {*NAMES, "cuda"}:
        return f"expected the states of {NAMES}"
    try:
        version, words, gauss = states["python"]
        random.Random().setstate((version, tuple(words), gauss))
        name, keys, position, has_gauss, cached = states["numpy"]
        torch.Generator().set_state(_decode(states["torch"]))
        for state in states.get("cuda", ()):
            _decode(state)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        return str(error)
    if name != "MT19937" or has_gauss not in (0, 1) or type(cached) is not float or not math.isfinite(cached):
        return "NumPy's is no MT19937 with a cached number"
    if gauss is not None and type(gauss) is not float:
        return "Python's cached number is none"
    return _why_no_words(keys, 624, 32) or (None if _is_whole(position, 624) else f"NumPy's stands at {position!r}")


def why_no_bit_generator(state: Any) -> str | None:
    """Why a value out of a file is no state of one of NumPy's bit generators; None: it is one."""
    kind = str(state.get("bit_generator")) if isinstance(state, dict) else ""
    inner = state.get("state") if kind in BIT_GENERATORS else None
    if not isinstance(inner, dict) or sorted(inner) != sorted(BIT_GENERATORS[kind]):
        return f"it is {kind!r}; expected the whole state of one of {sorted(BIT_GENERATORS)}"
    if kind == "MT19937":
        return _why_no_words(inner["key"], 624, 32) or (None if _is_whole(inner["pos"], 624) else "it stands nowhere")
    rest = {"has_uint32": 1, "uinteger": (1 << 32) - 1}
    if not all(_is_whole(inner[name], (1 << 128) - 1) for name in inner) or inner["inc"] % 2 == 0:
        return "its words are no 128-bit numbers, or its increment is even"
    if state.keys() != {"bit_generator", "state", *rest} or not all(_is_whole(state[n], rest[n]) for n in rest):
        return "the rest of its state is impossible"
    return None


def _why_no_words(words: object, count: int, bits: int) -> str | None:
    if isinstance(words, np.ndarray):
        words = words.tolist()
    if not isinstance(words, list) or len(words) != count or not all(_is_whole(w, (1 << bits) - 1) for w in words):
        return f"expected {count} numbers of {bits} bits"
    return None


def _is_whole(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _encode(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _decode(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
