"""Tiles: the floor is lava, and only relative positions tell where to jump."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.drawing import GOOD, INK, LINE, PAPER, Canvas
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features
from .core.state import Outcome, State
from .core.types import FloatArray, IntArray

EXTENT = 1000
EGO = ("x", "y")
TILE = ("x", "y", "safe")
MOVES = np.array([(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)], np.float64)
SPACING = 0.62  # of neighbouring tiles in the picture
LAVA = (0.90, 0.45, 0.25)
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 10_000,
    "n_envs": 64,
    "settings": {**ADVANTAGES_SCALED, "n_steps": 4, "batch_size": 64, "gamma": 0.0},
}


class TilesVectorEnv(BatchedEnv):
    """Jump onto the one safe tile next to you, given all absolute coordinates.

    **Description.** You stand somewhere in the square [-1000, 1000] x [-1000, 1000], whole numbers. Up to
    eight of the neighbouring places hold a tile; one is safe, the others are lava. All positions are
    absolute: the direction of the jump is in a difference of 1 between numbers up to 1000, so a
    network that cannot compare positions is lost. The rules are those of FloorIsLava in entity-gym.

    **Entities.**

    ========  ========  ======================  ===============
    block     feature   meaning                 range
    ========  ========  ======================  ===============
    ego       x, y      where you stand         -1001 to 1001
    tiles     x, y      where the tile is       -1001 to 1001
    tiles     safe      1 = safe, 0 = lava      0 or 1
    ========  ========  ======================  ===============

    Slots are in random order, present ones first.

    **Actions.** ``Discrete(8)``: jump to the east, north-east, north, ... A place without a tile
    burns like lava.

    **Reward.** 1 on the safe tile, else 0. Maximum 1; random .125, the scripted policy 1.00.

    **Termination.** After one step. Never truncated.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest tiles.
        max_entities: most tiles, up to 8.
        capacity: tile slots; None: ``max_entities``.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 1,
        max_entities: int = 8,
        capacity: int | None = None,
        render_mode: str | None = None,
    ):
        self.capacity = check_counts(min_entities, max_entities, capacity)
        if max_entities > len(MOVES):
            raise ValueError(f"max_entities={max_entities}; expected 8 or fewer: a place has eight neighbours")
        self.min_entities, self.max_entities = min_entities, max_entities
        far = EXTENT + 1
        observation_space = spaces.Dict(
            {
                "ego": features([-far, -far], [far, far]),
                "tiles": features([-far, -far, 0], [far, far, 1], self.capacity),
                "tiles_present": spaces.MultiBinary(self.capacity),
            }
        )
        super().__init__(
            num_envs,
            observation_space,
            spaces.Discrete(len(MOVES)),
            max_episode_steps=1,
            render_mode=render_mode,
            entities={"ego": EGO, "tiles": TILE},
            kinds={"position": {"compare": "position", "ego": EGO, "tiles": TILE[:2]}},
        )

    def begin(self, random: RandomStream) -> State:
        count = random.integers(1, self.min_entities, self.max_entities + 1)
        centre = random.integers(2, -EXTENT, EXTENT + 1).astype(np.float64)
        neighbour = random.choose(len(MOVES), len(MOVES))[:, : self.max_entities]
        position = np.zeros((len(random), self.capacity, 2))
        position[:, : self.max_entities] = centre[:, None] + MOVES[neighbour]
        return State(
            present=np.arange(self.capacity) < count,
            centre=centre,
            ego=centre.copy(),
            position=position,
            safe=random.integers(1, 0, count)[:, 0],
        )

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        state.ego = state.centre + MOVES[actions]
        saved = (state.position[np.arange(len(actions)), state.safe] == state.ego).all(axis=-1)
        return Outcome(saved.astype(np.float64), np.ones(len(actions), bool), saved)

    def observe(self, state: State) -> dict[str, np.ndarray]:
        safe = np.arange(self.capacity) == state.safe[:, None]
        tiles = np.concatenate([state.position, safe[..., None]], axis=-1, dtype=np.float32)
        tiles *= state.present[..., None]
        return {
            "ego": state.ego.astype(np.float32),
            "tiles": tiles,
            "tiles_present": state.present.astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        slots: IntArray = state.safe.copy()
        return slots

    def entity_places(self, state: State) -> FloatArray:
        places = SPACING * (state.position - state.centre[:, None])
        return np.where(state.present[..., None], places, np.nan)

    def ego_place(self, state: State) -> FloatArray:
        place: FloatArray = SPACING * (state.ego - state.centre)
        return place

    def draw(self, game: State, canvas: Canvas) -> None:
        half = 0.46 * SPACING
        canvas.box((0, 0), (half, half), PAPER, outline=LINE, corner=0.06)
        places = SPACING * (game.position - game.centre)
        for slot in np.flatnonzero(game.present):
            colour = GOOD if slot == game.safe else LAVA
            canvas.box(places[slot], (half, half), colour, outline=None, corner=0.06)
        canvas.disc(SPACING * (game.ego - game.centre), 0.11, INK, outline=PAPER, width=0.025)
        canvas.text((0, -0.2), f"{game.centre[0]:.0f}, {game.centre[1]:.0f}", height=0.085)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Subtract your position from the safe tile's."""
        safe = np.argmax(obs["tiles"][..., 2], axis=1)
        jump = obs["tiles"][np.arange(len(safe)), safe, :2] - obs["ego"]
        actions: IntArray = np.argmax((jump[:, None] == MOVES).all(axis=-1), axis=1)
        return actions


class TilesEnv(SingleEnv):
    """One game of Tiles; rules and arguments: :class:`TilesVectorEnv`."""

    rules = TilesVectorEnv
