"""Dodge: cross a crowd of moving discs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.drawing import FLOOR, GOOD, LINE, Canvas, blend
from .core.geometry import COMPASS, closest, fold, length
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, reorder
from .core.state import Outcome, State
from .core.types import BoolArray, FloatArray, IntArray

STRIDE = 0.12
EGO_RADIUS = 0.04
RADII = (0.05, 0.10)
SPEEDS = (0.01, 0.03)
GOAL_REACH = 0.1
STEP_COST = 0.005
MAX_STEPS = 32
SHORE = 0.9  # start and goal lie at y = -SHORE and y = SHORE
CROWD = (-0.5, 1.0)  # where discs may be at the start
LOOK_AHEAD = 4
HORIZON = 8  # steps within which a disc matters; the line drawn ahead of it is as long
EGO = ("x", "y", "goal_dx", "goal_dy", "time")
ITEM = ("dx", "dy", "distance", "vx", "vy", "radius")
SCALE = 0.92  # the arena's share of the picture
DISC, TRACE, WALKER = (0.42, 0.48, 0.58), (0.68, 0.70, 0.74), (0.95, 0.58, 0.20)

MOVES = np.concatenate([np.zeros((1, 2)), COMPASS])
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "settings": {**ADVANTAGES_SCALED, "gamma": 0.97, "learning_rate": 8e-3, "normalize": False},  # features come scaled
    "policies": {"attention": {"learning_rate": 5e-3, "ego_conditioning": False}, "flat": {"learning_rate": 5e-3}},
    "transfer": (12, 16),
}


class DodgeVectorEnv(BatchedEnv):
    """Walk from the near shore to the goal on the far one without touching a disc.

    **Description.** The arena is [-1, 1] x [-1, 1]; you start at y = -.9, the goal is at y = .9, both
    at a random x. Discs of radius .05 to .10 drift at .01 to .03 a step, through each other, and
    bounce off the walls; you have radius .04 and walk up to .12 a step. Disc slots are shuffled
    anew at every step. At large counts the crowd may be impassable: see the scripted policy's score.

    **Entities.**

    ========  =================  ==============================================  ============
    block     feature            meaning                                         range
    ========  =================  ==============================================  ============
    ego       x, y               own position                                    -1 to 1
    ego       goal_dx, goal_dy   goal relative to you                            -2 to 2
    ego       time               steps used / 32                                 0 to 1
    items     dx, dy             disc's centre relative to you                   -2 to 2
    items     distance           length of (dx, dy)                              0 to 2.83
    items     vx, vy             velocity / greatest speed                       -1 to 1
    items     radius             radius / greatest radius                        0 to 1
    ========  =================  ==============================================  ============

    The decisive entity is the disc you would touch first, within 8 steps, if you walked straight to
    the goal; none where that way is clear.

    **Actions.** ``Discrete(9)``: 0 stays, 1 to 8 walk a full stride to the east, north-east, ...; with
    ``continuous=True`` a ``Box(2)`` in [-1, 1], a stride's part in x and y (longer than 1: cut to 1).
    Walls stop you.

    **Reward.** +1 within .1 of the goal, ``-penalty`` for touching a disc, -.005 a step, ``shaping``
    times the decrease of the distance to the goal. Maximum below 2.3. Success rates:

    ==========================  ======  =====  =====  =====
    policy                      3 to 8  12     16     32
    ==========================  ======  =====  =====  =====
    random                      .000    .000   .000   .000
    straight to the goal        .46     .17    .09    .006
    scripted (4 steps ahead)    .997    .969   .929   .473
    ==========================  ======  =====  =====  =====

    **Termination.** At the goal or on touching a disc. Truncated after 32 steps.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest discs.
        max_entities: most discs.
        capacity: disc slots; None: ``max_entities``.
        continuous: actions are ``Box(2)`` instead of ``Discrete(9)``.
        penalty: what touching a disc costs.
        shaping: reward for each unit that the distance to the goal decreases.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 3,
        max_entities: int = 8,
        capacity: int | None = None,
        continuous: bool = False,
        penalty: float = 0.0,
        shaping: float = 0.5,
        render_mode: str | None = None,
    ):
        self.capacity = check_counts(min_entities, max_entities, capacity)
        self.min_entities, self.max_entities = min_entities, max_entities
        self.continuous, self.penalty, self.shaping = continuous, penalty, shaping
        observation_space = spaces.Dict(
            {
                "ego": features([-1, -1, -2, -2, 0], [1, 1, 2, 2, 1]),
                "items": features([-2, -2, 0, -1, -1, 0], [2, 2, np.sqrt(8), 1, 1, 1], self.capacity),
                "items_present": spaces.MultiBinary(self.capacity),
            }
        )
        super().__init__(
            num_envs,
            observation_space,
            spaces.Box(-1, 1, (2,), np.float32) if continuous else spaces.Discrete(len(MOVES)),
            max_episode_steps=MAX_STEPS,
            render_mode=render_mode,
            entities={"ego": EGO, "items": ITEM},
            kinds={"position": {"compare": "position", "ego": EGO[2:4], "items": ITEM[:2]}},
        )

    def begin(self, random: RandomStream) -> State:
        n, n_slots = len(random), self.capacity
        count = random.integers(1, self.min_entities, self.max_entities + 1)
        shores = random.uniform(2, -SHORE, SHORE)
        radius = random.uniform(n_slots, *RADII)
        room = 1 - radius
        x = random.uniform(n_slots, -1, 1) * room
        y = np.minimum(random.uniform(n_slots, *CROWD), room)
        heading, speed = random.uniform(n_slots, 0, 2 * np.pi), random.uniform(n_slots, *SPEEDS)
        return State(
            present=np.arange(n_slots) < count,
            position=np.stack([x, y], axis=-1),
            velocity=np.stack([speed * np.cos(heading), speed * np.sin(heading)], axis=-1),
            radius=radius,
            ego=np.stack([shores[:, 0], np.full(n, -SHORE)], axis=-1),
            goal=np.stack([shores[:, 1], np.full(n, SHORE)], axis=-1),
        )

    def advance(self, state: State, actions: np.ndarray, random: RandomStream) -> Outcome:
        before = state.position - state.ego[:, None]
        goal_before = length(state.goal - state.ego)
        state.ego = np.clip(state.ego + STRIDE * self._heading(actions), -1, 1)
        state.position, state.velocity = _drift(state.position, state.velocity, state.radius)
        gap = closest(before, state.position - state.ego[:, None]) - state.radius - EGO_RADIUS
        hit = ((gap < 0) & state.present).any(axis=1)
        goal_after = length(state.goal - state.ego)
        arrived = (goal_after <= GOAL_REACH) & ~hit
        reward = arrived - self.penalty * hit - STEP_COST + self.shaping * (goal_before - goal_after)
        return Outcome(reward, hit | arrived, arrived)

    def _heading(self, actions: np.ndarray) -> FloatArray:
        """Return the step of each action in strides: (n, 2)."""
        if not self.continuous:
            heading: FloatArray = MOVES[actions]
            return heading
        wish = np.asarray(actions, np.float64)
        return wish / np.maximum(length(wish), 1)[:, None]

    def shuffle(self, state: State, random: RandomStream) -> None:
        reorder(state, random.order(state.present), ("present", "position", "velocity", "radius"))

    def observe(self, state: State) -> dict[str, np.ndarray]:
        relative = state.position - state.ego[:, None]
        columns = [
            relative,
            length(relative)[..., None],
            state.velocity / SPEEDS[1],
            state.radius[..., None] / RADII[1],
        ]
        items = np.concatenate(columns, axis=-1, dtype=np.float32)
        items *= state.present[..., None]
        time = state.steps[:, None] / self.max_episode_steps
        return {
            "ego": np.concatenate([state.ego, state.goal - state.ego, time], axis=-1, dtype=np.float32),
            "items": items,
            "items_present": state.present.astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        """Return the disc met first on the straight way to the goal, within 8 steps; -1 where none."""
        to_goal = state.goal - state.ego
        stride = STRIDE * to_goal / np.maximum(length(to_goal), 1e-9)[:, None]
        time = _meeting_time(
            state.position - state.ego[:, None], state.velocity - stride[:, None], state.radius + EGO_RADIUS
        )
        time = np.where(state.present & (time <= HORIZON), time, np.inf)
        first = np.argmin(time, axis=1)
        return np.where(np.isfinite(time.min(axis=1)), first, -1)

    def entity_places(self, state: State) -> FloatArray:
        return np.where(state.present[..., None], SCALE * state.position, np.nan)

    def ego_place(self, state: State) -> FloatArray:
        place: FloatArray = SCALE * state.ego
        return place

    def draw(self, game: State, canvas: Canvas) -> None:
        canvas.box((0, 0), (0.985, 0.985), FLOOR, outline=LINE, corner=0.06)
        goal = SCALE * game.goal
        canvas.disc(goal, SCALE * GOAL_REACH, blend(GOOD, FLOOR, 0.25), outline=GOOD, width=0.016)
        for i in np.flatnonzero(game.present):
            centre = SCALE * game.position[i]
            ahead = centre + SCALE * HORIZON * game.velocity[i]
            canvas.line([centre, ahead], TRACE, width=0.02)
            canvas.disc(centre, SCALE * game.radius[i], DISC)
        canvas.disc(SCALE * game.ego, SCALE * EGO_RADIUS + 0.01, WALKER)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Try each of the 9 moves for 4 steps; of those that touch nothing take the one nearest the goal.

        The discs are rolled forward exactly, walls included. Where every move touches, the one that
        leaves most room is taken.
        """
        ego, to_goal = obs["ego"][:, :2].astype(np.float64), obs["ego"][:, 2:4].astype(np.float64)
        room = _room_of_moves(ego, obs["items"].astype(np.float64), obs["items_present"].astype(bool))
        left = length(to_goal[:, None] - STRIDE * MOVES)
        best = np.argmin(np.where(room > 0, left, 10 - room), axis=1)
        actions: np.ndarray = MOVES[best].astype(np.float32) if self.continuous else best
        return actions


class DodgeEnv(SingleEnv):
    """One game of Dodge; rules and arguments: :class:`DodgeVectorEnv`."""

    rules = DodgeVectorEnv


def _drift(position: FloatArray, velocity: FloatArray, radius: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Move discs one step; they bounce off the walls. (..., 2), (..., 2), (...) -> (..., 2), (..., 2)."""
    room = 1 - radius[..., None]
    free = position + velocity
    return fold(free, room), np.where(np.abs(free) > room, -velocity, velocity)


def _meeting_time(position: FloatArray, velocity: FloatArray, reach: FloatArray) -> FloatArray:
    """Return when |position + t velocity| first falls to reach, t >= 0; infinite where it never does."""
    a = np.maximum(velocity[..., 0] ** 2 + velocity[..., 1] ** 2, 1e-12)
    b = position[..., 0] * velocity[..., 0] + position[..., 1] * velocity[..., 1]
    c = position[..., 0] ** 2 + position[..., 1] ** 2 - reach**2
    root = b * b - a * c
    time = (-b - np.sqrt(np.maximum(root, 0))) / a
    return np.where((root >= 0) & (b < 0), np.maximum(time, 0), np.inf)


def _room_of_moves(ego: FloatArray, items: FloatArray, present: BoolArray) -> FloatArray:
    """Return the least gap to any disc if each move is kept up for 4 steps: (n, 9)."""
    position: FloatArray = ego[:, None] + items[..., :2]
    velocity: FloatArray = items[..., 3:5] * SPEEDS[1]
    radius = items[..., 5] * RADII[1]
    room = np.full((len(ego), len(MOVES)), np.inf)
    walker = np.repeat(ego[:, None], len(MOVES), axis=1)
    for _ in range(LOOK_AHEAD):
        before = position[:, None] - walker[:, :, None]
        walker = np.clip(walker + STRIDE * MOVES, -1, 1)
        position, velocity = _drift(position, velocity, radius)
        gap = closest(before, position[:, None] - walker[:, :, None]) - radius[:, None] - EGO_RADIUS
        room = np.minimum(room, np.where(present[:, None], gap, np.inf).min(axis=-1))
    return room
