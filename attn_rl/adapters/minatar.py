"""MinAtar (the extra ``[minatar]``): the non-empty cells of its five games as entities; the player is the ego.

MinAtar (Young & Tian 2019, arXiv 1903.03176) shows a picture of 10 x 10 cells with a channel for each kind of thing.
Most cells are empty; the others are things that move, and their number changes. The games are stepped one by one (some
10 microseconds each), their pictures become entities all at once.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import minatar
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.utils.seeding import np_random
from minatar.gym import register_envs

from attn_rl.wrappers import EntityBlock
from attn_rl.wrappers.base import Info

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
SIZE = 10
"""Cells along each side of the picture."""
PLAYERS = ("player", "paddle", "chicken", "sub_front", "cannon")
"""The channel of the cell that the agent moves, one for each game."""
CAPACITY = {"asterix": 16, "breakout": 32, "freeway": 16}
"""The most cells but the player's that a game can fill; the others get a slot for every cell."""
EGO = ("column", "row")
PLACE = ("right", "below", "column", "row")
PIXELS = 16
BATCH = "attn_rl.adapters.minatar_batch:MinAtarVectorEnv"
METADATA = {"render_modes": ["rgb_array"], "render_fps": 10}
Observation = dict[str, np.ndarray]


def register() -> None:
    """Register MinAtar's ids (which importing it does not do), with a batch for each."""
    if "MinAtar/Asterix-v1" not in gym.registry:
        register_envs()
    for game in GAMES:
        for version in (0, 1):
            gym.registry[f"MinAtar/{game}-v{version}"].vector_entry_point = BATCH


class Cells:
    """Pictures of one game -> observations, any number at once.

    Args:
        game: whose channels these are.
        capacity: slots for cells; None: as many as the game can fill.
    """

    def __init__(self, game: minatar.Environment, capacity: int | None) -> None:
        channels: dict[str, int] = game.env.channels
        self.player = next(channels[name] for name in PLAYERS if name in channels)
        self.others = [i for i in channels.values() if i != self.player]
        names = [name for name, i in channels.items() if i != self.player]
        slots = CAPACITY.get(game.game_name(), SIZE**2 - 1) if capacity is None else capacity
        self.block = EntityBlock("cells", (*PLACE, *names), slots, -1, 1)
        self.space = spaces.Dict({"ego": spaces.Box(0, 1, (len(EGO),), np.float32), **self.block.spaces})
        self.metadata = METADATA | {"entities": {"ego": EGO, "cells": self.block.features}}

    def observe(self, pictures: np.ndarray) -> Observation:
        """Return the observations of ``pictures`` (n, 10, 10, channels) bool: ``ego``, ``cells``, ``cells_present``.

        Raises:
            ValueError: more cells are filled than there are slots.
        """
        n, slots = len(pictures), self.block.capacity
        flags = pictures.reshape(n, SIZE**2, -1)
        player = flags[..., self.player].argmax(1)
        flags = flags[..., self.others]
        filled = flags.any(-1)
        most = int(filled.sum(1).max())
        if most > slots:
            raise ValueError(
                f"{most} cells do not fit into capacity={slots}; pass capacity={most} or more, or leave it out"
            )
        game, cell = np.nonzero(filled)
        slot = (filled.cumsum(1) - 1)[game, cell]
        rows = np.zeros((n, slots, len(self.block.features)), np.float32)
        present = np.zeros((n, slots), np.int8)
        here, ego = _column_and_row(cell), _column_and_row(player)
        rows[game, slot] = np.concatenate([(here - ego[game]) / SIZE, here / SIZE, flags[game, cell]], 1)
        present[game, slot] = 1
        return {"ego": (ego / SIZE).astype(np.float32), "cells": rows, "cells_present": present}


