"""A healthy environment, and others that are broken in one way each."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

N = 5


class Healthy(gym.Env):
    """Ships come and go in slots without order; leave when none is near."""

    metadata = {"render_modes": [], "entities": {"ego": ("minutes",), "ships": ("dx", "dy", "speed")}}
    action_space: spaces.Space = spaces.Discrete(2)
    least, most, length = 0, N, 20

    def __init__(self) -> None:
        self.observation_space: spaces.Space = spaces.Dict(self.blocks())

    def blocks(self) -> dict[str, spaces.Space]:
        ships, ego = spaces.Box(-1, 1, (N, 3), np.float32), spaces.Box(0, 1, (1,), np.float32)
        return {"ego": ego, "ships": ships, "ships_present": spaces.MultiBinary(N)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.minutes = 0
        return self.look(), {}

    def step(self, action: Any):
        self.minutes = min(self.minutes + 1, self.length)
        ended = bool(np.asarray(action).ravel()[0] == 1)
        return self.look(), self.reward(), ended, self.minutes == self.length, {}

    def reward(self) -> float:
        return float(self.np_random.random())

    def rows(self, n: int) -> np.ndarray:
        return self.np_random.uniform(-1, 1, (n, 3))

    def look(self) -> dict[str, Any]:
        present = self.np_random.permutation(np.arange(N) < self.np_random.integers(self.least, self.most + 1))
        ships = np.zeros((N, 3), np.float32)
        ships[present] = self.rows(present.sum())
        return {"ego": np.float32([self.minutes / 20]), "ships": ships, "ships_present": present.astype(np.int8)}


class NanWhereAbsent(Healthy):
    """Absent rows may hold anything."""

    def look(self):
        obs = super().look()
        obs["ships"][obs["ships_present"] == 0] = np.nan
        return obs


class Masked(Healthy):
    """With a mask that forbids at times."""

    def blocks(self):
        return super().blocks() | {"action_mask": spaces.MultiBinary(2)}

    def look(self):
        return super().look() | {"action_mask": np.array([1, self.np_random.random() < 0.5], np.int8)}


class MaskedInParts(Masked):
    """Two parts of an action, masked one after the other."""

    action_space = spaces.MultiDiscrete([2, 3])

    def blocks(self):
        return super().blocks() | {"action_mask": spaces.MultiBinary(5)}

    def look(self):
        return super().look() | {"action_mask": np.int8([1, self.np_random.random() < 0.5, 0, 1, 1])}

    def step(self, action):
        if action[1] == 0:
            raise ValueError("no mask allows this")
        return super().step(action)


class BeyondBounds(Healthy):
    def rows(self, n):
        return 2 * super().rows(n)


class NanInARow(Healthy):
    def rows(self, n):
        rows = super().rows(n)
        rows[:1, 1] = np.nan
        return rows


class WrongShape(Healthy):
    def look(self):
        obs = super().look()
        return obs | {"ships": obs["ships"][: obs["ships_present"].sum()]}


class FlagsThatCount(Healthy):
    def look(self):
        obs = super().look()
        return obs | {"ships_present": 2 * obs["ships_present"]}


class PaddingSaidToBeThere(Healthy):
    def blocks(self):
        return {key: space for key, space in super().blocks().items() if key != "ships_present"}

    def look(self):
        obs = super().look()
        del obs["ships_present"]
        return obs


class FlagsAlwaysSet(Healthy):
    def look(self):
        return super().look() | {"ships_present": np.ones(N, np.int8)}


class NeverThere(Healthy):
    most = 0


class Kilometres(Healthy):
    def blocks(self):
        return super().blocks() | {"ships": spaces.Box(-1e7, 1e7, (N, 3), np.float32)}

    def rows(self, n):
        return 1e6 * super().rows(n)


class Hairbreadths(Healthy):
    def rows(self, n):
        return 1e-4 * super().rows(n)


class RaisesTheSecondTime(Healthy):
    games = 0

    def reset(self, *, seed=None, options=None):
        RaisesTheSecondTime.games += seed == 0
        if RaisesTheSecondTime.games > 1:
            raise RuntimeError("there is but one game")
        return super().reset(seed=seed)


class Clock(Healthy):
    def blocks(self):
        return super().blocks() | {"ego": spaces.Box(0, 1e9, (1,), np.float32)}

    def look(self):
        return super().look() | {"ego": np.float32([1e8 + 10 * self.minutes])}


class SpeedAlwaysOne(Healthy):
    def rows(self, n):
        rows = super().rows(n)
        rows[:, 2] = 1
        return rows


class EgoInRowZero(Healthy):
    """Slot 0 is the ego: nothing in its features says so."""

    def look(self):
        obs = super().look()
        obs["ships_present"][0], obs["ships"][0] = 1, 0.1 * self.rows(1)[0] + 0.8
        return obs


class GlobalRandomness(Healthy):
    def rows(self, n):
        return np.random.uniform(-1, 1, (n, 3))


class LeftOver(Healthy):
    """A state that reset forgets."""

    played = 0

    def reward(self):
        LeftOver.played += 1
        return LeftOver.played / 1e6


class LeftOverInTheSameGame(Healthy):
    """As lbforaging with one player: what a new copy plays is always the same, what the same one plays is not."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        return super().reset(seed=seed)

    def rows(self, n):
        return super().rows(n) / self.resets


