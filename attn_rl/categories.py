"""Categories: features whose numbers are names, checked and in one form; each becomes one column per value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

Categories = Mapping[str, Mapping[str, Any]]
"""Observation key -> feature -> names of its values, or how many there are, or None: as many as an integer Box has."""
Checked = dict[str, dict[str, tuple[str, ...]]]
"""Observation key -> feature -> names of its values."""
MOST_VALUES = 4096
"""Of one feature: each is a column of the network's input."""
SHOWN = 8
"""Names to list of a long list."""
HOW = 'expected a mapping of mappings, such as {"cells": {"colour": ("red", "green"), "state": 3}}'


def check_categories(
    names: Mapping[str, tuple[str, ...]],
    columns: Mapping[str, tuple[str, ...]],
    boxes: Mapping[str, spaces.Space[Any]],
    categories: Categories,
) -> Checked:
    """Name every value of every category.

    Args:
        names: feature names per observation key.
        columns: names of all columns of its Box: of the features, and of presence where that is one of them.
        boxes: the space of each key.
        categories: as declared.

    Raises:
        ValueError: another form, an unknown key or feature, names that are not distinct, no or too many values.
    """
    if not isinstance(categories, Mapping):
        raise ValueError(f"categories is {categories!r}; {HOW}")
    found: Checked = {}
    for key, features in categories.items():
        if key not in names:
            raise ValueError(f"categories[{key!r}]: there is no such key; expected one of {sorted(names)}")
        if not isinstance(features, Mapping):
            raise ValueError(f"categories[{key!r}] is {features!r}; {HOW}")
        found[key] = {}
        for feature, given in features.items():
            where = f"categories[{key!r}][{feature!r}]"
            if feature not in names[key]:
                raise ValueError(f"{where}: there is no such feature; expected one of {names[key]}")
            found[key][feature] = _values(where, given, boxes[key], columns[key].index(feature))
    return {key: features for key, features in found.items() if features}


def _values(where: str, given: Any, box: Any, column: int) -> tuple[str, ...]:
    """The names of all values of one feature."""
    if given is None:
        low, high = box.low[..., column].min(), box.high[..., column].max()
        if not np.issubdtype(box.dtype, np.integer) or low != 0:
            what = f"the Box is {box.dtype} from {low:g} to {high:g}"
            raise ValueError(f"{where} is None, but {what}; expected integers from 0, or the names of the values")
        given = int(high) + 1
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        if not 1 <= given <= MOST_VALUES:
            raise ValueError(f"{where} is {given}; expected 1 to {MOST_VALUES} values")
        return tuple(map(str, range(given)))
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"{where} is {given!r}; expected the names of the values, or how many there are")
    if not 1 <= len(given) <= MOST_VALUES or len(set(given)) < len(given):
        raise ValueError(f"{where} has {len(given)} names; expected 1 to {MOST_VALUES} distinct ones, value by value")
    return tuple(given)


def describe_values(values: Sequence[str]) -> str:
    """What a message says is expected: ``"a whole number from 0 to 2 (red, green, blue)"``."""
    listed = ", ".join(values[:SHOWN]) + (", ..." if len(values) > SHOWN else "")
    return f"a whole number from 0 to {len(values) - 1} ({listed})"


def expanded_names(names: Sequence[str], values: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Names of the columns, one for each value of a category: ``("dx", "colour=red", "colour=green")``."""
    return tuple(name for feature in names for name in value_names(feature, values.get(feature)))


def value_names(feature: str, values: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the columns that one feature becomes: its own where it is a number."""
    return (feature,) if values is None else tuple(f"{feature}={value}" for value in values)


def one_hot_places(names: Sequence[str], values: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
    """Which of the columns of :func:`expanded_names` belong to categories."""
    places: list[int] = []
    width = 0
    for name in names:
        n = len(values.get(name, ()))
        places += range(width, width + n)
        width += n or 1
    return tuple(places)


def expand(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Put one column per value, 1 where it has that value, in the place of every category.

    Args:
        x: (...,F).
        sizes: per feature, its number of values; 0 = a number, which stays.

    Returns:
        float32 (...,F'). A category of another value than these becomes zeros.
    """
    parts, first = [], 0
    for i, size in enumerate(sizes):
        if size:
            if first < i:
                parts.append(x[..., first:i].float())
            parts.append((x[..., i : i + 1] == torch.arange(size, device=x.device)).float())
            first = i + 1
    if first < len(sizes):
        parts.append(x[..., first:].float())
    return torch.cat(parts, -1)


def refuse_unknown(
    key: str, x: Tensor, columns: Sequence[str], values: Mapping[str, Sequence[str]], present: Tensor | None
) -> None:
    """Raise where a category in a row that is there has a value that it cannot have.

    Args:
        key: of the observation.
        x: (B,F) or (B,N,F).
        columns: names of its F columns.
        values: of its categories.
        present: (B,N) boolean; None = all.
    """
    if (place := _find_unknown(x, [len(values.get(name, ())) for name in columns], present)) is not None:
        name = columns[place[-1]]
        owner = f"{key} {place[1]}" if len(place) > 2 else key
        raise ValueError(
            f"category {name!r} of {owner} is {x[place].item():g} in observation {place[0]}; "
            f"expected {describe_values(values[name])}"
        )


def _find_unknown(x: Tensor, sizes: Sequence[int], present: Tensor | None) -> tuple[int, ...] | None:
    """The place of a category in x (...,F) that is none of its values, in a row that is there; None = there is none.

    Args:
        x, sizes: as for :func:`expand`.
        present: (...) boolean; None = all.
    """
    columns = [i for i, size in enumerate(sizes) if size]
    values = x[..., columns]
    highest = torch.tensor([sizes[i] for i in columns], device=x.device)
    known = (values >= 0) & (values < highest) & (values == values.round() if values.is_floating_point() else True)
    wrong = ~known if present is None else ~known & present.unsqueeze(-1)
    if not wrong.any():
        return None
    *place, column = wrong.nonzero()[0].tolist()
    return (*place, columns[column])
