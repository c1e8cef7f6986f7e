"""Observations of other parts than Boxes at the top level: nested Dicts, and whole numbers that are names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

Way = tuple[str | int, ...]
"""Keys and numbers that lead to a part."""


class FlattenDict(gym.ObservationWrapper, RecordConstructorArgs):
    """Give every part of a nested ``Dict`` or ``Tuple`` observation a key of its own at the top level.

    The key is the way to the part: ``"agent"``, then ``"inventory"`` becomes ``"agent_inventory"``; parts of a Tuple
    are numbered.

    Args:
        env: the environment.
        names: other keys for some parts, by the key that they would get.

    Raises:
        ValueError: an observation that is neither, names for parts that are not there, or two parts of one key.
    """

    def __init__(self, env: gym.Env, names: Mapping[str, str] | None = None) -> None:
        RecordConstructorArgs.__init__(self, names=names)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Dict | spaces.Tuple):
            raise ValueError(f"the observation is {space}; expected a Dict or a Tuple")
        leaves = [("_".join(map(str, way)), way, part) for way, part in _leaves(space)]
        if unknown := sorted(set(names or {}) - {key for key, _, _ in leaves}):
            raise ValueError(f"names are given for {unknown}; the parts are {sorted(key for key, _, _ in leaves)}")
        found = [((names or {}).get(key, key), way, part) for key, way, part in leaves]
        self._ways = {key: way for key, way, _ in found}
        if len(self._ways) < len(found):
            raise ValueError(f"two parts would be called the same: {sorted(key for key, _, _ in found)}; use names=")
        self.observation_space = spaces.Dict({key: part for key, _, part in found})

    def observation(self, observation: Any) -> dict[str, Any]:
        """Return the parts by their keys."""
        return {key: _follow(observation, way) for key, way in self._ways.items()}


class DiscreteToBox(gym.ObservationWrapper, RecordConstructorArgs):
    """Turn ``Discrete`` and ``MultiDiscrete`` parts into Boxes of whole numbers, and declare them categories.

    A ``Discrete`` becomes one number (1,), a ``MultiDiscrete`` keeps its shape, (F,) or (N,F); all count from 0. Where
    ``metadata["categories"]`` names the values already, that stays.

    Args:
        env: the environment, whose observation is a Dict, or such a part itself.
        name: where the observation is such a part itself, the key that it gets.

    Raises:
        ValueError: there is no such part.
    """

    def __init__(self, env: gym.Env, name: str = "items") -> None:
        RecordConstructorArgs.__init__(self, name=name)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        self._bare = None if isinstance(space, spaces.Dict) else name
        parts = space.spaces if isinstance(space, spaces.Dict) else {name: space}
        self._starts = {key: _starts(part) for key, part in parts.items() if _is_discrete(part)}
        if not self._starts:
            raise ValueError(f"the observation is {space}; expected a Discrete or MultiDiscrete in it")
        names, categories = dict(env.metadata.get("entities") or {}), dict(env.metadata.get("categories") or {})
        boxes = {}
        for key in self._starts:
            sizes = _sizes(parts[key])
            boxes[key] = spaces.Box(np.zeros_like(sizes), sizes - 1, dtype=np.int32)
            width = sizes.shape[-1]
            names.setdefault(key, (key,) if sizes.size == 1 else tuple(f"{key}_{i}" for i in range(width)))
            most = sizes.reshape(-1, width).max(0)
            categories[key] = {
                **{feature: int(n) for feature, n in zip(names[key], most, strict=True)},
                **categories.get(key, {}),
            }
        self.observation_space = spaces.Dict({**parts, **boxes})
        self.metadata = {**env.metadata, "entities": names, "categories": categories}

    def observation(self, observation: Any) -> dict[str, Any]:
        """Return the parts, whole numbers as arrays that count from 0."""
        parts = observation if self._bare is None else {self._bare: observation}
        found = {
            key: np.atleast_1d(np.asarray(parts[key]) - start).astype(np.int32) for key, start in self._starts.items()
        }
        return {**parts, **found}


def _is_discrete(part: gym.Space[Any]) -> bool:
    return isinstance(part, spaces.Discrete) or (isinstance(part, spaces.MultiDiscrete) and len(part.shape) in (1, 2))


def _starts(part: Any) -> np.ndarray:
    return np.asarray(part.start)


def _sizes(part: Any) -> np.ndarray:
    return np.atleast_1d(np.asarray(part.n if isinstance(part, spaces.Discrete) else part.nvec, np.int64))


def _leaves(space: gym.Space[Any], way: Way = ()) -> Iterator[tuple[Way, gym.Space[Any]]]:
    """Every part that is neither a Dict nor a Tuple, and the way to it."""
    if isinstance(space, spaces.Dict):
        for key, part in space.items():
            yield from _leaves(part, (*way, key))
    elif isinstance(space, spaces.Tuple):
        for i, part in enumerate(space):
            yield from _leaves(part, (*way, i))
    else:
        yield way, space


def _follow(value: Any, way: Way) -> Any:
    for step in way:
        value = value[step]
    return value
