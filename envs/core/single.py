"""A single game of any batched environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from .batched import BatchedEnv
from .types import BoolArray, FloatArray, Info, Observation


class SingleEnv(gym.Env[Observation, Any]):
    """One game of a :class:`BatchedEnv`: a batch of one, so that both always play by the same rules.

    A subclass names the rules (``rules = SeekVectorEnv``). Keyword arguments are those of the rules.
    """

    rules: ClassVar[type[BatchedEnv]]
    metadata: dict[str, Any] = {k: v for k, v in BatchedEnv.metadata.items() if k != "autoreset_mode"}

    def __init__(self, **kwargs: Any):
        self.batch = self.rules(num_envs=1, **kwargs)
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space
        self.render_mode = self.batch.render_mode
        self.metadata = {k: v for k, v in self.batch.metadata.items() if k != "autoreset_mode"}

    def reset(self, *, seed: int | None = None, options: dict[str, object] | None = None) -> tuple[Observation, Info]:
        """Begin a new episode: seeded, or the next one of the stream. Returns observation, info.

        Options are those of the rules, each with one row, as for one sub-environment.
        """
        super().reset(seed=seed)
        obs, infos = self.batch.reset(seed=seed, options=options)
        return {key: block[0] for key, block in obs.items()}, self._info(infos["is_success"])

    def step(self, action: object) -> tuple[Observation, float, bool, bool, Info]:
        """Play one step. Returns observation, reward, terminated, truncated, info."""
        obs, outcome, truncated = self.batch.play(np.asarray(action)[None])
        info = self._info(outcome.success)
        if outcome.terminated[0] or truncated[0]:
            info |= {name: float(value[0]) for name, value in outcome.scores.items()}
        return (
            {key: block[0] for key, block in obs.items()},
            float(outcome.reward[0]),
            bool(outcome.terminated[0]),
            bool(truncated[0]),
            info,
        )

    def render(self) -> np.ndarray | None:
        """Draw the game: (256, 256, 3) uint8; None without ``render_mode="rgb_array"``."""
        pictures = self.batch.render()
        return None if pictures is None else pictures[0]

    def relevant(self) -> int:
        """Return the slot of the decisive entity in the current observation, -1 where there is none."""
        return int(self.batch.relevant()[0])

    def relevant_past(self) -> tuple[int, int]:
        """Return how many steps ago the decisive entity was seen, 0: it is none of the past, and its slot then."""
        age, slot = self.batch.relevant_past()[0]
        return int(age), int(slot)

    def entity_positions(self) -> FloatArray:
        """Return where the entities are in the picture: (slots, 2), see ``BatchedEnv.entity_positions``."""
        places: FloatArray = self.batch.entity_positions()[0]
        return places

    def ego_positions(self) -> FloatArray:
        """Return where the ego is in the picture: (2,)."""
        place: FloatArray = self.batch.ego_positions()[0]
        return place

    def oracle(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scripted policy's action for an observation of this game."""
        actions: np.ndarray = self.batch.oracle({key: np.asarray(block)[None] for key, block in obs.items()})[0]
        return actions

    def get_state(self) -> dict[str, Any]:
        """Return everything the future depends on: arrays and JSON-able values."""
        return self.batch.get_state() | {"np_random": self.np_random.bit_generator.state}

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """Continue exactly where :meth:`get_state` was called."""
        self.batch.set_state(saved)
        self.np_random.bit_generator.state = saved["np_random"]

    def _info(self, success: BoolArray) -> Info:
        return {"is_success": bool(success[0]), "relevant": self.relevant()}
