"""What one call of C++ reads of an observation: blocks of float32, categories as one column per value."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from torch import Tensor

from attn_rl.backends.kernels.acting import Block
from attn_rl.entities import EntitySpec
from attn_rl.nn.stages import Opaque
from attn_rl.type_names import with_article

PLAIN = ""
"""Stands for the key where the observation is a plain Box."""


def by_key(spec: EntitySpec, obs: Any) -> dict[str, Tensor]:
    """The blocks that :func:`read_blocks` describes.

    Raises:
        ValueError: a category has a value that it cannot have.
    """
    if isinstance(obs, dict):
        return dict(spec.expand(obs)) if spec.computed else obs
    name = spec.types[0].name
    return {PLAIN: spec.expand({name: obs})[name]}


def read_blocks(spec: EntitySpec, space: gym.Space[Any]) -> list[Block]:
    """Where an observation, with its categories expanded, holds the ego, if there is one, and the entity types.

    Args:
        spec: of the observation.
        space: of the observation.

    Raises:
        Opaque: somebody put something else in the place of ``spec``, or a block is not float32.
    """
    if type(spec) is not EntitySpec:
        raise Opaque("features_extractor.spec", f"is {with_article(type(spec))}")
    expanded = spec.expanded
    found = [Block(tuple(key for key, _ in spec.ego), (len(expanded.ego_features),))] if spec.ego else []
    found += [
        Block(
            (PLAIN if spec.plain else t.name,),
            (t.capacity, t.width + (t.presence_column is not None)),
            t.presence_key,
            t.presence_column,
        )
        for t in expanded.types
    ]
    for key in (key for block in found for key in block.keys):
        part = space.spaces[key] if isinstance(space, spaces.Dict) else space
        if part.dtype != np.float32 and (spec.types[0].name if key == PLAIN else key) not in spec.computed:
            where = f"holds {key!r} as" if key != PLAIN else "is"
            raise Opaque("observation_space", f"{where} {part.dtype}, where one call reads float32")
    return found
