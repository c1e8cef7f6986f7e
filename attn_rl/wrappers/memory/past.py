"""The past as entities: what was observed, done and earned before stands beside what is observed now.

``steps=K`` keeps everything of the last K steps as entity types of their own: ``items`` become ``past_items``, and what
the ego was (and on request did and got) becomes ``past_steps``. ``sightings=K`` keeps the last sighting of the K things
that were seen last and are not seen now: ``items`` become ``unseen_items``. Every such row tells its age
(:mod:`attn_rl.wrappers.memory.age`). See ``docs/memory.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from attn_rl.wrappers.memory.age import MOST_AGE
from attn_rl.wrappers.memory.rows import PastSteps, Sightings, Which
from attn_rl.wrappers.memory.sources import (
    PRESENT,
    STEP,
    Form,
    columns_of_action,
    deed_of,
    extended_metadata,
    find_sources,
)


@dataclass(frozen=True)
class MemoryOptions:
    """What is remembered.

    Attributes:
        steps: the observations of so many steps; 0: none.
        sightings: of each entity type, the last sightings of so many things that are not seen now; 0: none.
        actions: in ``past_steps`` also what was done.
        rewards: in ``past_steps`` also what it brought.
        identity: features by which a thing is recognised, so that what is seen again is no memory. None given: those of
            the environment's ``metadata["identity"]``, or every row that was seen counts as a sighting of its own.
        presence: of an observation that is a plain Box (N,F), the column (name or index) that says which rows exist.

    Raises:
        ValueError: nothing to remember, or options that need another one.
    """

    steps: int = 0
    sightings: int = 0
    actions: bool = False
    rewards: bool = False
    identity: tuple[str, ...] = ()
    presence: str | int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "sightings"):
            if not 0 <= getattr(self, name) <= MOST_AGE:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a whole number from 0 to {MOST_AGE:,}")
        if not (self.steps or self.sightings):
            raise ValueError("nothing is remembered; expected steps= or sightings= of 1 or more")
        if (self.actions or self.rewards) and not self.steps:
            raise ValueError("actions and rewards are remembered with the steps they belong to; add steps=")
        if self.identity and not self.sightings:
            raise ValueError(
                f"identity={self.identity} recognises things for sightings=; add it, or leave identity out"
            )
        object.__setattr__(self, "identity", tuple(self.identity))

    def as_dict(self) -> dict[str, Any]:
        """The options that are not the defaults, as plain data."""
        return {field.name: x for field in fields(self) if (x := getattr(self, field.name)) != field.default}


class Memory:
    """What n environments that play side by side remember; wrappers are made of it.

    After every step call :meth:`remember` with the observation that was acted on, :meth:`forget` for those whose
    episode ended, and :meth:`recall` with the observation that is there now.

    Args:
        options: what is remembered.
        n_envs: environments n.
        observation_space, action_space: of one environment.
        metadata: of the environment: names of features, kinds, categories and ``identity``.

    Attributes:
        observation_space: of one observation with its past.
        metadata: as given, with names, kinds and categories of the remembered rows.

    Raises:
        ValueError: an observation that cannot be remembered, or that has such keys already.
    """

    def __init__(
        self,
        options: MemoryOptions,
        n_envs: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        metadata: Mapping[str, Any],
    ) -> None:
        self.options, self._actions, self._n_envs = options, action_space, n_envs
        self._form = Form(observation_space, metadata.get("entities") or {}, options.presence)
        space, names, identity = self._form.space, self._form.names, metadata.get("identity") or {}
        sources = find_sources(space, names, deed_of(action_space, options.actions, options.rewards))
        self.parts: list[PastSteps | Sightings] = []
        if options.steps:
            self.parts += [PastSteps(n_envs, source, options.steps) for source in sources]
        if options.sightings:
            for source in (source for source in sources if source.name != STEP):
                features = options.identity or tuple(identity.get(source.name, ()))
                self.parts.append(Sightings(n_envs, source, options.sightings, features))
        if not self.parts:
            raise ValueError(f"sightings= are of entities, and there are none in {space}; use steps=")
        blocks = {key: block for part in self.parts for key, block in part.spaces.items()}
        if taken := sorted(set(blocks) & set(space.spaces)):
            raise ValueError(f"the observation has keys {taken} already; is a memory around it, or rename them")
        self._sources, self.observation_space = sources, spaces.Dict({**space.spaces, **blocks})
        copies = {part.name: (part.source, part.features) for part in self.parts}
        self.metadata = extended_metadata({**metadata, "entities": names}, space, copies) | {
            "memory": options.as_dict()
        }

    def remember(self, obs: Any, actions: np.ndarray, rewards: np.ndarray) -> None:
        """Put a step of all environments into the past.

        Args:
            obs: the observations that were acted on, without their past.
            actions, rewards: what was done (n, ...), and what it brought (n,).
        """
        told = [columns_of_action(actions, self._actions)] if self.options.actions else []
        told += [np.asarray(rewards)[:, None]] if self.options.rewards else []
        empty = np.zeros((self._n_envs, 0), np.float32)
        deed = np.concatenate([empty, *told], axis=1, dtype=np.float32, casting="unsafe")
        blocks = self._form.blocks(obs)
        for part in self.parts:
            part.remember(blocks, deed)

    def forget(self, which: Which) -> None:
        """Clear the memory of some environments: their episodes ended."""
        for part in self.parts:
            part.forget(which)

    def recall(self, obs: Any, which: Which = slice(None)) -> dict[str, np.ndarray]:
        """Observations with their past, in new arrays.

        Args:
            obs: what is observed now, a batch: of all environments, or of those named.
            which: whose memory.
        """
        now = self._form.blocks(obs)
        past = {part.name: part.recall(now, which) for part in self.parts}
        flags = {name + PRESENT: present for name, (_, present) in past.items()}
        return {**now, **{name: rows for name, (rows, _) in past.items()}, **flags}

    def forgotten(self, i: int) -> dict[str, int]:
        """How many rows of each type the running episode of environment i had to drop."""
        return {part.name: int(part.forgotten[i]) for part in self.parts}

    def slot(self, slot: int, age: int = 0) -> int:
        """Where a slot of the observation stands among all with its past; or its row of ``age`` steps ago, -1: none.

        Slots are counted over all entity types, in the order of the space.
        """
        first = 0
        for source in self._sources:
            if source.name == STEP or slot >= first + source.capacity:
                first += source.capacity
                continue
            if not age:
                return self._first(source.name) + slot - first
            past = next((part for part in self.parts if isinstance(part, PastSteps) and part.source is source), None)
            found = -1 if past is None else past.slot(age, slot - first)
            return -1 if found < 0 or past is None else self._first(past.name) + found
        return -1

    @property
    def n_slots(self) -> int:
        """Entity slots of an observation without its past."""
        return sum(source.capacity for source in self._sources if source.name != STEP)

    def spread(self, places: np.ndarray) -> np.ndarray:
        """What is known of the slots of an observation (n,N,...) at their places among all slots; else NaN."""
        total = sum(self._capacities.values())
        found = np.full((len(places), total, *places.shape[2:]), np.nan)
        at = 0
        for source in self._sources:
            if source.name != STEP:
                first = self._first(source.name)
                found[:, first : first + source.capacity] = places[:, at : at + source.capacity]
                at += source.capacity
        return found

    @property
    def _capacities(self) -> dict[str, int]:
        """Slots of every entity type, in the order of the space."""
        found = {source.name: source.capacity for source in self._sources if source.name != STEP}
        found |= {part.name: part.capacity for part in self.parts}
        return {key: found[key] for key in self.observation_space if key in found}

    def _first(self, name: str) -> int:
        """The first slot of a type."""
        before = 0
        for key, capacity in self._capacities.items():
            if key == name:
                break
            before += capacity
        return before

    def get_state(self) -> dict[str, np.ndarray]:
        """What is remembered: copies of all arrays."""
        return {f"{part.name}.{name}": x.copy() for part in self.parts for name, x in _arrays(part).items()}

    def set_state(self, saved: Mapping[str, np.ndarray]) -> None:
        """Remember what :meth:`get_state` returned.

        Raises:
            ValueError: the state of another memory.
        """
        own = self.get_state()
        got = {name: (x.shape, x.dtype) for name, x in saved.items()}
        if got != {name: (x.shape, x.dtype) for name, x in own.items()}:
            raise ValueError(
                f"the saved memory has {got}; expected that of {self.options} and {self._n_envs} environments"
            )
        for part in self.parts:
            for name in _arrays(part):
                setattr(part, name, saved[f"{part.name}.{name}"].copy())


def find_relevant(memory: Memory, slot: int, past: tuple[int, int]) -> int:
    """The decisive slot among all with their past: that of now, else of so many steps ago; -1: none."""
    if slot >= 0:
        return memory.slot(int(slot))
    age, slot = past
    return memory.slot(int(slot), int(age)) if age else -1


def _arrays(part: PastSteps | Sightings) -> dict[str, np.ndarray]:
    """The arrays of a part that change, by name."""
    names = ("rows", "present", "ages", "forgotten")
    return {name: x for name, x in vars(part).items() if name in names}
