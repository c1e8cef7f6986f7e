"""What can be remembered of an observation: its entities, and what the ego was, did and got, as rows.

Shapes: n environments, N slots of a type, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from attn_rl.edge_keys import is_edge_key
from attn_rl.wrappers.advice import find_categories, find_wrapper

STEP = "steps"
"""Name of the rows that say what the ego was, did and got."""
PRESENT = "_present"
MASK = "action_mask"
PLAIN = "items", "ego"
"""Keys that a plain Box of two dimensions, or of one, gets in the Dict."""
METADATA = ("entities", "kinds", "categories")

Observation = Mapping[str, np.ndarray]


class Source(NamedTuple):
    """Rows of an observation that can be remembered.

    Attributes:
        name: the entity type, or :data:`STEP`.
        keys: what holds them: one block (N,F), or several vectors that make one row.
        features: names of the F features; of a step also of what was done and what it brought.
        capacity: slots N.
        presence_key: flags of the rows; None: all exist.
        low, high: bounds of the features (F,).
        n_deeds: how many of the features, the last ones, are of what was done and what it brought.
    """

    name: str
    keys: tuple[str, ...]
    features: tuple[str, ...]
    capacity: int
    presence_key: str | None
    low: np.ndarray
    high: np.ndarray
    n_deeds: int = 0

    def rows(self, obs: Observation, done: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n,N,F), zero where absent, and presence (n,N), boolean, of a batch of observations.

        Args:
            obs: arrays by key.
            done: the last columns of a step: what was done and what it brought (n, ...).
        """
        if self.name == STEP:
            x = np.concatenate([*(obs[key] for key in self.keys), done], axis=1, dtype=np.float32, casting="unsafe")
            return x[:, None], np.ones((len(x), 1), bool)
        x = obs[self.keys[0]].astype(np.float32)
        if self.presence_key is None:
            return x, np.ones(x.shape[:2], bool)
        present = obs[self.presence_key] > 0.5
        return np.where(present[..., None], x, np.float32(0)), present


class Form:
    """How an observation becomes a Dict: a plain Box gets a key, and its column of presence one of its own.

    Args:
        space: of one observation.
        names: of features, by key; of a plain Box (N,F) with the name of its one type.
        presence: of a plain Box, the column (name or index) that says which rows exist.

    Attributes:
        space: of the Dict.
        names: as given, without the column of presence.

    Raises:
        ValueError: neither a Dict nor a Box of one or two dimensions, or a column that is not there.
    """

    def __init__(
        self, space: gym.Space[Any], names: Mapping[str, Sequence[str]], presence: str | int | None = None
    ) -> None:
        self.names, self._key = dict(names), ""
        self._column: int | None = None
        if isinstance(space, spaces.Dict):
            self.space = space
            return
        if not isinstance(space, spaces.Box) or len(space.shape) not in (1, 2):
            advice = find_categories(space) or find_wrapper(space) or "A wrapper of attn_rl.wrappers may help."
            raise ValueError(f"the observation is {space}; expected a Dict of blocks, or a Box (N,F) or (F,). {advice}")
        self._key = next(iter(names), PLAIN[len(space.shape) == 1])
        if presence is None or len(space.shape) == 1:
            self.space = spaces.Dict({self._key: space})
            return
        columns = tuple(names.get(self._key, ())) or tuple(f"f{i}" for i in range(space.shape[1]))
        column = columns.index(presence) if presence in columns else presence
        if not isinstance(column, int) or not 0 <= column < len(columns):
            raise ValueError(f"presence={presence!r} is none of the features {columns}; give its name or index")
        self._column = column
        self.names[self._key] = columns[:column] + columns[column + 1 :]
        low, high = (np.delete(bound, column, axis=1) for bound in (space.low, space.high))
        box = spaces.Box(np.minimum(low, 0), np.maximum(high, 0), dtype=space.dtype.type)
        self.space = spaces.Dict({self._key: box, self._key + PRESENT: spaces.MultiBinary(space.shape[0])})

    def blocks(self, obs: Any) -> dict[str, np.ndarray]:
        """A batch of observations by key."""
        if isinstance(obs, Mapping):
            return dict(obs)
        if self._column is None:
            return {self._key: obs}
        flags = (obs[..., self._column] > 0.5).astype(np.int8)
        return {self._key: np.delete(obs, self._column, axis=2), self._key + PRESENT: flags}


class Deed(NamedTuple):
    """What a step's row tells beside the ego: what was done, and what it brought.

    Attributes:
        features: names of its columns.
        low, high: their bounds.
    """

    features: tuple[str, ...] = ()
    low: np.ndarray = np.zeros(0, np.float32)
    high: np.ndarray = np.zeros(0, np.float32)


