"""MiniGrid and BabyAI (the extra ``[minigrid]``): the cells that the agent sees, and the mission's words, as entities.

MiniGrid shows an image of cells and a sentence. As entities they need no convolution, and where attention looks can be
compared with what the mission asks for.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from minigrid.core.constants import COLOR_NAMES

from attn_rl.adapters.minigrid_views import OBJECTS, AgentView, View, WholeGrid
from attn_rl.wrappers.base import Info
from attn_rl.wrappers.block import Overflow
from attn_rl.wrappers.text import words_of

NAMED_TYPES, NAMED_COLOURS = frozenset(OBJECTS), frozenset(COLOR_NAMES)
OBJECTS_IN_GRID = 16
"""Slots for the objects of a whole grid."""


class MiniGridEntities(gym.Wrapper, RecordConstructorArgs):
    """A MiniGrid or BabyAI environment as entities: what the agent sees (``view="agent"``), or the whole grid.

    The agent's view has ``cells``, one for each cell of MiniGrid's own image with something in it, walls included: how
    many cells to the agent's right and ahead of it (as a share of the image's side), type, colour and, for doors,
    state, each a category; ``words``, one for each word of the mission, with its place; and an ``ego``: direction, type
    and colour of what is carried. Nothing else enters: it is the observation that others are compared on.

    ``view="whole"`` has ``objects``, those anywhere in the grid, with the same features as flags; walls are not
    objects. Its ego: types and colours that the mission names, those of what is carried, and whether the cells ahead,
    right and left are blocked. Meant for tasks about objects in open rooms.

    ``info["is_success"]``: the episode ended with a reward. ``info["relevant"]``: slot of the one thing that the
    mission describes by type and colour; -1 where it names none, or none or several are there.
    ``info["unknown_words"]``: words of the mission that have no meaning of their own here.

    Args:
        env: a MiniGrid environment, e.g. ``gym.make("minigrid:MiniGrid-Fetch-8x8-N3-v0")``.
        view: ``"agent"`` or ``"whole"``.
        capacity: slots for cells or objects; None: for every cell of the image, or 16 objects.
        overflow: ``"error"``, or ``"nearest"`` to keep those nearest to the agent and count the others.
        empty: of the agent's view, let empty cells be entities too.
        unseen: of the agent's view, let cells that it cannot see be entities too.

    Raises:
        ValueError: another view; ``agent_pov=True``, whose picture is not the grid; ``empty`` or ``unseen`` with the
            whole grid.
    """

    def __init__(
        self,
        env: gym.Env,
        view: Literal["agent", "whole"] = "agent",
        capacity: int | None = None,
        overflow: Overflow = "error",
        empty: bool = False,
        unseen: bool = False,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, view=view, capacity=capacity, overflow=overflow, empty=empty, unseen=unseen
        )
        gym.Wrapper.__init__(self, env)
        if self._grid_env.agent_pov:
            raise ValueError("agent_pov=True draws what the agent sees, not the grid; expected agent_pov=False")
        if view not in ("agent", "whole"):
            raise ValueError(f"view={view!r}; expected 'agent' or 'whole'")
        if view == "whole" and (empty or unseen):
            raise ValueError(f"empty={empty}, unseen={unseen} are for view='agent'; the whole grid shows objects only")
        self._view: View
        if view == "agent":
            size = env.observation_space["image"].shape[0]  # type: ignore[index]
            self._view = AgentView(size, capacity, overflow, empty=empty, unseen=unseen)
        else:
            self._view = WholeGrid(OBJECTS_IN_GRID if capacity is None else capacity, overflow)
            n: int | None = getattr(self.unwrapped, "numObjs", None)  # Fetch, GoToObject, PutNear draw exactly so many
            self.min_entities: int = n or 0
            self.max_entities: int = n or self._view.capacity
        self.observation_space = self._view.space
        self.metadata = {**env.metadata, **self._view.metadata}

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[dict[str, np.ndarray], Info]:
        """Begin an episode; return observation and info."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._observe(obs, info, success=False)

    def step(self, action: object) -> tuple[dict[str, np.ndarray], float, bool, bool, Info]:
        """Act; return observation, reward, terminated, truncated and info."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        gained = float(reward)
        obs, info = self._observe(obs, info, success=terminated and gained > 0)
        return obs, gained, terminated, truncated, info

    def relevant(self) -> int:
        """Return the slot of the one thing that the mission describes, or -1 if there is no such thing."""
        words = frozenset(words_of(self._grid_env.mission))
        types, colours = words & NAMED_TYPES, words & NAMED_COLOURS
        fits = self._view.fitting(types, colours) if len(types) == len(colours) == 1 else []
        return fits[0] if len(fits) == 1 else -1

    def entity_positions(self) -> np.ndarray:
        """Return where each slot's thing is in the picture: (slots, 2), x right, y up, in [-1, 1]; NaN: nowhere."""
        found = np.full((self._view.n_slots, 2), np.nan)
        cells = self._view.cells()
        found[: len(cells)] = self._in_picture(cells)
        return found

    def ego_positions(self) -> np.ndarray:
        """Return where the agent is in the picture: (2,)."""
        return self._in_picture(self._grid_env.agent_pos)

    @property
    def _grid_env(self) -> Any:
        return self.unwrapped

    def _observe(self, obs: Any, info: Info, *, success: bool) -> tuple[dict[str, np.ndarray], Info]:
        observed, told = self._view.observe(self._grid_env, obs)
        return observed, {**info, "is_success": success, "relevant": self.relevant(), **told}

    def _in_picture(self, cell: np.ndarray) -> np.ndarray:
        size = np.array([self._grid_env.width, self._grid_env.height])
        place: np.ndarray = (2 * (np.asarray(cell) + 0.5) / size - 1) * [1, -1]
        return place
