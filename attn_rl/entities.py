"""EntitySpec: what the entities in an observation space are, and how to take an observation apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from attn_rl.actions import masks_in
from attn_rl.categories import Categories, Checked, check_categories
from attn_rl.edges import EdgeRows, EdgeType, Ends, told
from attn_rl.entity_types import ACTION_MASK, ALLOWED, PRESENT, EntityType, read_dict, read_plain, rows_of
from attn_rl.expansion import Expanding
from attn_rl.kinds import Kinds, check_kinds
from attn_rl.wrappers.advice import find_wrapper

__all__ = ["ACTION_MASK", "PRESENT", "EntitySpec", "EntityType", "SplitObservation", "env_metadata"]


class SplitObservation(NamedTuple):
    """An observation taken apart.

    Attributes:
        ego: all 1-D Boxes concatenated in the space's order, (B,E); None where there are none.
        entities: per type, features (B,N,F) and presence (B,N), boolean.
        action_mask: (B,A) boolean, True = valid; None where there is none.
        edges: per edge type, both ends' slots (B,2,E), features (B,E,F) and which exist (B,E), boolean.
    """

    ego: Tensor | None
    entities: dict[str, tuple[Tensor, Tensor]]
    action_mask: Tensor | None
    edges: EdgeRows


@dataclass(frozen=True)
class EntitySpec(Expanding):
    """What the entities of an observation space are: types, capacities, feature names, kinds.

    Build it with :meth:`from_space` or :meth:`from_env`. Slot order and labels follow the space, whose keys
    ``gymnasium.spaces.Dict`` sorts.

    Attributes:
        types: the entity types, in slot order.
        ego: ``(key, feature names)`` of every 1-D Box, in the space's order.
        action_mask: whether the observation carries an ``action_mask``.
        kinds: features of the same kind, which relations may compare; see ``docs/relations.md``.
        categories: per key and feature, the names of the values that its numbers stand for.
        plain: the observation is a bare Box, not a Dict.
        edges: the edge types, which join entities in pairs; see ``docs/relations.md``.
        ignored: keys of the observation that nobody looks at.
    """

    types: tuple[EntityType, ...]
    ego: tuple[tuple[str, tuple[str, ...]], ...] = ()
    action_mask: bool = False
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    plain: bool = False
    categories: Checked = field(default_factory=dict)
    edges: tuple[EdgeType, ...] = ()
    ignored: tuple[str, ...] = ()

    @classmethod
    def from_space(
        cls,
        space: gym.Space[object],
        names: Mapping[str, Sequence[str]] | None = None,
        kinds: Kinds | None = None,
        presence: str | int | None = None,
        categories: Categories | None = None,
        edges: Ends | None = None,
        ignore: Sequence[str] = (),
    ) -> EntitySpec:
        """Read the entity types off an observation space.

        Args:
            space: a Dict of blocks (see ``docs/observations.md``) or a plain 2-D Box (N,F).
            names: feature names per key, e.g. ``{"items": ("dx", "dy"), "ego": ("x", "y")}``; missing: f0, f1, ...
            kinds: features of the same kind, e.g. ``{"colour": {"ego": ("cue_r", "cue_g"), "items": ("r", "g")}}``; a
                type with several groups of a kind gives a sequence of groups. ``"compare"`` says how: ``"value"``
                (the default), ``"position"``, ``"equal"`` (the default of categories) or ``"category"`` (one-hot).
            presence: for a plain Box, the column (name or index) that says which rows exist.
            categories: features whose numbers are names, per key: the names of their values, how many there are, or
                None: as many as an integer Box has. E.g. ``{"cells": {"colour": ("red", "green"), "state": 3}}``.
            edges: which entity types each edge type joins, e.g. ``{"precedes": ("operations", "operations")}``.
            ignore: keys of a Dict that are neither entities nor ego, and that nobody shall look at.

        Raises:
            ValueError: the space holds something else, or names, kinds and categories do not fit it.
        """
        names = names or {}
        if isinstance(space, spaces.Box) and len(space.shape) == 2:
            spec = cls((read_plain(space, names, presence),), plain=True)
        elif isinstance(space, spaces.Dict):
            if presence is not None:
                raise ValueError(
                    f"presence={presence!r} names a column of a plain Box; in a Dict add '<type>{PRESENT}' keys instead"
                )
            spec = cls(**read_dict(space, names, edges, ignore)._asdict())
        else:
            allowed = f"{ALLOWED} A plain 2-D Box (N,F) works too. {find_wrapper(space)}"
            raise ValueError(f"cannot find entities in {told(space)}. {allowed.strip()}")
        if spec.plain and (edges or ignore):
            raise ValueError(f"edges={edges} and ignore={tuple(ignore)} name keys of a Dict; the observation is a Box")
        if unknown := sorted(set(names) - set(spec.names) - {ACTION_MASK, *spec.ignored}):
            held = sorted(spec.names)
            raise ValueError(f"names given for {unknown}, but the space holds {held}; rename or remove them")
        if categories:
            boxes = dict(space.spaces) if isinstance(space, spaces.Dict) else {spec.types[0].name: space}
            features = spec.features | dict(spec.ego)
            spec = replace(spec, categories=check_categories(features, spec.names, boxes, categories))
        checked = check_kinds(spec.features, spec.ego_features, kinds, spec.category_values) if kinds else {}
        return replace(spec, kinds=checked)

    @classmethod
    def from_env(cls, env: Any, presence: str | int | None = None, ignore: Sequence[str] = ()) -> EntitySpec:
        """Read the space, and the names, kinds, categories and edges that the environment declares in its metadata.

        Args:
            env: a Gymnasium environment, a Gymnasium vector environment, or an SB3 VecEnv of either.
            presence, ignore: as for :meth:`from_space`.
        """
        metadata = env_metadata(env)
        space = getattr(env, "single_observation_space", None) or env.observation_space
        names, kinds, categories, edges = (metadata.get(name) for name in ("entities", "kinds", "categories", "edges"))
        unseen = (*ignore, *masks_in(space, metadata.get("actions")))
        return cls.from_space(space, names, kinds, presence, categories, edges, unseen)

    def split(self, observation: Mapping[str, Tensor] | Tensor) -> SplitObservation:
        """Take a batch of observations apart; presence becomes boolean, categories one column per value.

        Args:
            observation: tensors with a leading batch dimension, as Stable-Baselines3 hands them to an extractor.

        Raises:
            ValueError: a key is missing, or a category in a row that is there has a value that it cannot have.
        """
        blocks = observation if isinstance(observation, Mapping) else {self.types[0].name: observation}
        blocks, spec = self.expand(blocks), self.expanded
        try:
            ego = [blocks[key].float().flatten(1) for key, _ in self.ego]
            entities = {entity_type.name: rows_of(entity_type, blocks) for entity_type in spec.types}
            action_mask = blocks[ACTION_MASK] > 0.5 if self.action_mask else None
            edges = {edge_type.name: edge_type.split(blocks) for edge_type in self.edges}
        except KeyError as error:
            got = f"it has {sorted(observation)}" if isinstance(observation, Mapping) else "it is a bare array"
            raise ValueError(f"the observation has no key {error}; {got}, expected {self.keys}") from error
        return SplitObservation(
            None if not ego else ego[0] if len(ego) == 1 else torch.cat(ego, -1), entities, action_mask, edges
        )

    @property
    def keys(self) -> list[str]:
        """The keys of an observation, sorted; of a plain Box, the name of its one type."""
        flags = [t.presence_key for t in self.types if t.presence_key is not None]
        joined = [key for edge_type in self.edges for key in edge_type.keys]
        return sorted(
            [*self.capacities, *flags, *joined, *(key for key, _ in self.ego), *[ACTION_MASK] * self.action_mask]
        )

    @property
    def ends(self) -> dict[str, tuple[str, str]]:
        """Per edge type, the entity types that it joins, as ``from_space(edges=...)`` takes them."""
        return {edge_type.name: (edge_type.source, edge_type.target) for edge_type in self.edges}

    @property
    def features(self) -> dict[str, tuple[str, ...]]:
        """Feature names per entity type."""
        return {t.name: t.features for t in self.types}

    @property
    def widths(self) -> dict[str, int]:
        """Number of features F per entity type."""
        return {entity_type.name: entity_type.width for entity_type in self.types}

    @property
    def capacities(self) -> dict[str, int]:
        """Number of slots N per entity type."""
        return {entity_type.name: entity_type.capacity for entity_type in self.types}

    @property
    def ego_features(self) -> tuple[str, ...]:
        """Names of the ego's E features, in the order in which they are concatenated."""
        return tuple(name for _, features in self.ego for name in features)

    @property
    def slot_labels(self) -> tuple[str, ...]:
        """One label per slot over all types, e.g. ``("items 0", "items 1", ...)``."""
        return tuple(f"{t.name} {slot}" for t in self.types for slot in range(t.capacity))

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Feature names per key, as ``from_space(names=...)`` takes them."""
        found = {t.name: t.features for t in self.types} | dict(self.ego)
        found |= {t.attr_key: t.features for t in self.edges if t.attr_key is not None}
        for t in self.types:
            if t.presence_column is not None:
                features = list(t.features)
                features.insert(t.presence_column, t.presence_name)
                found[t.name] = tuple(features)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``args.json`` and the TensorBoard text page."""
        return asdict(self)


def env_metadata(env: object) -> dict[str, Any]:
    """The metadata an environment declares, through wrappers and vectorisation; empty where it cannot be asked."""
    if hasattr(env, "get_attr") and not isinstance(env, gym.Env):  # SB3 VecEnv
        try:
            found = env.get_attr("metadata")
        except AttributeError:  # what it wraps passes no attribute on (SuperSuit's ConcatVecEnv), but may have its own
            while hasattr(env, "venv"):
                env = env.venv
            return dict(getattr(env, "metadata", None) or {})
        return dict(found[0] or {}) if len(found) else {}
    own = getattr(getattr(env, "unwrapped", env), "metadata", None) or {}
    return {**own, **(getattr(env, "metadata", None) or {})}  # a wrapper that makes the entities names them
