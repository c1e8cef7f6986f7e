"""Tasks of memory that others use, many games at once in NumPy, written after their descriptions.

- ``proof``: the proof of memory of recurrent-ppo-truncated-bptt (MarcoMeter): a goal is shown in the first two steps,
  then the agent walks to the left or the right end of a line.
- ``repeat``: RepeatPrevious of POPGym (Morad et al. 2023): say the suit of the card of k steps ago.
- ``bandit``: sb3-contrib #211: two colours, in an order drawn at every step; one of them pays, all episode long.

Observations are vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn


class Task(VecEnv):
    """Games side by side; a subclass begins them, shows them and plays a step of them.

    Args:
        n_envs: games.
        width: numbers in an observation.
        n_actions: choices.
        seed: of everything that is drawn.

    Attributes:
        scores: of every episode that ended, 0 to 1.
    """

    n_steps: int

    def __init__(self, n_envs: int, width: int, n_actions: int, seed: int) -> None:
        self.render_mode = None
        super().__init__(n_envs, spaces.Box(-1, 1, (width,), np.float32), spaces.Discrete(n_actions))
        self.metadata: dict[str, Any] = {}
        self.random = np.random.default_rng(seed)
        self.time, self.right = np.zeros(n_envs, int), np.zeros(n_envs)
        self.returns = np.zeros(n_envs)
        self.scores: list[float] = []

    def begin(self, rows: np.ndarray) -> None:
        """Begin new games in some rows (n,), boolean."""
        raise NotImplementedError

    def observe(self) -> np.ndarray:
        """What is seen (n,F)."""
        raise NotImplementedError

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rewards and which games ended, (n,) each."""
        raise NotImplementedError

    def score(self, row: int) -> float:
        """How well an episode went that ends, 0 to 1."""
        raise NotImplementedError

    def reset(self) -> np.ndarray:
        """Begin everywhere."""
        self._begin(np.ones(self.num_envs, bool))
        return self.observe()

    def _begin(self, rows: np.ndarray) -> None:
        self.time[rows], self.right[rows], self.returns[rows] = 0, 0, 0
        self.begin(rows)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions."""
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Play."""
        rewards, done = self.play(self.actions)
        self.time += 1
        self.returns += rewards
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        last = self.observe() if done.any() else None
        for row in np.flatnonzero(done).tolist():
            self.scores.append(self.score(row))
            infos[row] = {"terminal_observation": last[row]}  # type: ignore[index]
            infos[row]["episode"] = {"r": float(self.returns[row]), "l": int(self.time[row]), "t": 0.0}
        if done.any():
            self._begin(done)
        return self.observe(), rewards.astype(np.float32), done, infos

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The same of every game."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """The same of every game."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """There are none."""
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: Any, indices: VecEnvIndices = None) -> list[bool]:
        """No game is."""
        return [False for _ in self._get_indices(indices)]


class Proof(Task):
    """A line from -1 to 1: +1 at the goal's end, -1 at the other, -.1 a step; it stands still while the goal shows."""

    def __init__(self, n_envs: int, seed: int, stride: float = 0.2) -> None:
        super().__init__(n_envs, 3, 2, seed)
        self.stride, self.place, self.goal = stride, np.zeros(n_envs), np.zeros(n_envs)

    def begin(self, rows: np.ndarray) -> None:
        self.place[rows] = 0
        self.goal[rows] = self.random.choice((-1, 1), rows.sum())

    def observe(self) -> np.ndarray:
        shown = (self.time < 2) * self.goal
        return np.stack([shown, self.place, -shown], 1).astype(np.float32)

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.place += np.where(self.time < 2, 0, self.stride * (2 * actions - 1))
        done = (np.abs(self.place) >= 1 - 1e-6) | (self.time >= 10 / self.stride)
        self.right = np.abs(self.place - self.goal) < 1e-6
        won = np.where(done, np.where(self.right, 1 + 0.1 / self.stride, -1), 0)
        return won - 0.1 * ~done, done

    def score(self, row: int) -> float:
        return float(self.right[row])


class Repeat(Task):
    """Decks of 52 cards are dealt: +-1/(cards - lag) for the suit of ``lag`` steps ago, from then on."""

    def __init__(self, n_envs: int, seed: int, lag: int = 4, decks: int = 1) -> None:
        super().__init__(n_envs, 4, 4, seed)
        self.lag, self.n_steps = lag, 52 * decks
        self.cards = np.zeros((n_envs, self.n_steps), int)

    def begin(self, rows: np.ndarray) -> None:
        dealt = np.tile(np.arange(self.n_steps) % 4, (rows.sum(), 1))
        self.cards[rows] = self.random.permuted(dealt, axis=1)

    def observe(self) -> np.ndarray:
        shown = self.cards[np.arange(self.num_envs), np.minimum(self.time, self.n_steps - 1)]
        return (shown[:, None] == np.arange(4)).astype(np.float32)

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked = self.time >= self.lag
        said = actions == self.cards[np.arange(self.num_envs), np.maximum(self.time - self.lag, 0)]
        self.right += asked & said
        return np.where(asked, np.where(said, 1, -1), 0) / (self.n_steps - self.lag), self.time >= self.n_steps - 1

    def score(self, row: int) -> float:
        return float(self.right[row] / (self.n_steps - self.lag))


class Bandit(Task):
    """Two colours in a random order; choosing the one that pays in this episode brings 1, 20 times."""

    n_steps = 20

    def __init__(self, n_envs: int, seed: int) -> None:
        super().__init__(n_envs, 6, 2, seed)
        self.colours, self.first = np.zeros((n_envs, 2, 3)), np.zeros(n_envs, int)

    def begin(self, rows: np.ndarray) -> None:
        self.colours[rows] = self.random.random((rows.sum(), 2, 3))  # the first one pays
        self.first[rows] = self.random.integers(0, 2, rows.sum())

    def observe(self) -> np.ndarray:
        rows = np.arange(self.num_envs)
        return np.concatenate([self.colours[rows, self.first], self.colours[rows, 1 - self.first]], 1).astype(
            np.float32
        )

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        paid = actions == self.first
        self.right += paid
        self.first = self.random.integers(0, 2, self.num_envs)
        return paid.astype(float), self.time >= self.n_steps - 1

    def score(self, row: int) -> float:
        return float(self.right[row] / self.n_steps)


class LastDeed(Task):
    """A task that also shows what was done last, one-hot, and what it brought: for policies that cannot look back."""

    def __init__(self, task: Task) -> None:
        self.task, n = task, int(task.action_space.n)  # type: ignore[attr-defined]
        super().__init__(task.num_envs, task.observation_space.shape[0] + n + 1, n, 0)  # type: ignore[index]
        self.scores, self.deed = task.scores, np.zeros((task.num_envs, n + 1), np.float32)

    def reset(self) -> np.ndarray:
        """Begin everywhere."""
        self.deed[:] = 0
        return np.concatenate([self.task.reset(), self.deed], 1)

    def step_wait(self) -> VecEnvStepReturn:
        """Play."""
        obs, rewards, dones, infos = self.task.step(self.actions)
        self.deed = np.zeros_like(self.deed)
        self.deed[np.arange(len(dones)), self.actions], self.deed[:, -1] = 1, rewards
        for row in np.flatnonzero(dones).tolist():
            infos[row]["terminal_observation"] = np.append(infos[row]["terminal_observation"], self.deed[row])
        self.deed[dones] = 0
        return np.concatenate([obs, self.deed], 1), rewards, dones, infos