class MinAtarEntities(gym.Wrapper, RecordConstructorArgs):
    """A MinAtar game as ``ego`` and ``cells``, one row for every cell with something in it but the player's own.

    A cell: how far to the player's right and below it, its column and row (all in tenths of the picture), and one flag
    for each of the game's other channels. The ego: the player's column and row. The rules are MinAtar's, untouched:
    actions stick with probability .1 and the game becomes harder, unless the environment is made otherwise. Every
    episode draws its own seed from ``np_random`` and begins without a last action, so that it can be replayed.

    Args:
        env: a MinAtar environment, e.g. ``gym.make("MinAtar/Asterix-v1")``.
        capacity: slots for cells. Default: as many as the game can fill.

    Raises:
        ValueError: while stepping, more cells are filled than there are slots.
    """

    def __init__(self, env: gym.Env, capacity: int | None = None) -> None:
        RecordConstructorArgs.__init__(self, capacity=capacity)
        gym.Wrapper.__init__(self, env)
        self._cells = Cells(self._game, capacity)
        self.observation_space = self._cells.space
        self.metadata = {**env.metadata, **self._cells.metadata}

    def reset(self, *, seed: int | None = None, options: dict[str, object] | None = None) -> tuple[Observation, Info]:
        """Begin an episode; return observation and info."""
        if seed is not None:
            self.np_random, _ = np_random(seed)
        self._game.last_action = 0
        _, info = self.env.reset(seed=draw_seed(self.np_random), options=options)
        return self._observe(), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """Act; return observation, reward, terminated, truncated and info."""
        _, reward, terminated, truncated, info = self.env.step(action)
        return self._observe(), float(reward), bool(terminated), truncated, info

    def entity_positions(self) -> np.ndarray:
        """Return where each slot's cell is in the picture: (capacity, 2), x right, y up, in [-1, 1]; NaN: empty."""
        return np.asarray(entity_positions(self._obs)[0])

    def ego_positions(self) -> np.ndarray:
        """Return where the player is in the picture: (2,)."""
        return np.asarray(ego_positions(self._obs)[0])

    def render(self) -> Any:
        """Return the picture (160, 160, 3) uint8: a colour for every channel."""
        return draw(self._game.state()) if self.render_mode == "rgb_array" else self.env.render()

    @property
    def _game(self) -> Any:
        return self.unwrapped.game  # type: ignore[attr-defined]

    def _observe(self) -> Observation:
        self._obs = self._cells.observe(self._game.state()[None])
        return {key: block[0] for key, block in self._obs.items()}


def draw_seed(generator: np.random.Generator) -> int:
    """Draw an episode's seed."""
    return int(generator.integers(2**31))


def _column_and_row(cell: np.ndarray) -> np.ndarray:
    """Number of a cell -> (..., 2)."""
    return np.stack([cell % SIZE, cell // SIZE], -1)


def ego_positions(obs: Observation) -> np.ndarray:
    """Where the players are in the pictures: (n, 2) float64, x right, y up, in [-1, 1]."""
    return _in_picture(obs["ego"])


def entity_positions(obs: Observation) -> np.ndarray:
    """Where each slot's cell is in the pictures: (n, capacity, 2), as :func:`ego_positions`; NaN for an empty slot."""
    places: np.ndarray = np.where(obs["cells_present"][..., None] == 1, _in_picture(obs["cells"][..., 2:4]), np.nan)
    return places


def _in_picture(shares: np.ndarray) -> np.ndarray:
    places: np.ndarray = (2 * shares.astype(np.float64) + 1 / SIZE - 1) * [1, -1]
    return places


def draw(picture: np.ndarray) -> np.ndarray:
    """A picture (160, 160, 3) uint8: a colour for every channel, later channels on top."""
    n_channels = picture.shape[-1]
    hues = np.linspace(0, 1, n_channels, endpoint=False)[:, None] + np.array([0, 1 / 3, 2 / 3])
    colours = np.concatenate([np.zeros((1, 3)), 128 + 127 * np.cos(2 * np.pi * hues)]).astype(np.uint8)
    top: np.ndarray = (picture * np.arange(1, n_channels + 1)).max(-1)
    drawn: np.ndarray = colours[top].repeat(PIXELS, 0).repeat(PIXELS, 1)
    return drawn
