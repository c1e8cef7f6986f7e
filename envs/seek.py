"""Seek: find the item with the cue's colour and take it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.colours import check_colours, lattice
from .core.drawing import FLOOR, INK, LINE, Canvas
from .core.geometry import COMPASS, length
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, reorder
from .core.state import Outcome, State
from .core.types import FloatArray, IntArray

STRIDE = 0.15
REACH = 0.15
STEP_COST = 0.01
LEVELS = 4
MAX_STEPS = 24
MIN_CELLS = 6
MIN_GAP = 0.2  # more than REACH, so that the item one stands at is always nearer than any other
TAKE = 0
EGO = ("cue_r", "cue_g", "cue_b", "x", "y", "time")
ITEM = ("dx", "dy", "distance", "r", "g", "b")
SCALE = 0.92  # the arena's share of the picture

MOVES = STRIDE * np.concatenate([np.zeros((1, 2)), COMPASS])
PRESET = {"settings": {**ADVANTAGES_SCALED, "gamma": 0.95, "learning_rate": 8e-3}, "transfer": (16, 32)}


class SeekVectorEnv(BatchedEnv):
    """Walk to the one item that has the colour you are given, and take it.

    **Description.** The arena is [-1, 1] x [-1, 1]. You and the items start in different cells of a
    jittered grid, at least .2 apart; all colours differ (a lattice of 64). Item slots are
    shuffled anew at every step, so a policy has to look at the items, not at slots.

    **Entities.**

    ========  =====================  ===========================  ===================
    block     feature                meaning                      range
    ========  =====================  ===========================  ===================
    ego       cue_r, cue_g, cue_b    colour of the right item     0 to 1
    ego       x, y                   own position                 -1 to 1
    ego       time                   steps used / 24              0 to 1
    items     dx, dy                 position relative to you     -2 to 2
    items     distance               length of (dx, dy)           0 to 2.83
    items     r, g, b                colour                       0 to 1
    ========  =====================  ===========================  ===================

    **Actions.** ``Discrete(9)``: 0 takes the nearest item within .15 (nothing happens if there is
    none); 1 to 8 move by .15 to the east, north-east, north, ... (walls stop you).

    **Reward.** Taking the right item +1, a wrong one ``-penalty``; -.01 a step; and ``shaping``
    times the decrease of the distance to the right item. Below 2.3 in any episode (1 + .5 times a
    distance of at most 2.6). A random policy succeeds in .02 of its episodes (return -.21), the scripted
    one in 1.00 (1.42), at 4 to 8 items as at 64.

    **Termination.** When an item is taken. Truncated after 24 steps.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest items.
        max_entities: most items, up to 64.
        capacity: item slots; None: ``max_entities``.
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
        penalty: float = 0.0,
        shaping: float = 0.5,
        render_mode: str | None = None,
    ):
        self.capacity = check_counts(min_entities, max_entities, capacity)
        check_colours(max_entities, LEVELS)
        self.min_entities, self.max_entities = min_entities, max_entities
        self.penalty, self.shaping = penalty, shaping
        self._lattice = lattice(LEVELS)
        self._cells = max(MIN_CELLS, int(np.ceil(np.sqrt(max_entities + 1))))
        observation_space = spaces.Dict(
            {
                "ego": features([0, 0, 0, -1, -1, 0], [1] * 6),
                "items": features([-2, -2, 0, 0, 0, 0], [2, 2, np.sqrt(8), 1, 1, 1], self.capacity),
                "items_present": spaces.MultiBinary(self.capacity),
            }
        )
        super().__init__(
            num_envs,
            observation_space,
            spaces.Discrete(len(MOVES)),
            max_episode_steps=MAX_STEPS,
            render_mode=render_mode,
            entities={"ego": EGO, "items": ITEM},
            kinds={
                "colour": {"ego": EGO[:3], "items": ITEM[3:]},
                "position": {"compare": "position", "items": ITEM[:2]},
            },
        )

    def begin(self, random: RandomStream) -> State:
        count = random.integers(1, self.min_entities, self.max_entities + 1)
        things = self._scatter(random)
        colour = np.zeros((len(random), self.capacity, 3))
        colour[:, : self.max_entities] = self._lattice[random.choose(self.max_entities, len(self._lattice))]
        position = np.zeros((len(random), self.capacity, 2))
        position[:, : self.max_entities] = things[:, 1:]
        return State(
            present=np.arange(self.capacity) < count,
            ego=things[:, 0].copy(),
            position=position,
            colour=colour,
            target=np.zeros(len(random), np.int64),
        )

    def _scatter(self, random: RandomStream) -> FloatArray:
        """Return positions in different cells: (n, 1 + max_entities, 2)."""
        n_things = self.max_entities + 1
        cell = random.choose(n_things, self._cells**2)
        size = 2 / self._cells
        centre = np.stack([cell % self._cells, cell // self._cells], axis=-1) * size + (size / 2 - 1)
        reach = (size - MIN_GAP) / 2
        return centre + random.uniform(2 * n_things, -reach, reach).reshape(-1, n_things, 2)

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        rows = np.arange(len(actions))
        before = self._distances(state)
        state.ego = np.clip(state.ego + MOVES[actions], -1, 1)
        nearest = np.argmin(before, axis=1)
        taken = (actions == TAKE) & (before[rows, nearest] <= REACH)
        right = taken & (nearest == state.target)
        to_target = state.position[rows, state.target] - state.ego
        closer = before[rows, state.target] - length(to_target)
        reward = right - self.penalty * (taken & ~right) - STEP_COST + self.shaping * closer
        return Outcome(reward, taken, right)

    def _distances(self, state: State) -> FloatArray:
        """Return the distance of the ego to each item: (n, N), infinite for absent ones."""
        return np.where(state.present, length(state.position - state.ego[:, None]), np.inf)

    def shuffle(self, state: State, random: RandomStream) -> None:
        reorder(state, random.order(state.present), ("present", "position", "colour"), slots=("target",))

    def observe(self, state: State) -> dict[str, np.ndarray]:
        rows = np.arange(len(state.target))
        relative = state.position - state.ego[:, None]
        distance = length(relative)[..., None]
        items = np.concatenate([relative, distance, state.colour], axis=-1, dtype=np.float32)
        items *= state.present[..., None]
        cue = state.colour[rows, state.target]
        time = state.steps[:, None] / self.max_episode_steps
        return {
            "ego": np.concatenate([cue, state.ego, time], axis=-1, dtype=np.float32),
            "items": items,
            "items_present": state.present.astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        slots: IntArray = state.target.copy()
        return slots

    def entity_places(self, state: State) -> FloatArray:
        return np.where(state.present[..., None], SCALE * state.position, np.nan)

    def ego_place(self, state: State) -> FloatArray:
        place: FloatArray = SCALE * state.ego
        return place

    def draw(self, game: State, canvas: Canvas) -> None:
        canvas.box((0, 0), (0.985, 0.985), FLOOR, outline=LINE, corner=0.06)
        for position, colour in zip(game.position[game.present], game.colour[game.present], strict=True):
            canvas.disc(SCALE * position, 0.065, colour)
        ego = SCALE * game.ego
        canvas.ring(ego, SCALE * REACH, LINE)
        half = 0.06
        canvas.box(ego, (half, half), game.colour[game.target], outline=INK, width=0.02, corner=0.015)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Walk to the item with the cue's colour, take it once it is the nearest one within reach."""
        items, present = obs["items"], obs["items_present"].astype(bool)
        wanted = (items[..., 3:] == obs["ego"][:, None, :3]).all(axis=-1) & present
        target = np.argmax(wanted, axis=1)
        rows = np.arange(len(target))
        distance = np.where(present, items[..., 2], np.inf)
        at_hand = (distance[rows, target] < REACH) & (np.argmin(distance, axis=1) == target)
        left = length(items[rows, target, None, :2] - MOVES[None, 1:])
        return np.where(at_hand, TAKE, 1 + np.argmin(left, axis=1))


class SeekEnv(SingleEnv):
    """One game of Seek; rules and arguments: :class:`SeekVectorEnv`."""

    rules = SeekVectorEnv
