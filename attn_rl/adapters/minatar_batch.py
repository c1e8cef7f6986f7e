"""Many games of MinAtar at once: stepped one by one, seen all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import minatar
import numpy as np
from gymnasium import spaces
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from attn_rl.adapters.minatar import Cells, Observation, draw, draw_seed, ego_positions, entity_positions
from attn_rl.wrappers.base import Info


class MinAtarVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """Many games as entities; sub-environment i plays what :class:`MinAtarEntities` seeded ``seed + i`` plays.

    Args:
        num_envs: number of games.
        game, use_minimal_action_set, sticky_action_prob, difficulty_ramping: as MinAtar takes them.
        capacity: see :class:`MinAtarEntities`.
        render_mode: None or ``"rgb_array"``.
    """

    batched_methods = ("entity_positions", "ego_positions")

    def __init__(
        self,
        num_envs: int,
        game: str,
        use_minimal_action_set: bool = False,
        capacity: int | None = None,
        render_mode: str | None = None,
        **rules: Any,
    ) -> None:
        self.num_envs, self.render_mode = num_envs, render_mode
        self._games = [minatar.Environment(env_name=game, **rules) for _ in range(num_envs)]
        self._actions = self._games[0].minimal_action_set() if use_minimal_action_set else [*range(6)]
        self._cells = Cells(self._games[0], capacity)
        self.single_observation_space = self._cells.space
        self.single_action_space = spaces.Discrete(len(self._actions))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = self._cells.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._generators = [np_random()[0] for _ in range(num_envs)]
        self._begun = [0] * num_envs
        self._played: list[list[int]] = [[] for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, object] | None = None
    ) -> tuple[Observation, Info]:
        """Begin an episode of every game; ``seed``: as in ``SyncVectorEnv``."""
        for i in range(self.num_envs):
            own = seed[i] if isinstance(seed, Sequence) else None if seed is None else seed + i
            if own is not None:
                self._generators[i] = np_random(own)[0]
            self._begin(i)
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Step every game; those that end begin anew, their last observation is in ``final_obs``."""
        chosen = [self._actions[action] for action in np.asarray(actions).tolist()]
        outcomes = [game.act(action) for game, action in zip(self._games, chosen, strict=True)]
        for played, action in zip(self._played, chosen, strict=True):
            played.append(action)
        rewards, ends = (np.array(column) for column in zip(*outcomes, strict=True))
        obs = self._observe()
        infos: Info = {}
        if ends.any():
            rows = np.flatnonzero(ends)
            final = np.full(self.num_envs, None, object)
            for row in rows:
                final[row] = {key: block[row].copy() for key, block in obs.items()}
                self._begin(int(row))
            infos = {"final_obs": final, "_final_obs": ends, "final_info": {}, "_final_info": ends.copy()}
            obs = self._observe()
        return obs, rewards.astype(np.float64), ends.astype(bool), np.zeros(self.num_envs, bool), infos

    def entity_positions(self) -> np.ndarray:
        """Return where each slot's cell is in the pictures: (num_envs, capacity, 2), as :class:`MinAtarEntities`."""
        return entity_positions(self._obs)

    def ego_positions(self) -> np.ndarray:
        """Return where the players are in the pictures: (num_envs, 2)."""
        return ego_positions(self._obs)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return a picture (160, 160, 3) uint8 of every game; None without ``render_mode="rgb_array"``."""
        return None if self.render_mode is None else tuple(draw(game.state()) for game in self._games)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method (or read an attribute) and return one result per game."""
        value = getattr(self, name)
        result = value(*args, **kwargs) if callable(value) else value
        return tuple(result) if name in self.batched_methods else (result,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute, once per game."""
        return (getattr(self, name),) * self.num_envs

    def get_state(self) -> dict[str, Any]:
        """Return what the future depends on: how every episode began, what was played since, and the generators."""
        return {
            "generators": [generator.bit_generator.state for generator in self._generators],
            "seeds": np.array(self._begun, np.int64),
            "lengths": np.array([len(played) for played in self._played], np.int64),
            "actions": np.array([action for played in self._played for action in played], np.int64),
        }

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """Continue where :meth:`get_state` was called, by playing the running episodes again.

        Raises:
            ValueError: a state of another number of games, or one that cannot be.
        """
        seeds, lengths, actions = (np.asarray(saved[name]) for name in ("seeds", "lengths", "actions"))
        if not len(seeds) == len(lengths) == len(saved["generators"]) == self.num_envs or lengths.sum() != len(actions):
            raise ValueError(f"the saved state is not one of {self.num_envs} games of MinAtar")
        if not np.isin(actions, self._actions).all() or (lengths < 0).any():
            raise ValueError("the saved state holds actions that this game does not have")
        self._generators = [np_random(0)[0] for _ in range(self.num_envs)]
        for generator, state in zip(self._generators, saved["generators"], strict=True):
            generator.bit_generator.state = state
        for i, played in enumerate(np.split(actions, lengths.cumsum()[:-1])):
            self._begun[i], self._played[i] = int(seeds[i]), played.tolist()
            _begin(self._games[i], self._begun[i])
            for action in self._played[i]:
                self._games[i].act(action)
        self._observe()

    def _begin(self, i: int) -> None:
        self._begun[i], self._played[i] = draw_seed(self._generators[i]), []
        _begin(self._games[i], self._begun[i])

    def _observe(self) -> Observation:
        self._obs = self._cells.observe(np.stack([game.state() for game in self._games]))
        return dict(self._obs)


def _begin(game: minatar.Environment, seed: int) -> None:
    """Begin an episode that depends on ``seed`` alone."""
    game.seed(seed)
    game.last_action = 0
    game.reset()
