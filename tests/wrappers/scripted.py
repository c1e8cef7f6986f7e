"""An environment whose observations are written down beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym


class Scripted(gym.Env):
    """Shows the given observations, one a step, and ends after the last."""

    def __init__(self, space: gym.Space, observations: Sequence[Any], **metadata: Any) -> None:
        self.observation_space = space
        self.action_space = gym.spaces.Discrete(2)
        self.observations = observations
        self.metadata = {"render_modes": [], **metadata}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.t = 0
        return self.observations[0], {"told": "by the environment"}

    def step(self, action: Any):
        self.t = min(self.t + 1, len(self.observations) - 1)
        return self.observations[self.t], 1.0, self.t == len(self.observations) - 1, False, {"t": self.t}
