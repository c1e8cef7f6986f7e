"""The entity types of an observation space: how each stands in the observation, and what its features are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from attn_rl.edge_keys import is_edge_key
from attn_rl.edges import EdgeType, Ends, find_edges, told
from attn_rl.kinds import EGO
from attn_rl.wrappers.advice import find_categories, find_wrapper

PRESENT = "_present"
ACTION_MASK = "action_mask"
ALLOWED = (
    "Allowed in a Dict observation: a 2-D float Box (N,F) per entity type, '<type>_present' as MultiBinary(N), "
    "1-D Boxes (global or ego features), 'edge_index' and its like (docs/relations.md) and 'action_mask'. "
    "Wrap other observations (attn_rl.wrappers), or leave the key out: ignore=(key,)."
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

    def present(self, blocks: Mapping[str, Tensor]) -> Tensor | None:
        """Which rows of its block in an observation exist (B,N), boolean; None = all do."""
        if self.presence_key is not None:
            return blocks[self.presence_key] > 0.5
        return None if self.presence_column is None else blocks[self.name][..., self.presence_column] > 0.5


class Layout(NamedTuple):
    """What an observation space holds.

    Attributes:
        types: the entity types, in slot order.
        ego: ``(key, feature names)`` of every 1-D Box, in the space's order.
        action_mask: whether the observation carries an ``action_mask``.
        edges: the edge types, which join entities in pairs.
        ignored: keys that nobody looks at.
    """

    types: tuple[EntityType, ...]
    ego: tuple[tuple[str, tuple[str, ...]], ...] = ()
    action_mask: bool = False
    edges: tuple[EdgeType, ...] = ()
    ignored: tuple[str, ...] = ()


def read_plain(space: spaces.Box, names: Mapping[str, Sequence[str]], presence: str | int | None) -> EntityType:
    """The one entity type of a plain Box (N,F).

    Raises:
        ValueError: names or a presence column that do not fit.
    """
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


def read_dict(
    space: spaces.Dict, names: Mapping[str, Sequence[str]], edges: Ends | None = None, ignore: Sequence[str] = ()
) -> Layout:
    """What a Dict holds, key by key; ``edges`` says what edge types join, and nobody looks at the keys in ``ignore``.

    Raises:
        ValueError: a key that is neither entities nor ego, no entities, names, flags, edges or ignored keys that do not
            fit.
    """
    if isinstance(ignore, str) or not set(ignore) <= set(space.spaces):
        raise ValueError(f"ignore={ignore!r}; expected a sequence of keys of the observation, {list(space.spaces)}")
    types, ego, action_mask = [], [], False
    joined = {key: block for key, block in space.spaces.items() if is_edge_key(key) and key not in ignore}
    for key, block in space.spaces.items():
        owner = key.removesuffix(PRESENT)
        if key in joined or key in ignore:
            continue
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
            allowed = f"{ALLOWED} {find_wrapper(block, key) or find_categories(block)}".strip()
            raise ValueError(f"observation key {key!r} is {told(block)}, which is neither entities nor ego. {allowed}")
    if not types:
        raise ValueError(f"no entity type in {list(space.spaces)}: there is no 2-D Box (N,F). {ALLOWED}")
    capacities = {t.name: t.capacity for t in types} | ({EGO: 1} if ego else {})
    found = find_edges(joined, capacities, names, edges)
    return Layout(tuple(types), tuple(ego), action_mask, found, tuple(ignore))


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


def rows_of(entity_type: EntityType, blocks: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Features (B,N,F) and presence (B,N), boolean, of one type in a batch of observations."""
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