def deed_of(space: gym.Space[Any], actions: bool, rewards: bool) -> Deed:
    """What is told of actions in a space, and of rewards, where they are asked for.

    Raises:
        ValueError: actions that are no numbers.
    """
    names: tuple[str, ...] = ()
    low, high = np.zeros(0, np.float32), np.zeros(0, np.float32)
    if actions:
        if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Box):
            raise ValueError(f"the action space is {space}; expected numbers to remember, or actions=False")
        width = columns_of_action(np.asarray(space.sample())[None], space).shape[1]
        names = tuple(f"action_{i}" for i in range(width))
        low, high = np.zeros(width, np.float32), np.ones(width, np.float32)
        if isinstance(space, spaces.Box):
            low, high = (bound.flatten().astype(np.float32) for bound in (space.low, space.high))
    if rewards:
        names, low, high = (*names, "reward"), np.append(low, np.float32(-np.inf)), np.append(high, np.float32(np.inf))
    return Deed(names, low, high)


def columns_of_action(actions: np.ndarray, space: gym.Space[Any]) -> np.ndarray:
    """Actions (n, ...) as numbers (n,A): one column for every choice, flag or component."""
    rows = np.asarray(actions).reshape(len(actions), -1)
    if isinstance(space, spaces.Discrete):
        chosen: np.ndarray = rows - space.start == np.arange(space.n)
        return chosen
    if isinstance(space, spaces.MultiDiscrete):
        choices = zip((rows - space.start.flatten()).T, space.nvec.flatten(), strict=True)
        return np.concatenate([part[:, None] == np.arange(n) for part, n in choices], axis=1)
    return rows


def find_sources(space: spaces.Dict, names: Mapping[str, Sequence[str]], deed: Deed) -> list[Source]:
    """The rows of an observation that can be remembered: entity types in the space's order, then the step's row.

    Args:
        space: of one observation.
        names: of features, by key.
        deed: what else a step's row tells.
    """
    found, vectors = [], []
    for key, box in space.items():
        if not isinstance(box, spaces.Box) or key == MASK or is_edge_key(key) or _flags_rows(key, space):
            continue
        if len(box.shape) == 2:
            flags = key + PRESENT if key + PRESENT in space.spaces else None
            features = _names(names.get(key), box.shape[1])
            found.append(Source(key, (key,), features, box.shape[0], flags, box.low.min(0), box.high.max(0)))
        elif len(box.shape) == 1:
            vectors.append((key, _names(names.get(key), box.shape[0]), box))
    if vectors or deed.features:
        features = tuple(name for _, own, _ in vectors for name in own) + deed.features
        if len(set(features)) < len(features):
            features = tuple(f"{key}_{name}" for key, own, _ in vectors for name in own) + deed.features
        low, high = (
            np.concatenate([*(getattr(box, end) for *_, box in vectors), getattr(deed, end)], dtype=np.float32)
            for end in ("low", "high")
        )
        found.append(Source(STEP, tuple(key for key, *_ in vectors), features, 1, None, low, high, len(deed.features)))
    return found


def extended_metadata(
    metadata: Mapping[str, Any], space: spaces.Dict, copies: Mapping[str, tuple[Source, tuple[str, ...]]]
) -> dict[str, Any]:
    """Metadata that names remembered rows, and says that they are of the kinds and categories of what they remember.

    Args:
        metadata: of the environment.
        space: of its observation.
        copies: type of remembered rows -> what they remember, and the names of all of their features.
    """
    entities, kinds, categories = ({**(metadata.get(name) or {})} for name in METADATA)
    for copy, (source, features) in copies.items():
        entities[copy] = features
        owner = "ego" if source.name == STEP else source.name
        for kind, owners in kinds.items():
            groups = owners.get(owner, ())
            if groups and {name for group in _groups(groups) for name in group} <= set(features):
                kinds[kind] = {**kinds[kind], copy: groups, **_turned(kinds[kind], owner, copy, features)}
        known = {
            name: n for key in source.keys for name, n in _n_values(categories.get(key), space[key], entities, key)
        }
        if known.keys() & set(features):
            categories[copy] = {name: n for name, n in known.items() if name in features}
    found = {"entities": entities, "kinds": kinds, "categories": categories}
    return {**metadata, **{name: value for name, value in found.items() if value}}


def _turned(owners: Mapping[str, Any], owner: str, copy: str, features: tuple[str, ...]) -> dict[str, Any]:
    """Headings and vectors of a kind of positions, with those of remembered rows."""
    found = {}
    for word in ("heading", "vectors"):
        groups = owners.get(word, {}).get(owner, ())
        if groups and {name for group in _groups(groups) for name in group} <= set(features):
            found[word] = {**owners[word], copy: groups}
    return found


def _n_values(
    declared: Mapping[str, Any] | None, box: Any, entities: Mapping[str, Sequence[str]], key: str
) -> Iterator[tuple[str, Any]]:
    """The values of each category, counted where they were left to an integer Box: its copy is of floats."""
    names = _names(entities.get(key), box.shape[-1])
    for name, values in (declared or {}).items():
        yield name, int(box.high[..., names.index(name)].max()) + 1 if values is None and name in names else values


def _groups(given: Any) -> Any:
    return (given,) if isinstance(given[0], str) else given


def _names(given: Sequence[str] | None, width: int) -> tuple[str, ...]:
    return tuple(given) if given else tuple(f"f{i}" for i in range(width))


def _flags_rows(key: str, space: spaces.Dict) -> bool:
    rows = space.spaces.get(key.removesuffix(PRESENT)) if key.endswith(PRESENT) else None
    return isinstance(rows, spaces.Box) and len(rows.shape) == 2
