"""MiniGrid (the extra ``[minigrid]``): objects in the grid as entities; the mission, and what is carried, as the ego.

MiniGrid shows an image of cells and a sentence. What matters in it is a handful of objects; as entities they need no
convolution, and where attention looks can be compared with what the mission asks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from minigrid.core.constants import COLOR_NAMES, STATE_TO_IDX

from attn_rl.wrappers import EntityBlock
from attn_rl.wrappers.base import Info
from attn_rl.wrappers.block import Overflow

TYPES = ("door", "key", "ball", "box", "goal", "lava")
COLOURS = tuple(COLOR_NAMES)
STATES = tuple(STATE_TO_IDX)
PLACE = ("right", "ahead")
FEATURES = PLACE + TYPES + COLOURS + STATES
EGO = (
    *(f"mission_{word}" for word in TYPES + COLOURS),
    *(f"carried_{word}" for word in TYPES + COLOURS),
    *("blocked_ahead", "blocked_right", "blocked_left"),
)
WORDS = {"type": TYPES, "colour": COLOURS}
KINDS = {
    kind: {"ego": [[f"{owner}_{word}" for word in words] for owner in ("mission", "carried")], "objects": words}
    for kind, words in WORDS.items()
}


class MiniGridEntities(gym.Wrapper, RecordConstructorArgs):
    """A MiniGrid environment as ``ego`` and ``objects``. The whole grid is visible; walls are not objects.

    An object: how many cells to the agent's right and ahead of it (as a share of the grid's longer side), its type,
    colour and, for doors, state, each one-hot. The ego: types and colours that the mission names, type and colour of
    what is carried, and whether the cells ahead, right and left are blocked. Meant for tasks about objects in open
    rooms (Fetch, GoToObject, GoToDoor, PutNear, Empty, DoorKey): a maze's walls cannot be seen.

    ``info["is_success"]``: the episode ended with a reward. ``info["relevant"]``: slot of the one object that the
    mission describes by type and colour; -1 where it names none, or several objects fit.

    Args:
        env: a MiniGrid environment, e.g. ``gym.make("minigrid:MiniGrid-Fetch-8x8-N3-v0")``.
        capacity: slots for objects.
        overflow: ``"error"``, or ``"nearest"`` to keep those nearest to the agent and count the others.

    Raises:
        ValueError: ``agent_pov=True``, whose picture is not the grid.
    """

    def __init__(self, env: gym.Env, capacity: int = 16, overflow: Overflow = "error") -> None:
        RecordConstructorArgs.__init__(self, capacity=capacity, overflow=overflow)
        gym.Wrapper.__init__(self, env)
        if self._grid_env.agent_pov:
            raise ValueError("agent_pov=True draws what the agent sees, not the grid; expected agent_pov=False")
        n: int | None = getattr(self.unwrapped, "numObjs", None)  # Fetch, GoToObject and PutNear draw exactly so many
        self.min_entities: int = n or 0
        self.max_entities: int = n or capacity
        by = PLACE if overflow == "nearest" else None
        self._block = EntityBlock("objects", FEATURES, capacity, -1, 1, overflow, by)
        ego = spaces.Box(0, 1, (len(EGO),), np.float32)
        self.observation_space = spaces.Dict({"ego": ego, **self._block.spaces})
        self.metadata = {**env.metadata, "entities": {"ego": EGO, "objects": FEATURES}, "kinds": KINDS}

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[dict[str, np.ndarray], Info]:
        """Begin an episode; return observation and info."""
        _, info = self.env.reset(seed=seed, options=options)
        return self._observe(), self._told(info, success=False)

    def step(self, action: object) -> tuple[dict[str, np.ndarray], float, bool, bool, Info]:
        """Act; return observation, reward, terminated, truncated and info."""
        _, reward, terminated, truncated, info = self.env.step(action)
        gained = float(reward)
        return self._observe(), gained, terminated, truncated, self._told(info, success=terminated and gained > 0)

    def relevant(self) -> int:
        """Return the slot of the one object that the mission describes, or -1 if there is no such object."""
        words = set(self._grid_env.mission.split())
        types, colours = words & set(TYPES), words & set(COLOURS)
        fits = [slot for slot, (o, _) in enumerate(self._in_slot) if o.type in types and o.color in colours]
        return fits[0] if len(types) == len(colours) == len(fits) == 1 else -1

    def entity_positions(self) -> np.ndarray:
        """Return where each slot's object is in the picture: (capacity, 2), x right, y up, in [-1, 1]; NaN: empty."""
        found = np.full((self._block.capacity, 2), np.nan)
        for slot, (_, cell) in enumerate(self._in_slot):
            found[slot] = self._in_picture(cell)
        return found

    def ego_positions(self) -> np.ndarray:
        """Return where the agent is in the picture: (2,)."""
        return self._in_picture(self._grid_env.agent_pos)

    @property
    def _grid_env(self) -> Any:
        return self.unwrapped

    def _observe(self) -> dict[str, np.ndarray]:
        objects = list(self._objects())
        padded = self._block.pad([self._row(thing, cell) for thing, cell in objects])
        self._in_slot = [objects[i] for i in padded.kept]
        self._dropped = padded.dropped
        return {"ego": self._ego(), "objects": padded.x, "objects_present": padded.present}

    def _objects(self) -> Iterable[tuple[object, np.ndarray]]:
        """Every object and its cell, in the grid's order."""
        grid = self._grid_env.grid
        for i, thing in enumerate(grid.grid):
            if thing is not None and thing.type in TYPES:
                yield thing, np.array([i % grid.width, i // grid.width])

    def _row(self, thing: Any, cell: np.ndarray) -> np.ndarray:
        env = self._grid_env
        offset = (cell - env.agent_pos) / max(env.width, env.height)
        state = ("open" if thing.is_open else "locked" if thing.is_locked else "closed") if thing.type == "door" else ""
        place = [offset @ env.right_vec, offset @ env.dir_vec]
        return np.concatenate([place, _flags(TYPES, thing.type), _flags(COLOURS, thing.color), _flags(STATES, state)])

    def _ego(self) -> np.ndarray:
        env = self._grid_env
        carried = () if env.carrying is None else (env.carrying.type, env.carrying.color)
        ways = (env.dir_vec, env.right_vec, -env.right_vec)
        cells = [env.grid.get(*(env.agent_pos + way)) for way in ways]
        blocked = [cell is not None and not cell.can_overlap() for cell in cells]
        words = TYPES + COLOURS
        flags = [_flags(words, *env.mission.split()), _flags(words, *carried), np.array(blocked)]
        return np.concatenate(flags).astype(np.float32)

    def _told(self, info: Info, success: bool) -> Info:
        told = {**info, "is_success": success, "relevant": self.relevant()}
        return {**told, "entities_dropped": {"objects": self._dropped}} if self._block.counts else told

    def _in_picture(self, cell: np.ndarray) -> np.ndarray:
        size = np.array([self._grid_env.width, self._grid_env.height])
        place: np.ndarray = (2 * (np.asarray(cell) + 0.5) / size - 1) * [1, -1]
        return place


def _flags(words: tuple[str, ...], *said: str) -> np.ndarray:
    return np.array([word in said for word in words], np.float32)
