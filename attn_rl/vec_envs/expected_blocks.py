"""What each key of an observation must be like, as its space and the entities in it say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from attn_rl.edges import EdgeType
from attn_rl.entities import ACTION_MASK, EntitySpec
from attn_rl.vec_envs.policy_input import MAX_ABS_OBSERVATION, is_category

ROUNDING = 1e-4
"""How far beyond a bound b is taken for rounding, as a multiple of max(1, |b|)."""


@dataclass
class Block:
    """What one key of an observation must be like.

    Attributes:
        shape: of one environment's block.
        dtype: of the space.
        low, high: bounds with room for rounding: scalars where all entries share them, else shaped like one row.
        presence_key: key of the flags that excuse absent rows; None = every row counts.
        presence_column: column of the block itself that does so.
        presence_axis: where the flags lack an axis of the block.
        binary: only 0 and 1 are allowed.
        anything: nobody looks at it.
        categories: per column of a category, the names of its values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    low: Any
    high: Any
    presence_key: str | None = None
    presence_column: int | None = None
    presence_axis: int = -1
    binary: bool = False
    anything: bool = False
    categories: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def broken(self, block: np.ndarray, obs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Where the block's values are impossible, a boolean of its shape; None = nowhere. NaN fails every bound."""
        if self.anything:
            return None
        if self.binary:
            wrong = (block != 0) & (block != 1)
        elif not self.categories and np.ndim(self.low) == 0 and block.min() >= self.low and block.max() <= self.high:
            return None
        else:
            wrong = ~((block >= self.low) & (block <= self.high))
        for column, values in self.categories.items():
            wrong[..., column] |= ~is_category(block[..., column], len(values))
        if self.presence_key is not None:
            wrong &= np.expand_dims(obs[self.presence_key] > 0.5, self.presence_axis)
        elif self.presence_column is not None:
            flags = block[..., self.presence_column]
            wrong &= ~(flags <= 0.5)[..., None]  # a flag that is NaN excuses nothing
        return wrong if wrong.any() else None


def expected_blocks(space: spaces.Space[object], spec: EntitySpec) -> dict[str, Block]:
    """What each key of an observation must be like; a bare Box stands under ``""``."""
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    flags = {t.presence_key for t in spec.types} | {t.mask_key for t in spec.edges} | {ACTION_MASK}
    blocks = {key: _block(part, key in flags) for key, part in parts.items()}
    for key, values in spec.categories.items():
        columns = spec.names[key]
        blocks["" if spec.plain else key].categories = {columns.index(name): names for name, names in values.items()}
    for entity_type in spec.types:
        block = blocks["" if spec.plain else entity_type.name]
        block.presence_key, block.presence_column = entity_type.presence_key, entity_type.presence_column
    for key in spec.ignored:
        blocks[key].anything = True
    for edge_type in spec.edges:
        for part_key in (edge_type.index_key, edge_type.attr_key):
            if part_key is not None:
                blocks[part_key].presence_key = edge_type.mask_key
        if edge_type.index_key is not None:
            _bound_ends(blocks[edge_type.index_key], edge_type, spec.capacities)
    return blocks


def _bound_ends(block: Block, edge_type: EdgeType, capacities: Mapping[str, int]) -> None:
    """Both ends of an edge are slots that there are, or -1, whatever the space says."""
    last = np.array([capacities.get(end, 1) - 1 for end in (edge_type.source, edge_type.target)])  # the ego is one
    block.presence_axis = 0 - (2 if edge_type.ends_first else 1)
    block.low, block.high = np.full(2, -1), last
    if edge_type.ends_first:
        block.low, block.high = block.low[:, None], block.high[:, None]


def _block(space: spaces.Space[object], binary: bool) -> Block:
    shape, dtype = space.shape or (), np.dtype(space.dtype)
    if binary or not isinstance(space, spaces.Box):
        return Block(shape, dtype, 0, 1, binary=True)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    low = np.where(np.isfinite(low), low - ROUNDING * np.maximum(1, np.abs(low)), -MAX_ABS_OBSERVATION)
    high = np.where(np.isfinite(high), high + ROUNDING * np.maximum(1, np.abs(high)), MAX_ABS_OBSERVATION)
    if low.size and low.min() == low.max() and high.min() == high.max():
        return Block(shape, dtype, float(low.min()), float(high.max()))
    return Block(shape, dtype, low.astype(np.float32), high.astype(np.float32))
