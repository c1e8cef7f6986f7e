"""What a policy is asked: one observation or a batch of them, checked before it is answered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from gymnasium import spaces

from attn_rl.categories import describe_values
from attn_rl.entities import ACTION_MASK, EntitySpec
from attn_rl.vec_envs.observation_form import GuardError, as_array, blocks_of, dtype_of, fits, naming, parts_of

MAX_ABS_OBSERVATION = 1e9
"""Bound where an observation space has none: squares of such features still fit float32."""

WHERE = "predict"
FINITE = f"a finite number of at most {MAX_ABS_OBSERVATION:g} in the ego and in every entity that is present"


def check_policy_input(obs: object, space: spaces.Space[object], spec: EntitySpec) -> None:
    """Raise where a policy could answer only nonsense.

    Absent rows may hold anything. Values beyond the bounds of the space pass: that is a question too.

    Args:
        obs: one observation, or a batch with a leading dimension in every block.
        space: of one environment.
        spec: the entities in it.

    Raises:
        GuardError: another key, shape or kind of dtype; presence or action mask other than 0 and 1; NaN, inf or a value
            beyond :data:`MAX_ABS_OBSERVATION` in the ego, in an entity that is present or in an edge that exists; an
            edge to a slot that there is not.
    """
    blocks, parts = blocks_of(obs, space, WHERE), parts_of(space)
    arrays = {key: _batched(blocks[key], part, key) for key, part in parts.items()}
    sizes = {key: "a single observation" if n is None else f"a batch of {n}" for key, (_, n) in arrays.items()}
    first = next(iter(sizes))
    for key, size in sizes.items():
        if size != sizes[first]:
            raise GuardError(f"{WHERE}: {first!r} is {sizes[first]}, {key!r} {size}; expected all alike", {})
    _check_flags({key: array for key, (array, _) in arrays.items()}, spec)
    _check_features({key: array for key, (array, _) in arrays.items()}, spec)
    _check_categories({key: array for key, (array, _) in arrays.items()}, spec)
    _check_edges({key: array for key, (array, _) in arrays.items()}, spec)


def _batched(value: object, part: spaces.Space[object], key: str) -> tuple[np.ndarray, int | None]:
    """The block with a leading dimension, and its size; None: it was a single one."""
    name = naming(key)
    block, dtype, shape = as_array(value, name, WHERE), dtype_of(part), part.shape or ()
    single = block.shape == shape
    if not (single or (block.ndim == len(shape) + 1 and block.shape[1:] == shape)) or not fits(block, dtype):
        many = f"(n, {', '.join(map(str, shape))})"
        raise GuardError(
            f"{WHERE}: {name} is {block.dtype} of shape {block.shape}, expected {dtype} of shape {shape} or {many}",
            {name: block},
        )
    return (block[None], None) if single else (block, len(block))


def _check_flags(arrays: Mapping[str, np.ndarray], spec: EntitySpec) -> None:
    flags = *(t.presence_key for t in spec.types), *(t.mask_key for t in spec.edges)
    for key in (*flags, *[ACTION_MASK] * spec.action_mask):
        if key is not None and (wrong := (arrays[key] != 0) & (arrays[key] != 1)).any():
            row, *place = np.argwhere(wrong)[0].tolist()
            value = arrays[key][row][tuple(place)]
            raise GuardError(f"{WHERE}: {_of(arrays, row)}{key!r}{place} is {value}; expected 0 or 1", dict(arrays))


def _check_features(arrays: Mapping[str, np.ndarray], spec: EntitySpec) -> None:
    rows = {t.name for t in spec.types} | {key for key, _ in spec.ego}
    for key, names in spec.names.items():
        if key not in rows:  # features of edges
            continue
        block = arrays["" if spec.plain else key]
        wrong = ~(np.abs(block) <= MAX_ABS_OBSERVATION)
        if wrong.any() and (place := _first(wrong, arrays, spec, key)) is not None:
            _refuse(arrays, key, place, f"feature {names[place[-1]]!r}", FINITE)


def _check_categories(arrays: Mapping[str, np.ndarray], spec: EntitySpec) -> None:
    for key, categories in spec.categories.items():
        block, names = arrays["" if spec.plain else key], spec.names[key]
        wrong = np.zeros(block.shape, bool)
        for name, values in categories.items():
            column = names.index(name)
            wrong[..., column] = ~is_category(block[..., column], len(values))
        if wrong.any() and (place := _first(wrong, arrays, spec, key)) is not None:
            name = names[place[-1]]
            _refuse(arrays, key, place, f"category {name!r}", describe_values(categories[name]))


def _check_edges(arrays: Mapping[str, np.ndarray], spec: EntitySpec) -> None:
    for edge_type in spec.edges:
        tensors = {key: torch.as_tensor(arrays[key]) for key in edge_type.keys}
        slots, x, exists = (part.numpy() for part in edge_type.split(tensors))
        for end, owner in enumerate((edge_type.source, edge_type.target)):
            capacity = spec.capacities.get(owner, 1)  # the ego is one
            if (wrong := exists & (slots[:, end] >= capacity)).any():
                row, edge = np.argwhere(wrong)[0].tolist()
                where = f"{WHERE}: {_of(arrays, row)}edge {edge} of {edge_type.name!r}"
                raise GuardError(
                    f"{where} ends at slot {slots[row, end, edge]} of {owner!r}, which has "
                    f"{capacity}; expected 0 to {capacity - 1}, or -1 for no edge",
                    dict(arrays),
                )
        if (wrong := ~(np.abs(x) <= MAX_ABS_OBSERVATION) & exists[..., None]).any():
            row, edge, column = np.argwhere(wrong)[0].tolist()
            what = f"feature {edge_type.features[column]!r} of {edge_type.name} {edge} is {x[row, edge, column]}"
            raise GuardError(f"{WHERE}: {_of(arrays, row)}{what}; expected {FINITE}", dict(arrays))


def is_category(x: np.ndarray, n: int) -> np.ndarray:
    """Where ``x`` is one of the whole numbers below ``n``; a boolean of its shape."""
    known: np.ndarray = (x >= 0) & (x < n) & (x == np.floor(x))
    return known


def _first(wrong: np.ndarray, arrays: Mapping[str, np.ndarray], spec: EntitySpec, key: str) -> tuple[int, ...] | None:
    """The first place that is wrong in the ego or in a row that is there."""
    for t in spec.types:
        if t.name == key and t.presence_key is not None:
            wrong = wrong & (arrays[t.presence_key] > 0.5)[..., None]
        elif t.name == key and t.presence_column is not None:
            flags = arrays["" if spec.plain else key][..., t.presence_column]
            wrong = wrong & ~(flags <= 0.5)[..., None]  # NaN excuses nothing
    return tuple(np.argwhere(wrong)[0].tolist()) if wrong.any() else None


def _refuse(arrays: Mapping[str, np.ndarray], key: str, place: tuple[int, ...], what: str, expected: str) -> None:
    value = arrays[key if key in arrays else ""][place]
    owner = f"{key} {place[1]}" if len(place) > 2 else key
    message = f"{WHERE}: {_of(arrays, place[0])}{what} of {owner} is {value}; expected {expected}"
    raise GuardError(message, dict(arrays))


def _of(arrays: Mapping[str, np.ndarray], row: int) -> str:
    return f"observation {row} of the batch: " if len(next(iter(arrays.values()))) > 1 else ""
