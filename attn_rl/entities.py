"""EntitySpec: what the entities in an observation space are, and how to take an observation apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, TypeGuard

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from attn_rl.kinds import Kinds, check_kinds
from attn_rl.wrappers.advice import find_wrapper

PRESENT = "_present"
ACTION_MASK = "action_mask"
ALLOWED = (
    "Allowed in a Dict observation: a 2-D float Box (N,F) per entity type, '<type>_present' as MultiBinary(N), "
    "1-D Boxes (global or ego features) and 'action_mask'. "
    "Wrap other observations (attn_rl.wrappers) or leave the key out."
)


@dataclass(frozen=True)
class EntityType:
    """One kind of row in the observation.

    Attributes:
        name: the type's name, e.g. ``"items"``: the key of its block.
        capacity: number of slots N.
        features: names of its F features, without the presence column.
        presence_key: key of the MultiBinary that flags its rows; None = all rows exist, or a presence column.
        presence_column: column of the block that holds presence; None = there is none.
        presence_name: what that column is called.
    """

    name: str
    capacity: int
    features: tuple[str, ...]
    presence_key: str | None = None
    presence_column: int | None = None
    presence_name: str = "presence"

    def __post_init__(self) -> None:
        if self.capacity < 1 or not self.features:
            raise ValueError(
                f"{self.name!r} has {self.capacity} slots of {len(self.features)} features; an entity type needs at "
                "least one of each: give entities that merely exist one constant feature (a column of ones), or leave "
                f"{self.name!r} out of the observation"
            )

    @property
    def width(self) -> int:
        """Number of features F."""
        return len(self.features)


class SplitObservation(NamedTuple):
    """An observation taken apart.

    Attributes:
        ego: all 1-D Boxes concatenated in the space's order, (B,E); None where there are none.
        entities: per type, features (B,N,F) and presence (B,N), boolean.
        action_mask: (B,A) boolean, True = valid; None where there is none.
    """

    ego: Tensor | None
    entities: dict[str, tuple[Tensor, Tensor]]
    action_mask: Tensor | None


@dataclass(frozen=True)
class EntitySpec:
    """What the entities of an observation space are: types, capacities, feature names, kinds.

    Build it with :meth:`from_space` or :meth:`from_env`. Slot order and labels follow the space, whose keys
    ``gymnasium.spaces.Dict`` sorts.

    Attributes:
        types: the entity types, in slot order.
        ego: ``(key, feature names)`` of every 1-D Box, in the space's order.
        action_mask: whether the observation carries an ``action_mask``.
        kinds: features of the same kind, which relations may compare; see ``docs/relations.md``.
        plain: the observation is a bare Box, not a Dict.
    """

    types: tuple[EntityType, ...]
    ego: tuple[tuple[str, tuple[str, ...]], ...] = ()
    action_mask: bool = False
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    plain: bool = False

    @classmethod
    def from_space(
        cls,
        space: gym.Space[object],
        names: Mapping[str, Sequence[str]] | None = None,
        kinds: Kinds | None = None,
        presence: str | int | None = None,
    ) -> EntitySpec:
        """Read the entity types off an observation space.

        Args:
            space: a Dict of blocks (see ``docs/observations.md``) or a plain 2-D Box (N,F).
            names: feature names per key, e.g. ``{"items": ("dx", "dy"), "ego": ("x", "y")}``; missing: f0, f1, ...
            kinds: features of the same kind, e.g. ``{"colour": {"ego": ("cue_r", "cue_g"), "items": ("r", "g")}}``; a
                type with several groups of a kind gives a sequence of groups. ``"compare"`` says how: ``"value"``
                (the default), ``"position"`` or ``"category"`` (one-hot).
            presence: for a plain Box, the column (name or index) that says which rows exist.

        Raises:
            ValueError: the space holds something else, or names and kinds do not fit it.
        """
        names = names or {}
        if isinstance(space, spaces.Box) and len(space.shape) == 2:
            spec = cls((_plain_type(space, names, presence),), plain=True)
        elif isinstance(space, spaces.Dict):
            if presence is not None:
                raise ValueError(
                    f"presence={presence!r} names a column of a plain Box; in a Dict add '<type>{PRESENT}' keys instead"
                )
            spec = _from_dict(space, names)
        else:
            allowed = f"{ALLOWED} A plain 2-D Box (N,F) works too. {find_wrapper(space)}"
            raise ValueError(f"cannot find entities in {space}. {allowed.strip()}")
        known = {entity_type.name for entity_type in spec.types} | {key for key, _ in spec.ego}
        if unknown := sorted(set(names) - known - {ACTION_MASK}):
            raise ValueError(f"names given for {unknown}, but the space holds {sorted(known)}; rename or remove them")
        return replace(spec, kinds=check_kinds(spec.features, spec.ego_features, kinds)) if kinds else spec

    @classmethod
    def from_env(cls, env: Any, presence: str | int | None = None) -> EntitySpec:
        """Read the space and the names and kinds that the environment declares in its metadata.

        Args:
            env: a Gymnasium environment, a Gymnasium vector environment, or an SB3 VecEnv of either.
            presence: as for :meth:`from_space`.
        """
        metadata = env_metadata(env)
        space = getattr(env, "single_observation_space", None) or env.observation_space
        return cls.from_space(space, metadata.get("entities"), metadata.get("kinds"), presence)

    def split(self, observation: Mapping[str, Tensor] | Tensor) -> SplitObservation:
        """Take a batch of observations apart; presence becomes boolean.

        Args:
            observation: tensors with a leading batch dimension, as Stable-Baselines3 hands them to an extractor.

        Raises:
            ValueError: a key is missing.
        """
        blocks = observation if isinstance(observation, Mapping) else {self.types[0].name: observation}
        try:
            ego = [blocks[key].float().flatten(1) for key, _ in self.ego]
            entities = {entity_type.name: _rows(entity_type, blocks) for entity_type in self.types}
            action_mask = blocks[ACTION_MASK] > 0.5 if self.action_mask else None
        except KeyError as error:
            got = f"it has {sorted(observation)}" if isinstance(observation, Mapping) else "it is a bare array"
            raise ValueError(f"the observation has no key {error}; {got}, expected {self.keys}") from error
        return SplitObservation(
            None if not ego else ego[0] if len(ego) == 1 else torch.cat(ego, -1), entities, action_mask
        )

    @property
    def keys(self) -> list[str]:
        """The keys of an observation, sorted; of a plain Box, the name of its one type."""
        flags = [t.presence_key for t in self.types if t.presence_key is not None]
        return sorted([*self.capacities, *flags, *(key for key, _ in self.ego), *[ACTION_MASK] * self.action_mask])

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
        except AttributeError:  # what it wraps passes no attribute on (SuperSuit's ConcatVecEnv)
            return {}
        return dict(found[0] or {}) if len(found) else {}
    own = getattr(getattr(env, "unwrapped", env), "metadata", None) or {}
    return {**own, **(getattr(env, "metadata", None) or {})}  # a wrapper that makes the entities names them


def _plain_type(space: spaces.Box, names: Mapping[str, Sequence[str]], presence: str | int | None) -> EntityType:
    if len(names) > 1:
        raise ValueError(f"names has keys {sorted(names)}; a plain Box is one entity type: give one key, its name")
    name, columns = next(iter(names.items())) if names else ("items", ())
    columns = _feature_names(name, space.shape[1], columns)
    if presence is None:
        return EntityType(name, space.shape[0], columns)
    if isinstance(presence, str) and presence not in columns:
        raise ValueError(f"presence={presence!r} is none of the features {columns}; give its index, or names=")
    column = columns.index(presence) if isinstance(presence, str) else int(presence)
    if not 0 <= column < len(columns):
        raise ValueError(f"presence={presence} is no column of a Box of shape {space.shape}; columns start at 0")
    features = columns[:column] + columns[column + 1 :]
    return EntityType(name, space.shape[0], features, presence_column=column, presence_name=columns[column])


def _from_dict(space: spaces.Dict, names: Mapping[str, Sequence[str]]) -> EntitySpec:
    types, ego, action_mask = [], [], False
    for key, block in space.spaces.items():
        owner = key.removesuffix(PRESENT)
        if key == ACTION_MASK:
            action_mask = True
        elif key.endswith(PRESENT) and _is_matrix(rows := space.spaces.get(owner)):
            _check_presence(key, block, rows)
        elif isinstance(block, spaces.Box) and len(block.shape) == 2:
            presence_key = key + PRESENT if key + PRESENT in space.spaces else None
            types.append(
                EntityType(key, block.shape[0], _feature_names(key, block.shape[1], names.get(key)), presence_key)
            )
        elif isinstance(block, spaces.Box) and len(block.shape) == 1:
            ego.append((key, _feature_names(key, block.shape[0], names.get(key))))
        else:
            allowed = f"{ALLOWED} {find_wrapper(block, key)}".strip()
            raise ValueError(f"observation key {key!r} is {block}, which is neither entities nor ego. {allowed}")
    if not types:
        raise ValueError(f"no entity type in {list(space.spaces)}: there is no 2-D Box (N,F). {ALLOWED}")
    return EntitySpec(tuple(types), tuple(ego), action_mask)


def _is_matrix(block: gym.Space[object] | None) -> TypeGuard[spaces.Box]:
    return isinstance(block, spaces.Box) and len(block.shape) == 2


def _check_presence(key: str, flags: gym.Space[object], block: spaces.Box) -> None:
    capacity = block.shape[0]
    if not isinstance(flags, spaces.MultiBinary | spaces.Box) or flags.shape != (capacity,):
        raise ValueError(f"{key!r} is {flags}; expected MultiBinary({capacity}), one flag per row of its block")


def _feature_names(key: str, width: int, given: Sequence[str] | None) -> tuple[str, ...]:
    if not given:
        return tuple(f"f{i}" for i in range(width))
    if len(given) != width or len(set(given)) != width:
        raise ValueError(f"{key!r} has {width} features; got names {tuple(given)}: give one distinct name per column")
    return tuple(given)


def _rows(entity_type: EntityType, blocks: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    x = blocks[entity_type.name].float()
    if entity_type.presence_key is not None:
        return x, blocks[entity_type.presence_key] > 0.5
    if (column := entity_type.presence_column) is not None:
        last = x.shape[-1] - 1
        inside = 0 < column < last  # at either end a view will do
        if inside:
            features = torch.cat([x.narrow(-1, 0, column), x.narrow(-1, column + 1, last - column)], -1)
        else:
            features = x.narrow(-1, 0 if column else 1, last)
        return features, x.select(-1, column) > 0.5
    return x, x.new_ones(x.shape[:-1]).bool()
