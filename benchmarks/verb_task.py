"""A game in which the right target differs by verb, and only a mask says which verb is allowed."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium import spaces

N_VERBS, N_ITEMS = 3, 7
ACTIONS = {
    "verb": {"choices": N_VERBS, "mask": "allowed"},
    "target": {"points_at": "items"},
}


class VerbTask(gym.Env):
    """Of seven items three are marked, one for each verb: take the verb that is allowed, and the item that it is for.

    One step; reward 1 where both are right. The mask allows one verb, drawn evenly, and masks are no features: whoever
    chooses verb and target independently of each other knows nothing of the verb when it comes to the target. The best
    that can do is to point at one marked item and be right once in three times: 1/3 is its bound.
    """

    metadata = {
        "render_modes": [],
        "entities": {"items": ("size", *(f"for_{i}" for i in range(N_VERBS)))},
        "actions": ACTIONS,
    }

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "items": spaces.Box(0, 1, (N_ITEMS, 1 + N_VERBS), np.float32),
                "items_present": spaces.MultiBinary(N_ITEMS),
                "allowed": spaces.MultiBinary(N_VERBS),
            }
        )
        self.action_space = spaces.MultiDiscrete([N_VERBS, N_ITEMS])

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Begin a game."""
        super().reset(seed=seed)
        return self._begin(), {}

    def _begin(self) -> dict[str, np.ndarray]:
        count = self.np_random.integers(N_VERBS, N_ITEMS + 1)
        self.right = self.np_random.permutation(count)[:N_VERBS]
        self.verb = int(self.np_random.integers(N_VERBS))
        present = np.arange(N_ITEMS) < count
        items = np.zeros((N_ITEMS, 1 + N_VERBS), np.float32)
        items[:, 0] = self.np_random.random(N_ITEMS) * present
        items[self.right, 1 + np.arange(N_VERBS)] = 1
        allowed = np.arange(N_VERBS) == self.verb
        return {"items": items, "items_present": present.astype(np.int8), "allowed": allowed.astype(np.int8)}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """End it."""
        verb, target = map(int, action)
        right = verb == self.verb and target == self.right[verb]
        return self._begin(), float(right), True, False, {"is_success": right}
