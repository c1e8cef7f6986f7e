"""An environment as a user might bring it: coins on a line, of which the most valuable one counts."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Coins(gym.Env):
    """Walk to the most valuable of some coins on a line: action 0 goes left, 1 stays, 2 goes right."""

    metadata = {"render_modes": [], "entities": {"coins": ("offset", "value")}}

    def __init__(self, min_entities=2, max_entities=5, capacity=None, render_mode=None):
        self.min_entities, self.max_entities = min_entities, max_entities
        self.capacity = capacity or max_entities
        self.observation_space = spaces.Dict(
            coins=spaces.Box(-2, 2, (self.capacity, 2)),
            coins_present=spaces.MultiBinary(self.capacity),
            ego=spaces.Box(-1, 1, (1,)),
        )
        self.action_space = spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        n = self.np_random.integers(self.min_entities, self.max_entities + 1)
        self.places = self.np_random.uniform(-1, 1, n).astype(np.float32)
        self.values = self.np_random.uniform(0, 1, n).astype(np.float32)
        self.place, self.steps = np.float32(0), 0
        return self.observe(), {}

    def observe(self):
        n = len(self.places)
        coins = np.zeros((self.capacity, 2), np.float32)
        coins[:n] = np.stack([self.places - self.place, self.values], axis=1)
        present = (np.arange(self.capacity) < n).astype(np.int8)
        return {"coins": coins, "coins_present": present, "ego": np.array([self.place], np.float32)}

    def step(self, action):
        self.place = np.clip(self.place + np.float32(0.2) * (int(action) - 1), np.float32(-1), np.float32(1))
        self.steps += 1
        found = bool(abs(self.places[self.values.argmax()] - self.place) < 0.12)
        return self.observe(), float(found), found, self.steps >= 10, {"is_success": found}


gym.register("My-v0", Coins)
