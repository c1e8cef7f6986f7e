"""Sequence and Graph observations, whose number of entities varies: padded to a declared capacity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector.utils import batch_space, iterate

from attn_rl.edge_keys import UNNAMED
from attn_rl.wrappers.base import ToEntities, declared_names, find
from attn_rl.wrappers.block import EntityBlock, Overflow, PaddedRows


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
    """Turn the nodes of a ``Graph`` into a block of entities; its edges join them, become a block too, or are left out.

    Edges as relations (``edge_index``, ``edge_attr`` and ``edge_mask``) add to the scores of the nodes that they join;
    see ``docs/relations.md``. An edge as an entity is a
    row of the type ``<name>_edges``: the features of the node it comes from (``from_*``), of the node it goes to
    (``to_*``), and its own. Such a row says everything by itself, whatever slots its nodes got.

    Args:
        env: the environment.
        name: key of the Graph in a Dict observation; where the observation is the Graph itself, the name that the
            nodes get.
        capacity: number of slots N for nodes.
        edge_capacity: number of slots for edges; 0 leaves the edges out. Required if the graph has edges.
        edges: ``"rows"``: each edge is an entity; ``"relations"``: edges join the nodes.
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
        edges: Literal["rows", "relations"] = "rows",
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
            edges=edges,
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
                f"each edge an entity of the type '{name}_edges' (with edges='relations': to join its nodes), or "
                "edge_capacity=0 to leave the edges out"
            )
        if edges not in ("rows", "relations"):
            raise ValueError(f"edges={edges!r}; expected 'rows' or 'relations'")
        self.name, self._space = name, space
        blocks = [_block(env, name, space.node_space, capacity, features, overflow, by)]
        self._edges: EntityBlock | None = None
        if edge_capacity and edges == "relations":
            self._edges = _own_block(name, space.edge_space, edge_capacity, edge_features)
        elif edge_capacity:
            blocks.append(_edge_block(f"{name}_edges", blocks[0], space.edge_space, edge_capacity, edge_features))
        ToEntities.__init__(self, env, None if bare else [name], blocks)
        if self._edges is not None:
            self._declare(self._edges, capacity)

    def rows(self, observation: Any) -> dict[str, np.ndarray]:
        """Return the nodes of an observation, and its edges unless they are left out."""
        graph = observation if self._bare else observation[self.name]
        nodes = _flatten(self.name, self._space.node_space, _unstack(self._space.node_space, graph.nodes))
        edges = [name for name in self.blocks if name != self.name]
        return {self.name: nodes, **{name: self._edge_rows(name, graph, nodes) for name in edges}}

    def _edge_rows(self, name: str, graph: spaces.GraphInstance, nodes: np.ndarray) -> np.ndarray:
        links, edges = self._links(name, graph, len(nodes))
        if not len(links):
            return np.zeros(0)
        return np.concatenate([nodes[links[:, 0]], nodes[links[:, 1]], edges], axis=1)

    def _links(self, name: str, graph: spaces.GraphInstance, n_nodes: int) -> tuple[np.ndarray, np.ndarray]:
        """Both ends of every edge (n,2), and its own features (n,F)."""
        space = self._space.edge_space
        if space is None or graph.edges is None or graph.edge_links is None or len(graph.edge_links) == 0:
            return np.zeros((0, 2), int), np.zeros(0)
        edges = _flatten(name, space, _unstack(space, graph.edges))
        links = np.asarray(graph.edge_links)
        if links.shape != (len(edges), 2) or links.min() < 0 or links.max() >= n_nodes:
            raise ValueError(
                f"{name!r}: got edge_links {links.tolist()}; expected ({len(edges)}, 2) indices below {n_nodes}"
            )
        return links, edges

    def _declare(self, block: EntityBlock, n_nodes: int) -> None:
        """Add what joins the nodes to the observation space, and say in the metadata what it is."""
        flags = spaces.MultiBinary(block.capacity)
        made = {
            "edge_index": spaces.Box(-1, n_nodes - 1, (2, block.capacity), np.int64),
            "edge_attr": block.spaces[block.name],
            "edge_mask": flags,
        }
        kept: Any = self.observation_space
        if taken := sorted(set(kept) & set(made)):
            raise ValueError(f"the observation already has keys {taken}; rename them, or leave these edges out")
        self.observation_space = spaces.Dict({**kept.spaces, **made})
        names = {**self.metadata["entities"], "edge_attr": block.features}
        ends = {**(self.metadata.get("edges") or {}), UNNAMED: (self.name, self.name)}
        self.metadata = {**self.metadata, "entities": names, "edges": ends}

    def pairs(self, observation: Any, padded: Mapping[str, PaddedRows]) -> dict[str, np.ndarray]:
        """Return the edges of an observation, unless they are rows or left out."""
        if self._edges is None:
            return {}
        graph, nodes = observation if self._bare else observation[self.name], padded[self.name]
        n_nodes = len(nodes.kept) + nodes.dropped
        links, edges = self._links(self._edges.name, graph, n_nodes)
        block = self._edges.pad(edges)
        slots = np.full(n_nodes, -1)
        slots[nodes.kept] = np.arange(len(nodes.kept))  # a node that found no slot takes its edges along
        index = np.full((2, self._edges.capacity), -1)
        index[:, : len(links)] = slots[links].T
        return {"edge_index": index, "edge_attr": block.x, "edge_mask": block.present}


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
    own = _own_block(nodes.name, element, capacity, features)
    ends = tuple(f"{end}_{feature}" for end in ("from", "to") for feature in nodes.features)
    low, high = (np.concatenate([n, n, e]) for n, e in ((nodes.low, own.low), (nodes.high, own.high)))
    return EntityBlock(name, ends + own.features, capacity, low, high)


def _own_block(
    nodes: str, element: gym.Space[object] | None, capacity: int, features: Sequence[str] | None
) -> EntityBlock:
    """The edges' own features."""
    if element is None:
        raise ValueError(f"{nodes!r} has no edges, but edge_capacity={capacity}; leave it out")
    box = _flat_box(f"{nodes}_edges", element)
    own = tuple(features or (f"edge_{part}" for part in _part_names(element)))
    if len(own) != box.shape[0]:
        raise ValueError(f"'{nodes}_edges': an edge has {box.shape[0]} features; got edge_features={own}")
    return EntityBlock(f"{nodes}_edges", own, capacity, box.low, box.high)


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
