"""The eight symmetries of the square: an instance in the plane, turned and mirrored, is the same instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from attn_rl.entities import env_metadata

View = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""From a batch of observations to the same one, turned or mirrored."""


def find_views(env: Any) -> list[View]:
    """The eight views of an environment that declares ``metadata["symmetries"]["square"]``, itself first; else none.

    Declared are pairs of features per block that turn and mirror together, about the origin:
    ``{"square": {"ego": (("x", "y"),), "cities": (("x", "y"), ("dx", "dy"))}}``. Actions must not name directions.

    Raises:
        ValueError: another group than ``"square"``, or features that the environment does not name.
    """
    metadata = env_metadata(env)
    declared = metadata.get("symmetries", {})
    if unknown := sorted(set(declared) - {"square"}):
        raise ValueError(f'metadata["symmetries"] has {unknown}; expected "square", the only one that is known')
    names = metadata.get("entities", {})
    columns = {key: [_find(pair, key, names) for pair in pairs] for key, pairs in declared.get("square", {}).items()}
    turns = list(product((False, True), (1, -1), (1, -1)))
    return [_view(columns, *turn) for turn in turns] if columns else []


def _find(pair: Sequence[str], key: str, names: Mapping[str, Sequence[str]]) -> tuple[int, int]:
    known = list(names.get(key, ()))
    if len(pair) != 2 or not set(pair) <= set(known):
        raise ValueError(f'metadata["symmetries"] names {tuple(pair)} of {key!r}; expected two of its features {known}')
    return known.index(pair[0]), known.index(pair[1])


def _view(columns: Mapping[str, list[tuple[int, int]]], swap: bool, sign_x: int, sign_y: int) -> View:
    def view(obs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen = dict(obs)
        for key, pairs in columns.items():
            seen[key] = obs[key].copy()
            for x, y in pairs:
                of_x, of_y = (y, x) if swap else (x, y)
                seen[key][..., x], seen[key][..., y] = sign_x * obs[key][..., of_x], sign_y * obs[key][..., of_y]
        return seen

    return view
