"""Mines: drive to the target through a mine field, all in the coordinates of a map."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import BatchedEnv
from .core.drawing import BAD, FLOOR, GOOD, INK, LINE, Canvas, blend
from .core.geometry import closest, length
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, reorder
from .core.state import Outcome, State
from .core.types import BoolArray, FloatArray, IntArray

FIELD = 10.0  # mines, start and target lie within [-FIELD, FIELD] x [-FIELD, FIELD] of the field's middle
TOUCH = 1.2  # a mine goes off where its centre and the vehicle's are this near
REACH = 1.0  # of the target
CLEARANCE = 2.5  # of mines from start and target
APART = 6.0  # least distance from start to target
TOP_SPEED, SPEED_STEP = 0.8, 0.2
TURN = np.pi / 8
STEP_COST = 0.005
MAX_STEPS = 64
WAY = FIELD + TOP_SPEED * MAX_STEPS  # the farthest that the vehicle can be from the field's middle
LOOK_AHEAD = 20
NEAR = 8.0  # how far ahead a mine is decisive
TRIES = 8
EGO = ("x", "y", "heading", "speed", "target_x", "target_y")
MINE = ("x", "y")
MARGIN = 0.02
PLANS = np.array(
    [
        (wheel, turns, straight, top)
        for top in (TOP_SPEED, TOP_SPEED / 2)
        for straight in (0, 4, 8)
        for turns in range(9)
        for wheel in ((-1, 1) if turns else (0,))
    ]
)
"""(k, 4): which way to turn and for how many steps, steps straight on, greatest speed; then steer for the target."""
SCALE = 0.92 / FIELD  # of the picture
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 500_000,
    "settings": {"gamma": 0.97, "learning_rate": 5e-3},
    "transfer": (15,),
}


class MinesVectorEnv(BatchedEnv):
    """Drive a vehicle to its target and touch no mine.

    **Description.** The field, 20 m x 20 m, lies anywhere on a map of 1 km x 1 km. The vehicle starts
    anywhere in it, at rest, facing anywhere; its target is at least 6 m away. It turns by up to 22.5 degrees and drives
    up to .8 m a step, so that at full speed it turns in a circle of 2 m radius. A mine goes off where its centre
    and the vehicle's are within 1.2 m. Mines lie still, at least 2.5 m from start and target. All positions
    are those on the map: what lies ahead of the vehicle has to be worked out. Mine slots are shuffled anew at
    every step.

    **Entities.**

    ========  ====================  ===========================================  ============
    block     feature               meaning                                      range
    ========  ====================  ===========================================  ============
    ego       x, y                  own position, m                              -561 to 561
    ego       heading               own direction, radians from east to north    -pi to pi
    ego       speed                 m a step                                     0 to .8
    ego       target_x, target_y    position of the target, m                    -510 to 510
    mines     x, y                  position, m                                  -510 to 510
    ========  ====================  ===========================================  ============

    The decisive entity is the mine that the straight way to the target would touch first, within 8 m; none where that
    way is clear.

    **Actions.** ``Discrete(9)``: 3 * throttle + wheel, with throttle 0 slower by .2, 1 as it is, 2 faster by .2;
    wheel 0 right, 1 straight on, 2 left. The vehicle turns, changes its speed, then drives.

    **Reward.** +1 within 1 m of the target, ``-penalty`` for touching a mine, -.005 a step, ``shaping`` times the
    decrease of the distance to the target, in m. Maximum below 2.4. Success rates:

    ==============================  =======  =======  =======
    policy                          5 to 10  15       25
    ==============================  =======  =======  =======
    random                          .02      .02      .01
    straight to the target          .69      .51      .34
    scripted (20 steps ahead)       1.00     1.00     1.00
    ==============================  =======  =======  =======

    **Termination.** At the target or on touching a mine. Truncated after 64 steps.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest mines.
        max_entities: most mines.
        capacity: mine slots; None: ``max_entities``.
        map_size: the field's middle is drawn within this many m of the map's; 0: all fields lie in one place.
        penalty: what touching a mine costs.
        shaping: reward for each metre that the distance to the target decreases.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 5,
        max_entities: int = 10,
        capacity: int | None = None,
        map_size: float = 500.0,
        penalty: float = 0.0,
        shaping: float = 0.05,
        render_mode: str | None = None,
    ):
        self.capacity = check_counts(min_entities, max_entities, capacity)
        self.min_entities, self.max_entities = min_entities, max_entities
        if not 0 <= map_size <= 10_000:
            raise ValueError(f"map_size={map_size}; expected 0 to 10000: float32 tells centimetres apart up to there")
        self.map_size, self.penalty, self.shaping = map_size, penalty, shaping
        way, field = map_size + WAY, map_size + FIELD
        observation_space = spaces.Dict(
            {
                "ego": features([-way, -way, -np.pi, 0, -field, -field], [way, way, np.pi, TOP_SPEED, field, field]),
                "mines": features([-field] * 2, [field] * 2, self.capacity),
                "mines_present": spaces.MultiBinary(self.capacity),
            }
        )
        position = {
            "compare": "position",
            "heading": {"ego": ("heading",)},
            "ego": (EGO[:2], EGO[4:]),
            "mines": MINE,
        }
        super().__init__(
            num_envs,
            observation_space,
            spaces.Discrete(9),
            max_episode_steps=MAX_STEPS,
            render_mode=render_mode,
            entities={"ego": EGO, "mines": MINE},
            kinds={"position": position},
        )

    def begin(self, random: RandomStream) -> State:
        n, n_slots = len(random), self.capacity
        count = random.integers(1, self.min_entities, self.max_entities + 1)
        middle = random.uniform(2, -self.map_size, self.map_size)
        ego = random.uniform(2, -FIELD, FIELD)
        ends = random.uniform(2 * TRIES, -FIELD, FIELD).reshape(n, TRIES, 2)
        target = _roomy(ends, length(ends - ego[:, None]), APART)
        places = random.uniform(2 * TRIES * n_slots, -FIELD, FIELD).reshape(n, n_slots, TRIES, 2)
        room = np.minimum(length(places - ego[:, None, None]), length(places - target[:, None, None]))
        return State(
            present=np.arange(n_slots) < count,
            position=middle[:, None] + _roomy(places, room, CLEARANCE),
            middle=middle,
            ego=middle + ego,
            heading=random.uniform(1, -np.pi, np.pi)[:, 0],
            speed=np.zeros(n),
            target=middle + target,
        )

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        before, far = state.ego, length(state.target - state.ego)
        state.ego, state.heading, state.speed = driven(state.ego, state.heading, state.speed, actions)
        way = (before[:, None] - state.position, state.ego[:, None] - state.position)
        hit = ((closest(*way) < TOUCH) & state.present).any(axis=1)
        left = length(state.target - state.ego)
        arrived = (left <= REACH) & ~hit
        reward = arrived - self.penalty * hit - STEP_COST + self.shaping * (far - left)
        return Outcome(reward, hit | arrived, arrived)

    def shuffle(self, state: State, random: RandomStream) -> None:
        reorder(state, random.order(state.present), ("present", "position"))

    def observe(self, state: State) -> dict[str, np.ndarray]:
        pose = np.stack([state.heading, state.speed], axis=-1)
        return {
            "ego": np.concatenate([state.ego, pose, state.target], axis=-1, dtype=np.float32),
            "mines": np.where(state.present[..., None], state.position, 0).astype(np.float32),
            "mines_present": state.present.astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        """Return the mine that the straight way to the target touches first, within 8 m; -1 where none."""
        to_target = state.target - state.ego
        ahead = to_target / np.maximum(length(to_target), 1e-9)[:, None]
        to_mine = state.position - state.ego[:, None]
        along = to_mine[..., 0] * ahead[:, None, 0] + to_mine[..., 1] * ahead[:, None, 1]
        across = to_mine[..., 0] * ahead[:, None, 1] - to_mine[..., 1] * ahead[:, None, 0]
        there = state.present & (np.abs(across) < TOUCH) & (along > 0) & (along < NEAR)
        along = np.where(there & (along < length(to_target)[:, None]), along, np.inf)
        return np.where(np.isfinite(along.min(axis=1)), np.argmin(along, axis=1), -1)

    def entity_places(self, state: State) -> FloatArray:
        return np.where(state.present[..., None], SCALE * (state.position - state.middle[:, None]), np.nan)

    def ego_place(self, state: State) -> FloatArray:
        return np.asarray(np.clip(SCALE * (state.ego - state.middle), -1, 1))

    def draw(self, game: State, canvas: Canvas) -> None:
        canvas.box((0, 0), (0.985, 0.985), FLOOR, outline=LINE, corner=0.06)
        canvas.disc(
            SCALE * (game.target - game.middle), SCALE * REACH, blend(GOOD, FLOOR, 0.25), outline=GOOD, width=0.016
        )
        for i in np.flatnonzero(game.present):
            mine = SCALE * (game.position[i] - game.middle)
            canvas.disc(mine, SCALE * TOUCH, blend(BAD, FLOOR, 0.25), outline=None)
            canvas.disc(mine, 0.03, BAD, outline=None)
        ahead, ego = np.array([np.cos(game.heading), np.sin(game.heading)]), SCALE * (game.ego - game.middle)
        left = np.array([-ahead[1], ahead[0]])
        canvas.line([ego, ego + (0.1 + 0.2 * game.speed) * ahead], INK, width=0.02)
        canvas.polygon([ego + 0.07 * ahead, *(ego - 0.05 * ahead + side * left for side in (0.045, -0.045))], INK)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Return the first action of the best of some plans, each followed for 20 steps.

        A plan turns one way for up to 8 steps, then steers for the target, at up to a certain speed. Of those that
        touch nothing, the one that comes nearest, and soonest; where all touch, the one that drives longest.
        """
        ego, position = obs["ego"].astype(np.float64), obs["mines"].astype(np.float64)
        return best_plan(ego, position, obs["mines_present"].astype(bool))


class MinesEnv(SingleEnv):
    """One game of Mines; rules and arguments: :class:`MinesVectorEnv`."""

    rules = MinesVectorEnv


def driven(
    place: FloatArray, heading: FloatArray, speed: FloatArray, actions: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Drive one step: turn, change the speed, move. (..., 2), (...), (...), (...) -> place, heading, speed."""
    heading = (heading + TURN * (actions % 3 - 1) + np.pi) % (2 * np.pi) - np.pi
    speed = np.clip(speed + SPEED_STEP * (actions // 3 - 1), 0, TOP_SPEED)
    free = place + speed[..., None] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    return free, heading, speed


def best_plan(ego: FloatArray, mines: FloatArray, present: BoolArray) -> IntArray:
    """Return the first action of the best plan; see :meth:`MinesVectorEnv.oracle`.

    Args:
        ego: (n, 6).
        mines: (n, slots, 2).
        present: (n, slots).
    """
    place, heading, speed = (
        np.repeat(part[:, None], len(PLANS), axis=1) for part in (ego[:, :2], ego[:, 2], ego[:, 3])
    )
    target, wheel, turns, straight, top = ego[:, None, 4:], *PLANS.T
    safe, score = np.full(heading.shape, True), np.zeros(heading.shape)
    going = safe.copy()
    first = np.zeros(heading.shape, np.int64)
    for t in range(LOOK_AHEAD):
        way = target - place
        bearing = (np.arctan2(way[..., 1], way[..., 0]) - heading + np.pi) % (2 * np.pi) - np.pi
        towards = np.sign(bearing) * (np.abs(bearing) > TURN / 2)
        steer = np.where(t < turns, wheel, np.where(t < turns + straight, 0, towards))
        throttle = np.sign(np.round((top - speed) / SPEED_STEP))
        actions = (3 * (throttle + 1) + steer + 1).astype(np.int64)
        first = first if t else actions
        before = place
        place, heading, speed = driven(place, heading, speed, actions)
        near = closest(before[:, :, None] - mines[:, None], place[:, :, None] - mines[:, None])
        safe &= (np.where(present[:, None], near, np.inf).min(axis=-1) >= TOUCH + MARGIN) | ~going
        going &= safe & (length(target - place) > REACH)
        score -= going  # a step less to go on with
    score -= np.where(going, length(target - place) / TOP_SPEED, 0)
    best = np.argmax(np.where(safe, score, score - 1000), axis=1)
    return np.asarray(first[np.arange(len(ego)), best])


def _roomy(places: FloatArray, room: FloatArray, least: float) -> FloatArray:
    """Return the first place with room enough, or the one with most: (..., k, 2), (..., k) -> (..., 2)."""
    chosen = np.argmax(np.minimum(room, least), axis=-1)
    return np.asarray(np.take_along_axis(places, chosen[..., None, None], axis=-2)[..., 0, :])
