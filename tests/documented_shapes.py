"""Docstrings that are executed: a call is held against the shapes that the function's documentation states."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor

SHAPE = re.compile(r"\(((?:\.\.\.|\w+)(?:, ?\w+)*,?)\)")  # (B,N,F), (..., Q, d_k), (B,)
ENTRY = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)  # one argument and what is said of it

Lengths = dict[str, int]


class Undocumented(AssertionError):
    """A tensor has another shape than the documentation says."""


def checked(function: Callable[..., Any], said_of: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Wrap a function so that every call compares tensors with the shapes in its Google docstring.

    ``(..., Q, d_k)`` in an argument's entry is its shape; several shapes are those of a tuple's tensors, in order; a
    mapping's values follow the entry each, with the lengths that end in ``_t`` its own. One letter is one length in
    the whole call; ``...`` are any leading dimensions. "boolean" is checked, and "broadcast" lets a tensor be smaller.

    Args:
        function: to be called.
        said_of: whose docstring counts: of an override, what it overrides; None: its own.
    """
    arguments, returned = documented(said_of or function)
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        lengths: Lengths = {}
        given = signature.bind(*args, **kwargs).arguments
        late = [name for name in arguments if "broadcast" in arguments[name]]  # against lengths that others state
        for name in [*(n for n in arguments if n not in late), *late]:
            compare(name, given.get(name), arguments[name], lengths)
        result = function(*args, **kwargs)
        compare("what is returned", result, returned, lengths)
        return result

    return call


def documented(function: Callable[..., Any]) -> tuple[dict[str, str], str]:
    """What the docstring says of each argument that has a shape, and of what is returned."""
    text = inspect.getdoc(function) or ""
    sections = dict(re.findall(r"^(Args|Returns):\n((?:    .*\n?|\n)+)", text, re.MULTILINE))
    entries = dict(ENTRY.findall(sections.get("Args", "")))
    return {name: said for name, said in entries.items() if SHAPE.search(said)}, sections.get("Returns", "")


def compare(name: str, value: Any, said: str, lengths: Lengths) -> None:
    """Hold a tensor, a tuple of them or a mapping to such against what is said of it; new letters get their lengths."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            compare(f"{name}[{key!r}]", part, said, own := {k: n for k, n in lengths.items() if not k.endswith("_t")})
            lengths |= {k: n for k, n in own.items() if not k.endswith("_t")}
        return
    shapes = SHAPE.findall(said)
    for i, part in enumerate(value if isinstance(value, tuple) else (value,)):
        if isinstance(part, Tensor):
            compare_one(name, part, shapes[i], said, lengths)


def compare_one(name: str, tensor: Tensor, shape: str, said: str, lengths: Lengths) -> None:
    letters = [letter.strip() for letter in shape.split(",") if letter.strip()]
    leading, letters = letters[0] == "...", [letter for letter in letters if letter != "..."]
    sizes = dict(zip(letters[::-1], tensor.shape[::-1], strict=False))
    smaller = "broadcast" in said
    fits = smaller or (tensor.ndim >= len(letters) if leading else tensor.ndim == len(letters))
    fits &= all(size == lengths.get(letter, size) or (smaller and size == 1) for letter, size in sizes.items())
    if not fits:
        known = {letter: lengths[letter] for letter in letters if letter in lengths}
        raise Undocumented(f"{name} has shape {tuple(tensor.shape)}; its documentation says ({shape}), with {known}")
    if said.startswith("boolean") and tensor.dtype != torch.bool:
        raise Undocumented(f"{name} is {tensor.dtype}; its documentation says boolean")
    if not smaller:
        lengths |= sizes
