"""An environment that can be given the faults that the diagnosis names."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Pick(gym.Env):
    """Four items, one of the cue's colour; its number is the right action. Three choices an episode.

    Args:
        rule: what decides of the reward: ``"match"`` the item's colour, ``"ego"`` the ego's second number alone
            (items are all the same), ``"chance"`` dice that nobody sees, ``"moved"``
            the first action for 120 steps and nothing from then on, ``"nothing"``.
        reward: for a right choice.
        length: of an episode; None: it never ends.
        noise: declare that the cue is to be compared with the items' noise, too.
    """

    metadata = {"render_modes": []}

    def __init__(self, rule: str = "match", reward: float = 1.0, length: int | None = 3, noise: bool = False) -> None:
        self.rule, self.reward, self.length, self.played = rule, reward, length, 0
        self.observation_space = spaces.Dict(
            {"items": spaces.Box(-1, 1, (4, 3), np.float32), "ego": spaces.Box(-1, 1, (2,), np.float32)}
        )
        self.action_space = spaces.Discrete(4)
        kinds = {"colour": {"ego": ("cue",), "items": ("colour",)}}
        kinds |= {"noise": {"ego": ("cue",), "items": ("noise",)}} if noise else {}
        names = {"items": ("colour", "noise", "slot"), "ego": ("cue", "told")}
        self.metadata = {**type(self).metadata, "entities": names, "kinds": kinds if rule == "match" else {}}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.played += 1
        good = {"match": self.right, "ego": self.told, "chance": self.np_random.integers(4), "nothing": -1}
        good["moved"] = 0 if self.played < 120 else good["nothing"]
        reward = self.reward * float(int(action) == good[self.rule])
        return self._observe(), reward, self.steps == self.length, False, {}

    def _observe(self) -> dict[str, np.ndarray]:
        colours, noise = self.np_random.permutation(4), self.np_random.permutation(4)
        cue, self.told = self.np_random.integers(4), int(self.np_random.integers(4))
        self.right = int(np.flatnonzero(colours == cue)[0])
        items = np.stack([colours, noise, np.arange(4)], 1).astype(np.float32) / 2 - 0.75
        return {"items": items * (self.rule != "ego"), "ego": np.array([cue, self.told], np.float32) / 2 - 0.75}
