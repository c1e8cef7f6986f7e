"""Edges: data on pairs of entities, how an observation declares them, and how to take them out of it.

Shapes: B batch, E slots for edges, N slots of the type that edges come from, M of the type they go to, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from attn_rl.edge_keys import KEY, UNNAMED
from attn_rl.kinds import EGO

Ends = Mapping[str, Sequence[str]]
"""Edge type -> the entity types that it comes from and goes to, or "ego"."""
EdgeRows = dict[str, tuple[Tensor, Tensor, Tensor]]
"""Per edge type: slots (B,2,E) of both ends, int64; features (B,E,F); which edges exist (B,E), boolean."""
HOW = (
    "'<name>_edge_index' as a Box (2,E) of slots, '<name>_edge_attr' as a Box (E,F) and '<name>_edge_mask' as "
    "MultiBinary(E); or, without an index, Box (N,M,F) and MultiBinary((N,M)) over all pairs"
)


@dataclass(frozen=True)
class EdgeType:
    """One kind of edge in the observation.

    Attributes:
        name: the type's name, e.g. ``"precedes"``.
        source: the entity type that its edges come from, or ``"ego"``.
        target: the one that they go to.
        shape: ``(E,)``, or ``(N,M)`` where every pair has a place of its own.
        features: names of its F features; there may be none.
        index_key: key of the ends; None where every pair has a place of its own.
        attr_key: key of the features; None = there are none.
        mask_key: key of the flags of edges that exist; None = all do whose ends are not negative.
        ends_first: the ends are (2,E), else (E,2).
    """

    name: str
    source: str
    target: str
    shape: tuple[int, ...]
    features: tuple[str, ...] = ()
    index_key: str | None = None
    attr_key: str | None = None
    mask_key: str | None = None
    ends_first: bool = True

    @property
    def keys(self) -> list[str]:
        """Its keys in an observation."""
        return [key for key in (self.index_key, self.attr_key, self.mask_key) if key is not None]

    def split(self, blocks: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Its part of an observation, as :data:`EdgeRows` has it."""
        n = len(blocks[self.keys[0]])
        if self.index_key is not None:
            ends = blocks[self.index_key]
            ends = (ends if self.ends_first else ends.transpose(1, 2)).long()
        else:  # a view: the ends are the same in every observation
            device, (rows, columns) = blocks[self.keys[0]].device, blocks[self.keys[0]].shape[1:3]
            pairs = torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device))
            ends = pairs.view(-1, 2).T.expand(n, -1, -1)
        there = (ends >= 0).all(1)
        if self.mask_key is not None:
            there = there & (blocks[self.mask_key].flatten(1) > 0.5)
        if self.attr_key is None:
            return ends, torch.zeros(*there.shape, 0, device=there.device), there
        return ends, blocks[self.attr_key].float().view(n, -1, len(self.features)), there


def find_edges(
    parts: Mapping[str, gym.Space[object]],
    capacities: Mapping[str, int],
    names: Mapping[str, Sequence[str]],
    declared: Ends | None,
) -> tuple[EdgeType, ...]:
    """Read the edge types off the parts of an observation that belong to edges.

    Args:
        parts: key -> space, of such keys alone.
        capacities: slots of each entity type; with ``"ego"``, 1, where there is one.
        names: feature names per key.
        declared: which entity types each edge type joins; may be missing where there is one entity type.

    Raises:
        ValueError: parts of another shape, no such entity types, or edges that nobody says which types they join.
    """
    found: dict[str, dict[str, str]] = {}
    for key in parts:
        match = KEY.fullmatch(key)
        if match is not None:
            found.setdefault(match["name"] or UNNAMED, {})[match["part"]] = key
    if taken := sorted(set(found) & set(capacities)):
        raise ValueError(f"{taken} are edge types and entity types; give the keys of the edges another name")
    if unknown := sorted(set(declared or {}) - set(found)):
        raise ValueError(f"edges declares {unknown}, the observation holds {sorted(found)}; expected {HOW}")
    return tuple(
        _edge_type(name, keys, parts, capacities, names, _find_ends(name, declared or {}, capacities))
        for name, keys in found.items()
    )


def _find_ends(name: str, declared: Ends, capacities: Mapping[str, int]) -> tuple[str, str]:
    types = [owner for owner in capacities if owner != EGO]
    if name not in declared and len(types) > 1:
        raise ValueError(
            f"nobody says which entity types {name!r} joins; declare them in the environment's metadata or as edges=, "
            f"{{{name!r}: ({types[0]!r}, {types[1]!r})}} for edges from {types[0]!r} to {types[1]!r}"
        )
    ends = tuple(declared.get(name, types * 2))
    if len(ends) != 2 or isinstance(declared.get(name), str):
        raise ValueError(f"edges[{name!r}] is {declared[name]!r}; expected two entity types: (from, to)")
    for end in ends:
        if end not in capacities:
            raise ValueError(f"edges[{name!r}] names {end!r}; expected two of {sorted(capacities)}")
    return ends[0], ends[1]


def _edge_type(
    name: str,
    keys: Mapping[str, str],
    parts: Mapping[str, gym.Space[object]],
    capacities: Mapping[str, int],
    names: Mapping[str, Sequence[str]],
    ends: tuple[str, str],
) -> EdgeType:
    index, attr, mask = (keys.get(part) for part in ("index", "attr", "mask"))
    ends_first = True
    if index is not None:
        found = _shape(parts[index])
        if not isinstance(parts[index], spaces.Box) or len(found) != 2 or 2 not in found:
            raise ValueError(f"{index!r} is {told(parts[index])}; expected a Box (2,E), slots from -1 (no edge) to N-1")
        ends_first = found[0] == 2
        shape: tuple[int, ...] = (found[ends_first],)
    else:
        shape = (capacities[ends[0]], capacities[ends[1]])
    if attr is not None and (not isinstance(parts[attr], spaces.Box) or _shape(parts[attr])[:-1] != shape):
        raise ValueError(f"{attr!r} is {told(parts[attr])}; expected a Box of shape ({_numbers(shape)}, F). {HOW}")
    if mask is not None and _shape(parts[mask]) != shape:
        raise ValueError(f"{mask!r} is {told(parts[mask])}; expected flags of shape ({_numbers(shape)}). {HOW}")
    width = 0 if attr is None else _shape(parts[attr])[-1]
    features = tuple(names.get(attr or "", ())) or tuple(f"f{i}" for i in range(width))
    if len(features) != width or len(set(features)) != width:
        raise ValueError(f"{attr!r} has {width} features; got names {features}: give one distinct name per column")
    return EdgeType(name, *ends, shape, features, index, attr, mask, ends_first)


def told(space: gym.Space[object]) -> str:
    """A space as a message names it: by its class and its shape, whatever its bounds."""
    if isinstance(space, spaces.Box | spaces.MultiBinary | spaces.MultiDiscrete):
        return f"{type(space).__name__} of shape {space.shape} and {np.dtype(space.dtype)}"
    return str(space)


def _shape(space: gym.Space[object]) -> tuple[int, ...]:
    return tuple(space.shape or ())


def _numbers(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
