"""What the observation wrappers share: some keys of the observation become blocks of entities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsFloat, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from attn_rl.wrappers.block import EntityBlock, PaddedRows

DROPPED = "entities_dropped"
Info: TypeAlias = dict[str, Any]
"""What Gymnasium calls info."""


class ToEntities(gym.Wrapper, ABC):
    """Replace some keys of the observation by blocks of entities; leave the other keys as they are.

    Feature names go into ``metadata["entities"]``, the values of categories into ``metadata["categories"]``, where
    ``EntitySpec.from_env`` finds them. What does not fit is
    counted in ``info["entities_dropped"][name]`` at every reset and step, if dropping was declared.

    Args:
        env: the environment.
        sources: keys of the observation to replace; None: the observation is not a Dict, and all of it is replaced.
        blocks: what replaces them.
        categories: per block, features whose numbers are names, and these.
    """

    def __init__(
        self,
        env: gym.Env,
        sources: Iterable[str] | None,
        blocks: Sequence[EntityBlock],
        categories: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    ) -> None:
        super().__init__(env)
        self._bare = sources is None
        self._sources = frozenset(sources or ())
        self.blocks = {block.name: block for block in blocks}
        space = env.observation_space
        kept = {k: s for k, s in space.items() if k not in self._sources} if isinstance(space, spaces.Dict) else {}
        made = {key: space for block in blocks for key, space in block.spaces.items()}
        if taken := sorted(set(kept) & set(made)):
            raise ValueError(f"the observation already has keys {taken}; choose another name than {blocks[0].name!r}")
        self.observation_space = spaces.Dict({**kept, **made})
        names = {**(env.metadata.get("entities") or {}), **{block.name: block.features for block in blocks}}
        self.metadata = {**env.metadata, "entities": names}
        if categories:
            self.metadata["categories"] = {**(env.metadata.get("categories") or {}), **categories}

    @abstractmethod
    def rows(self, observation: Any) -> Mapping[str, np.ndarray]:
        """Take the entities (n,F) of each block out of an observation of the wrapped environment."""

    def pairs(self, observation: Any, padded: Mapping[str, PaddedRows]) -> dict[str, np.ndarray]:
        """Take what joins entities in pairs out of an observation; ``padded`` says where each row went."""
        return {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[dict[str, object], Info]:
        """Reset; return the observation with blocks of entities, and info."""
        return self._convert(*self.env.reset(seed=seed, options=options))

    def step(self, action: object) -> tuple[dict[str, object], SupportsFloat, bool, bool, Info]:
        """Step; return the observation with blocks of entities, reward, terminated, truncated and info."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._convert(observation, info)
        return observation, reward, terminated, truncated, info

    def count(self, observation: Any) -> Info:
        """Further figures for info; none here."""
        return {}

    def _convert(self, observation: Any, info: Info) -> tuple[dict[str, object], Info]:
        result = {} if self._bare else {k: v for k, v in observation.items() if k not in self._sources}
        counted = {}
        padded = {name: self.blocks[name].pad(rows) for name, rows in self.rows(observation).items()}
        for name, block in padded.items():
            result[name], result[f"{name}_present"] = block.x, block.present
            if self.blocks[name].counts:
                counted[name] = block.dropped
        result |= self.pairs(observation, padded)
        info = {**info, **self.count(observation)}
        return result, {**info, DROPPED: {**info.get(DROPPED, {}), **counted}} if counted else info


def find(env: gym.Env, name: str) -> tuple[gym.Space[object], bool]:
    """The space called ``name``, and whether it is the whole observation (which then gets that name).

    Raises:
        ValueError: a Dict without that key.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        return space, True
    if name not in space.spaces:
        raise ValueError(f"the observation has no key {name!r}; choose one of {list(space.spaces)}")
    return space[name], False


def declared_names(env: gym.Env, name: str, width: int, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names given, or those in the environment's metadata, or None.

    Raises:
        ValueError: not one name per feature.
    """
    names = given or (env.metadata.get("entities") or {}).get(name)
    if names is not None and len(names) != width:
        raise ValueError(f"{name!r} has {width} features; got names {tuple(names)}: give one distinct name per feature")
    return None if names is None else tuple(names)
