"""Hidden: Seek, where items are seen only from nearby."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from .core.batched import BatchedEnv
from .core.drawing import LINE, Canvas
from .core.geometry import length
from .core.single import SingleEnv
from .core.slots import features
from .core.state import State
from .core.types import FloatArray, IntArray
from .seek import EGO, MOVES, REACH, SCALE, TAKE, SeekVectorEnv

MAX_STEPS = 48
ITEM = ("dx", "dy", "distance", "x", "y", "r", "g", "b")
IDENTITY = ("r", "g", "b")
PRESET = {
    "total_timesteps": 500_000,
    "settings": {"memory_sightings": 8, "gamma": 0.97, "learning_rate": 5e-3},
    "transfer": (16,),
}


class HiddenVectorEnv(SeekVectorEnv):
    """Seek where an item is seen only while it is nearby: go back to what you passed, search where you were not.

    **Description.** As Seek: walk to the one item that has the colour you are given, and take it. Items farther than
    ``sight`` from you are absent from the observation. Colours never repeat within an episode: they say which item is
    which (``metadata["identity"]``).

    **Entities.**

    ========  =====================  ============================  ===================
    block     feature                meaning                       range
    ========  =====================  ============================  ===================
    ego       cue_r, cue_g, cue_b    colour of the right item      0 to 1
    ego       x, y                   own position                  -1 to 1
    ego       time                   steps used / 48               0 to 1
    items     dx, dy                 position relative to you      -2 to 2
    items     distance               length of (dx, dy)            0 to 2.83
    items     x, y                   position                      -1 to 1
    items     r, g, b                colour                        0 to 1
    ========  =====================  ============================  ===================

    Slots are shuffled anew at every step.

    **Actions.** ``Discrete(9)``, as in Seek: 0 takes the nearest item within .15, 1 to 8 move by .15.

    **Reward.** As in Seek: taking the right item +1, a wrong one ``-penalty``; -.01 a step; ``shaping`` times the
    decrease of the distance to the right item. Below 2.3. A random policy succeeds in .04 of its episodes; the
    scripted one, which knows where everything is, in 1.00.

    **Termination.** When an item is taken. Truncated after 48 steps.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest items.
        max_entities: most items, up to 64.
        capacity: item slots; None: ``max_entities``.
        sight: how far items are seen.
        penalty: what taking a wrong item costs.
        shaping: reward for each unit that the distance to the right item decreases.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 4,
        max_entities: int = 8,
        capacity: int | None = None,
        sight: float = 0.6,
        penalty: float = 0.0,
        shaping: float = 0.5,
        render_mode: str | None = None,
    ):
        if not sight >= REACH:
            raise ValueError(f"sight={sight}; expected {REACH} or more: what is in reach must be seen")
        self.sight = sight
        counts: dict[str, Any] = {"min_entities": min_entities, "max_entities": max_entities, "capacity": capacity}
        super().__init__(num_envs, **counts, penalty=penalty, shaping=shaping, render_mode=render_mode)
        self.max_episode_steps = MAX_STEPS
        items = features([-2, -2, 0, -1, -1, 0, 0, 0], [2, 2, np.sqrt(8), 1, 1, 1, 1, 1], self.capacity)
        seek: Any = self.single_observation_space
        self.single_observation_space = spaces.Dict({**seek.spaces, "items": items})
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.metadata |= {
            "entities": {"ego": EGO, "items": ITEM},
            "kinds": {
                "colour": {"ego": EGO[:3], "items": IDENTITY},
                "position": {"compare": "position", "ego": ("x", "y"), "items": ("x", "y")},
            },
            "identity": {"items": IDENTITY},
        }

    def observe(self, state: State) -> dict[str, np.ndarray]:
        obs = super().observe(state)
        seen = self._seen(state)
        rows = obs["items"]
        items = np.concatenate([rows[..., :3], state.position, rows[..., 3:]], axis=-1, dtype=np.float32)
        return {**obs, "items": items * seen[..., None], "items_present": seen.astype(np.int8)}

    def _seen(self, state: State) -> np.ndarray:
        """Which slots (n,N) hold an item that is near enough."""
        near: np.ndarray = self._distances(state) <= self.sight
        return near

    def relevant_slots(self, state: State) -> IntArray:
        return np.where(self._seen(state)[np.arange(len(state.target)), state.target], state.target, -1)

    def entity_places(self, state: State) -> FloatArray:
        return np.where(self._seen(state)[..., None], SCALE * state.position, np.nan)

    def draw(self, game: State, canvas: Canvas) -> None:
        super().draw(game, canvas)
        canvas.ring(SCALE * game.ego, SCALE * self.sight, LINE)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Walk straight to the right item: the scripted policy knows where everything is."""
        state = self._require_state()
        rows, distance = np.arange(len(state.target)), self._distances(state)
        at_hand = (distance[rows, state.target] < REACH) & (np.argmin(distance, axis=1) == state.target)
        wanted = state.position[rows, state.target] - state.ego
        return np.where(at_hand, TAKE, 1 + np.argmin(length(wanted[:, None] - MOVES[None, 1:]), axis=1))


class HiddenEnv(SingleEnv):
    """One game of Hidden; rules and arguments: :class:`HiddenVectorEnv`."""

    rules = HiddenVectorEnv