class SortedByColumns(Healthy):
    """As lbforaging: all but the last row stand in order of where they are, roughly."""

    least = N

    def rows(self, n):
        rows = super().rows(n)
        rows[:-1] = rows[np.argsort(rows[:-1, 0] + 0.6 * self.np_random.normal(size=n - 1))]
        return rows


class SameArray(Healthy):
    def look(self):
        obs = super().look()
        self.kept = getattr(self, "kept", obs["ships"])
        self.kept[:] = obs["ships"]
        return obs | {"ships": self.kept}


class MaskThatCounts(Masked):
    def look(self):
        obs = super().look()
        return obs | {"action_mask": 3 * obs["action_mask"]}


class MaskOfWrongSize(Masked):
    def blocks(self):
        return super().blocks() | {"action_mask": spaces.MultiBinary(3)}

    def look(self):
        return super().look() | {"action_mask": np.ones(3, np.int8)}


class MaskOfContinuousActions(Masked):
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def step(self, action):
        return super().step(action[0] > 0.5)


class MaskAllowsNothing(Masked):
    def look(self):
        mask = np.ones(2, np.int8) * (self.np_random.random() < 0.9)
        return super().look() | {"action_mask": mask.astype(np.int8)}


class MaskNeverAllows(Masked):
    def look(self):
        return super().look() | {"action_mask": np.zeros(2, np.int8)}


class MaskAllowsWhatRaises(Masked):
    def step(self, action):
        if action == 1:
            raise ValueError("no ship may leave now")
        return super().step(action)


class MaskForbidsTheOnlyShip(Masked):
    """Choice i is ship i, and the mask allows the empty slots."""

    action_space = spaces.Discrete(N)
    least, most = 1, N - 1

    def blocks(self):
        return super().blocks() | {"action_mask": spaces.MultiBinary(N)}

    def look(self):
        obs = super().look()
        return obs | {"action_mask": 1 - obs["ships_present"]}


class TwoMasks(Masked):
    def action_masks(self):
        return np.array([False, True])


class HugeRewards(Healthy):
    def reward(self):
        return 1e4 * super().reward()


class NanRewards(Healthy):
    def reward(self):
        return float("nan")


class NeverEnds(Healthy):
    def step(self, action):
        return *super().step(0)[:3], False, {}


class Raises(Healthy):
    def step(self, action):
        raise ZeroDivisionError("division by zero")


class FourValues(Healthy):
    def step(self, action):
        return super().step(action)[:4]


class NamesThatDoNotFit(Healthy):
    metadata = {"render_modes": [], "entities": {"ships": ("dx", "dy")}}


class FlagsThatDoNotFit(Healthy):
    def blocks(self):
        return super().blocks() | {"ships_present": spaces.MultiBinary(N - 1)}


class BoundlessActions(Healthy):
    action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)


class ResetWithoutSeed(Healthy):
    def reset(self):
        return super().reset()


class InfoIsNone(Healthy):
    """Only the checkers of others mind."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], None


class Column(Healthy):
    """One table, whose column 0 says which rows exist."""

    metadata = {"render_modes": [], "entities": {"ships": ("there", "dx", "dy", "speed")}}

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (N, 4), np.float32)

    def look(self):
        obs = super().look()
        return np.column_stack([obs["ships_present"], obs["ships"]]).astype(np.float32)


class Picture(Healthy):
    metadata = {"render_modes": []}

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (84, 84, 3), np.uint8)

    def look(self):
        return self.np_random.integers(0, 256, (84, 84, 3), np.uint8)


class Grey(Picture):
    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (84, 84), np.uint8)

    def look(self):
        return super().look()[..., 0]


class SettingBesidesSettings(Healthy):
    """A preset whose setting stands one level too high."""

    metadata = {**Healthy.metadata, "preset": {"gamma": 0.9}}


class PointerAtNothing(Healthy):
    """A preset with a pointer at a type that there is not."""

    metadata = {**Healthy.metadata, "preset": {"settings": {"pointer": "boats"}}}


class PointerThatDoesNotFit(Healthy):
    """A preset with a pointer at five ships, and two actions."""

    metadata = {**Healthy.metadata, "preset": {"settings": {"pointer": "ships"}}}
