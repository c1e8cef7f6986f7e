"""Environments with entities, as small as they can be, for tests that need one."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

N, F, E = 5, 3, 2
ITEMS = spaces.Box(-1.0, 1.0, (N, F), np.float32)
EGO = spaces.Box(-1.0, 1.0, (E,), np.float32)


class Toy(gym.Env):
    """One random observation after another; an action that picks a present slot is rewarded.

    Args:
        action_space: any.
        masked: carry an ``action_mask`` with one flag per choice, of which about half are set and never all clear.
        length: steps of an episode.
        blocks: further spaces in the observation.
        plain: observe the bare Box ``(N, F)`` instead, whose last column is presence.
    """

    metadata = {"render_modes": [], "entities": {"items": ("dx", "dy", "size"), "ego": ("x", "y")}}

    def __init__(
        self,
        action_space: spaces.Space | None = None,
        *,
        masked: bool = False,
        length: int = 3,
        blocks: dict[str, spaces.Space] | None = None,
        plain: bool = False,
    ) -> None:
        self.action_space = action_space or spaces.Discrete(N)
        found: dict[str, spaces.Space] = {"items": ITEMS, "items_present": spaces.MultiBinary(N), "ego": EGO}
        if masked:
            found["action_mask"] = spaces.MultiBinary(n_choices(self.action_space))
        self.observation_space = ITEMS if plain else spaces.Dict(found | (blocks or {}))
        self.length, self.plain, self.masked = length, plain, masked

    def _observe(self) -> Any:
        rng = self.np_random
        self.present = rng.random(N) < 0.6
        self.present[rng.integers(N)] = True
        if self.plain:
            rows = rng.uniform(-1, 1, (N, F)).astype(np.float32) * self.present[:, None]
            rows[:, -1] = self.present
            return rows
        seed = int(rng.integers(2**31))
        self.observation_space.seed(seed)
        observation = self.observation_space.sample()
        observation["items"][~self.present] = 0.0
        observation["items_present"][:] = self.present
        if self.masked:
            self.mask = rng.random(n_choices(self.action_space)) < 0.5
            self.mask[rng.integers(n_choices(self.action_space))] = True
            observation["action_mask"][:] = self.mask
        return observation

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        chosen = np.asarray(action).ravel()[-1]
        reward = float(self.present[int(chosen) % N]) if np.issubdtype(np.asarray(action).dtype, np.integer) else 0.0
        return self._observe(), reward, self.steps >= self.length, False, {}

    def action_masks(self) -> np.ndarray:
        """What MaskablePPO asks for: the mask of the last observation, or the present slots without one."""
        return self.mask if self.masked else self.present


def n_choices(action_space: spaces.Space) -> int:
    """Number of logits of a discrete action space."""
    return int(action_space.n) if isinstance(action_space, spaces.Discrete) else int(np.sum(action_space.nvec))
