"""Entity types: the rows of one kind in an observation, and how they are told from the rest of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor


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


def plain_type(space: spaces.Box, names: Mapping[str, Sequence[str]], presence: str | int | None) -> EntityType:
    """The entity type that a bare Box (N,F) is; ``presence`` is the column that says which rows exist."""
    if len(names) > 1:
        raise ValueError(f"names has keys {sorted(names)}; a plain Box is one entity type: give one key, its name")
    name, columns = next(iter(names.items())) if names else ("items", ())
    columns = feature_names(name, space.shape[1], columns)
    if presence is None:
        return EntityType(name, space.shape[0], columns)
    if isinstance(presence, str) and presence not in columns:
        raise ValueError(f"presence={presence!r} is none of the features {columns}; give its index, or names=")
    column = columns.index(presence) if isinstance(presence, str) else int(presence)
    if not 0 <= column < len(columns):
        raise ValueError(f"presence={presence} is no column of a Box of shape {space.shape}; columns start at 0")
    features = columns[:column] + columns[column + 1 :]
    return EntityType(name, space.shape[0], features, presence_column=column, presence_name=columns[column])


def is_matrix(block: gym.Space[object] | None) -> TypeGuard[spaces.Box]:
    """Whether a part of an observation is a 2-D Box."""
    return isinstance(block, spaces.Box) and len(block.shape) == 2


def check_presence(key: str, flags: gym.Space[object], block: spaces.Box) -> None:
    """Raise where ``flags`` are not one per row of ``block``."""
    capacity = block.shape[0]
    if not isinstance(flags, spaces.MultiBinary | spaces.Box) or flags.shape != (capacity,):
        raise ValueError(f"{key!r} is {flags}; expected MultiBinary({capacity}), one flag per row of its block")


def feature_names(key: str, width: int, given: Sequence[str] | None) -> tuple[str, ...]:
    """The names given for ``width`` features, or f0, f1, ..."""
    if not given:
        return tuple(f"f{i}" for i in range(width))
    if len(given) != width or len(set(given)) != width:
        raise ValueError(f"{key!r} has {width} features; got names {tuple(given)}: give one distinct name per column")
    return tuple(given)


def rows_of(entity_type: EntityType, blocks: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Features (B,N,F) and presence (B,N), boolean, of a type in an observation."""
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
