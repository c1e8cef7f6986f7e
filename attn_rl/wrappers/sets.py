"""Sequence and Graph observations, whose number of entities varies: padded to a declared capacity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector.utils import batch_space, iterate

from attn_rl.wrappers.base import ToEntities, declared_names, find
from attn_rl.wrappers.block import EntityBlock, Overflow


class SequenceToEntities(ToEntities, RecordConstructorArgs):
    """Turn a ``Sequence``, stacked or not, into a block of entities.

    An element may be a Box, or anything that Gymnasium can flatten: of a Dict the parts are put side by side, a
    Discrete becomes one-hot.

    Args:
        env: the environment.
        name: key of the Sequence in a Dict observation; where the observation is the Sequence itself, the name that
            the entities get.
        capacity: number of slots N.
        features: names of the features; None: those in the environment's metadata, else the parts of a Dict element,
            else f0, f1, ...
        overflow: see :class:`attn_rl.wrappers.EntityBlock`.
        by: see :class:`attn_rl.wrappers.EntityBlock`.

    Raises:
        ValueError: no such key, no Sequence, or arguments that do not fit; while playing, elements of another shape,
            NaN or inf, or more than ``capacity`` of them without ``overflow="nearest"``.
    """

    def __init__(
        self,
        env: gym.Env,
        name: str = "items",
        *,
        capacity: int,
        features: Sequence[str] | None = None,
        overflow: Overflow = "error",
        by: str | Sequence[str] | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(self, name=name, capacity=capacity, features=features, overflow=overflow, by=by)
        space, bare = find(env, name)
        if not isinstance(space, spaces.Sequence):
            raise ValueError(f"{name!r} is {space}; expected a Sequence")
        self.name, self._space = name, space
        block = _block(env, name, space.feature_space, capacity, features, overflow, by)
        ToEntities.__init__(self, env, None if bare else [name], [block])

    def rows(self, observation: Any) -> dict[str, np.ndarray]:
        """Return the entities (n,F) of an observation."""
        value = observation if self._bare else observation[self.name]
        elements = _unstack(self._space.feature_space, value) if self._space.stack else value
        return {self.name: _flatten(self.name, self._space.feature_space, elements)}


class GraphToEntities(ToEntities, RecordConstructorArgs):
    """Turn the nodes of a ``Graph`` into a block of entities; its edges become one too, or are left out.

    An edge as an entity is a row of the type ``<name>_edges``: the features of the node it comes from (``from_*``), of
    the node it goes to (``to_*``), and its own. Such a row says everything by itself, whatever slots its nodes got.

    Args:
        env: the environment.
        name: key of the Graph in a Dict observation; where the observation is the Graph itself, the name that the
            nodes get.
        capacity: number of slots N for nodes.
        edge_capacity: number of slots for edges; 0 leaves the edges out. Required if the graph has edges.
        features: names of a node's features; None: those in the environment's metadata, else f0, f1, ...
        edge_features: names of an edge's own features; None: edge_f0, edge_f1, ...
        overflow: for nodes, see :class:`attn_rl.wrappers.EntityBlock`; too many edges are always an error.
        by: see :class:`attn_rl.wrappers.EntityBlock`.

    Raises:
        ValueError: as :class:`SequenceToEntities`; or a graph with edges but no ``edge_capacity``.
    """

    def __init__(
        self,
        env: gym.Env,
        name: str = "items",
        *,
        capacity: int,
        edge_capacity: int | None = None,
        features: Sequence[str] | None = None,
        edge_features: Sequence[str] | None = None,
        overflow: Overflow = "error",
        by: str | Sequence[str] | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self,
            name=name,
            capacity=capacity,
            edge_capacity=edge_capacity,
            features=features,
            edge_features=edge_features,
            overflow=overflow,
            by=by,
        )
        space, bare = find(env, name)
        if not isinstance(space, spaces.Graph):
            raise ValueError(f"{name!r} is {space}; expected a Graph")
        if space.edge_space is not None and edge_capacity is None:
            raise ValueError(
                f"{name!r} has edges ({space.edge_space}), which nodes alone do not show; pass edge_capacity=E to make "
                f"each edge an entity of the type '{name}_edges', or edge_capacity=0 to leave the edges out"
            )
        self.name, self._space = name, space
        blocks = [_block(env, name, space.node_space, capacity, features, overflow, by)]
        if edge_capacity:
            blocks.append(_edge_block(f"{name}_edges", blocks[0], space.edge_space, edge_capacity, edge_features))
        ToEntities.__init__(self, env, None if bare else [name], blocks)

    def rows(self, observation: Any) -> dict[str, np.ndarray]:
        """Return the nodes of an observation, and its edges unless they are left out."""
        graph = observation if self._bare else observation[self.name]
        nodes = _flatten(self.name, self._space.node_space, _unstack(self._space.node_space, graph.nodes))
        edges = [name for name in self.blocks if name != self.name]
        return {self.name: nodes, **{name: self._edge_rows(name, graph, nodes) for name in edges}}

    def _edge_rows(self, name: str, graph: spaces.GraphInstance, nodes: np.ndarray) -> np.ndarray:
        space = self._space.edge_space
        if space is None or graph.edges is None or graph.edge_links is None or len(graph.edge_links) == 0:
            return np.zeros(0)
        edges = _flatten(name, space, _unstack(space, graph.edges))
        links = np.asarray(graph.edge_links)
        if links.shape != (len(edges), 2) or links.min() < 0 or links.max() >= len(nodes):
            raise ValueError(
                f"{name!r}: got edge_links {links.tolist()}; expected ({len(edges)}, 2) indices below {len(nodes)}"
            )
        return np.concatenate([nodes[links[:, 0]], nodes[links[:, 1]], edges], axis=1)


def _block(
    env: gym.Env,
    name: str,
    element: gym.Space[object],
    capacity: int,
    features: Sequence[str] | None,
    overflow: Overflow,
    by: str | Sequence[str] | None,
) -> EntityBlock:
    box = _flat_box(name, element)
    names = declared_names(env, name, box.shape[0], features) or _part_names(element)
    return EntityBlock(name, names, capacity, box.low, box.high, overflow, by)


def _edge_block(
    name: str, nodes: EntityBlock, element: gym.Space[object] | None, capacity: int, features: Sequence[str] | None
) -> EntityBlock:
    if element is None:
        raise ValueError(f"{nodes.name!r} has no edges, but edge_capacity={capacity}; leave it out")
    box = _flat_box(name, element)
    own = features or tuple(f"edge_{part}" for part in _part_names(element))
    ends = tuple(f"{end}_{feature}" for end in ("from", "to") for feature in nodes.features)
    if len(own) != box.shape[0]:
        raise ValueError(f"{name!r}: an edge has {box.shape[0]} features; got edge_features={tuple(own)}")
    low, high = (np.concatenate([n, n, e]) for n, e in ((nodes.low, box.low), (nodes.high, box.high)))
    return EntityBlock(name, ends + tuple(own), capacity, low, high)


def _flat_box(name: str, element: gym.Space[object]) -> spaces.Box:
    flat = spaces.flatten_space(element) if element.is_np_flattenable else None
    if not isinstance(flat, spaces.Box):
        raise ValueError(f"{name!r} holds {element}, not a fixed number of features; expected a Box or a Dict of Boxes")
    return flat


def _part_names(element: gym.Space[object], prefix: str = "") -> tuple[str, ...]:
    """f0, f1, ... for a plain element; for a Dict the key, numbered where it stands for several features."""
    if isinstance(element, spaces.Dict):
        return tuple(n for key, part in element.items() for n in _part_names(part, f"{prefix}{key}_"))
    width = spaces.flatdim(element)
    if not prefix:
        return tuple(f"f{i}" for i in range(width))
    return (prefix[:-1],) if width == 1 else tuple(f"{prefix}{i}" for i in range(width))


def _unstack(element: gym.Space[object], stacked: object) -> Iterable[object]:
    """The elements of a batch; a Box's stay together, as an array."""
    return np.asarray(stacked) if isinstance(element, spaces.Box) else iterate(batch_space(element, 1), stacked)


def _flatten(name: str, element: gym.Space[object], values: Iterable[object]) -> np.ndarray:
    """Elements -> rows (n,F)."""
    width = spaces.flatdim(element)
    if isinstance(values, np.ndarray) and values.ndim > 1 and values.shape[1:] == element.shape:
        return values.reshape(len(values), width)
    rows = [_flatten_one(name, i, element, value) for i, value in enumerate(values)]
    return np.stack(rows) if rows else np.zeros((0, width), np.float32)


def _flatten_one(name: str, i: int, element: gym.Space[object], value: Any) -> np.ndarray:
    if isinstance(element, spaces.Box):
        if np.shape(value) != element.shape:
            raise ValueError(f"{name!r}: entity {i} has shape {np.shape(value)}; expected {element.shape}")
        return np.asarray(value, np.float32).reshape(-1)  # not by way of the Box's dtype: an integer hides a NaN
    try:
        return np.asarray(spaces.flatten(element, value), np.float32)
    except (AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name!r}: entity {i} is {value!r}; expected an element of {element}") from error
