"""A memory for a single environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from attn_rl.wrappers.base import Info
from attn_rl.wrappers.memory.past import Memory, MemoryOptions, find_relevant

FORGOTTEN = "forgotten"
"""Key in info: per type, how many remembered rows the running episode had to drop."""


class MemoryWrapper(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Let an environment show its past: the last steps, or the last sightings of what is not seen now, as entities.

    For many environments at once, and for speed: :class:`attn_rl.vec_envs.memory.VecMemory`. ``info["forgotten"]``
    says, per type, how many rows the running episode had to drop. The memory is cleared at every reset.

    Args:
        env: with an observation that holds entities, or a vector, which becomes the ego.
        steps, sightings, actions, rewards, identity, presence: see :class:`MemoryOptions`.

    Raises:
        ValueError: an observation that cannot be remembered.
    """

    def __init__(
        self,
        env: gym.Env,
        steps: int = 0,
        sightings: int = 0,
        *,
        actions: bool = False,
        rewards: bool = False,
        identity: Sequence[str] = (),
        presence: str | int | None = None,
    ) -> None:
        options = MemoryOptions(steps, sightings, actions, rewards, tuple(identity), presence)
        RecordConstructorArgs.__init__(self, **options.as_dict())
        gym.Wrapper.__init__(self, env)
        told = {**(getattr(env.unwrapped, "metadata", None) or {}), **(env.metadata or {})}
        self.memory = Memory(options, 1, env.observation_space, env.action_space, told)
        self.observation_space, self.metadata = self.memory.observation_space, self.memory.metadata
        self._obs: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, object] | None = None) -> tuple[Any, Info]:
        """Reset and forget."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.memory.forget(slice(None))
        return self._recall(obs), self._told(info)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        """Step; what was observed before is remembered."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.memory.remember(self._obs, np.asarray(action)[None], np.array([reward]))
        return self._recall(obs), reward, terminated, truncated, self._told(info)

    def relevant(self) -> int:
        """Slot of the decisive entity, now or in the past; -1: there is none."""
        return find_relevant(self.memory, self._asked("relevant", -1), self._asked("relevant_past", (0, 0)))

    def entity_positions(self) -> np.ndarray:
        """Where the slots are in the picture (N,2); NaN for those of the past."""
        unknown = np.full((self.memory.n_slots, 2), np.nan)
        found: np.ndarray = self.memory.spread(np.asarray(self._asked("entity_positions", unknown))[None])[0]
        return found

    def _told(self, info: Info) -> Info:
        info = {**info, FORGOTTEN: self.memory.forgotten(0)}
        return info if "relevant" not in info else {**info, "relevant": self.relevant()}

    def _asked(self, name: str, none: Any) -> Any:
        return self.env.get_wrapper_attr(name)() if self.env.has_wrapper_attr(name) else none

    def _recall(self, obs: Any) -> dict[str, np.ndarray]:
        self._obs = as_batch(obs)
        return {key: x[0] for key, x in self.memory.recall(self._obs).items()}


def as_batch(obs: Any) -> Any:
    """One observation as a batch of one."""
    return {key: np.array(x)[None] for key, x in obs.items()} if isinstance(obs, Mapping) else np.array(obs)[None]
