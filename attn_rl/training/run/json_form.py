"""JSON out of a file, held against the types that Python declares."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class WrongForm(ValueError):
    """A value of another type than declared."""


def from_json(value: Any, hint: object, name: str) -> Any:
    """A JSON value as what ``hint`` declares: lists become tuples, text becomes paths, whole numbers floats.

    Args:
        value: parsed JSON.
        hint: bool, int, float, str, None, Path, Literal, unions, list[...], tuple[...], dict or Mapping[str, ...], Any.
        name: for the message.

    Raises:
        WrongForm: naming the value, what it is and what is expected.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _from_union(value, inner, name, hint)
    if origin is Literal and any(type(value) is type(word) and value == word for word in inner):
        return value
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: from_json(each, inner[1], f"{name}[{key!r}]") for key, each in value.items()}
    if origin is list and isinstance(value, list):
        return [from_json(each, inner[0], f"{name}[{i}]") for i, each in enumerate(value)]
    if origin is tuple and isinstance(value, list) and (inner[-1] is Ellipsis or len(value) == len(inner)):
        hints = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(
            from_json(each, hint, f"{name}[{i}]") for i, (each, hint) in enumerate(zip(value, hints, strict=True))
        )
    if hint is float and _is_number(value):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint in (bool, int, str, type(None)) and type(value) is hint:
        return value
    raise WrongForm(f"{name} is {_shortened(value)}; expected {_spoken(hint)}")


def fields_from_json(cls: type, content: Mapping[str, object], name: str) -> dict[str, Any]:
    """The fields of a dataclass that JSON gives, as their types declare; what the class does not know is left out.

    Raises:
        WrongForm: a value of another type.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls) if field.name in content]
    return {key: from_json(content[key], hints[key], f"{name}.{key}") for key in known}


def _is_number(value: object) -> bool:
    return not math.isnan(value) if type(value) is float else type(value) is int and abs(value) <= sys.maxsize


def _from_union(value: object, hints: tuple[object, ...], name: str, union: object) -> object:
    for hint in hints:
        try:
            return from_json(value, hint, name)
        except WrongForm:
            continue
    raise WrongForm(f"{name} is {_shortened(value)}; expected {_spoken(union)}")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _spoken(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
