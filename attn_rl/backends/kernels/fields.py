"""Structures that cross into C++, declared once for both sides."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple


class FieldType(NamedTuple):
    """A field as either side declares it."""

    python: Any
    cpp: str


INT = FieldType(ctypes.c_int64, "int64_t")
FLOAT = FieldType(ctypes.c_float, "float")
FLOATS = FieldType(ctypes.c_void_p, "const float*")
INTS = FieldType(ctypes.c_void_p, "const int64_t*")
BYTES = FieldType(ctypes.c_void_p, "const int8_t*")
TO_FLOATS = FieldType(ctypes.c_void_p, "float*")
TO_INTS = FieldType(ctypes.c_void_p, "int64_t*")
TO_PASS = FieldType(ctypes.c_void_p, "struct Pass**")
TO_EVALUATION = FieldType(ctypes.c_void_p, "struct Evaluation**")


class Structure(ctypes.Structure):
    """A structure that takes keywords only."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)


STRUCTURES: list[type[Structure]] = []
CPP_FIELDS: dict[type[Structure], dict[str, str]] = {}


def structure(name: str, doc: str, **fields: FieldType) -> Any:
    """Declare a structure for both sides; ``doc`` becomes its comment."""
    declared = [(field, kind.python) for field, kind in fields.items()]
    made = type(name, (Structure,), {"_fields_": declared, "__doc__": doc})
    STRUCTURES.append(made)
    CPP_FIELDS[made] = {field: kind.cpp for field, kind in fields.items()}
    return made


def inside(kind: type[Structure]) -> FieldType:
    """A structure within a structure."""
    return FieldType(kind, kind.__name__)


def array_of(kind: type[Structure]) -> FieldType:
    """The address of an array of structures."""
    return FieldType(ctypes.c_void_p, f"const {kind.__name__}*")
