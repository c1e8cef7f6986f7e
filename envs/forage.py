"""Forage: food, poison, hunters and walls, four types of entities with different features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.drawing import BAD, FLOOR, GOOD, INK, LINE, PAPER, Canvas
from .core.geometry import length
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, per_type, reorder
from .core.state import Outcome, State
from .core.types import BoolArray, FloatArray, IntArray
from .forage_motion import BODY, MOVES, REACH, STRIDE, Walls, moved, scripted, turned

THICKNESS = 0.03  # half of a wall's; with BODY more than half a stride, so that no step leaps over a wall
MIN_CELLS, MAX_CELLS = 6, 12
POISON_COST, CAUGHT_COST = 0.3, 0.5
SCALE = 0.92  # the arena's share of the picture
TYPES = ("food", "hunters", "poison", "walls")
FEWEST = {"food": 2, "hunters": 1, "poison": 1, "walls": 1}
MOST = {"food": 4, "hunters": 2, "poison": 3, "walls": 3}
EGO = ("x", "y", "time")
FEATURES = {
    "food": ("dx", "dy", "value"),
    "hunters": ("dx", "dy", "vx", "vy", "top_speed"),
    "poison": ("dx", "dy"),
    "walls": ("dx", "dy", "half_width", "half_height"),
}
VIOLET = (0.55, 0.38, 0.66)
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 300_000,
    "settings": {**ADVANTAGES_SCALED, "gamma": 0.97, "learning_rate": 5e-3},
    "policies": {"flat": {"d_model": 74}},
    "transfer": ({"min_entities": MOST, "max_entities": {name: 2 * n for name, n in MOST.items()}},),
}


class ForageVectorEnv(BatchedEnv):
    """Eat all the food, avoid poison, go round walls, and do not get caught.

    **Description.** The arena is [-1, 1] x [-1, 1]. You touch food within .12, poison and hunters within
    .08. Hunters fly over walls and chase you, at most half as fast as you and with inertia: their velocity
    turns towards you by 30% a step. Walls stop you; you slide along them. All start in different cells
    of a grid, walls on the lines between cells. Within each type, slots are shuffled anew at every
    step.

    **Entities.**

    ========  =======================  ====================================  ============
    block     feature                  meaning                               range
    ========  =======================  ====================================  ============
    ego       x, y                     own position                          -1 to 1
    ego       time                     steps used / time limit               0 to 1
    food      dx, dy                   position relative to you              -2 to 2
    food      value                    reward for eating it                  0 to 1
    hunters   dx, dy                   position relative to you              -2 to 2
    hunters   vx, vy                   velocity, in your strides per step    -1 to 1
    hunters   top_speed                greatest speed, in your strides       0 to 1
    poison    dx, dy                   position relative to you              -2 to 2
    walls     dx, dy                   centre relative to you                -2 to 2
    walls     half_width, half_height  half of the wall's extent             0 to .2
    ========  =======================  ====================================  ============

    Every type has its own block and its own number of slots. Eaten food and poison are absent.

    **Actions.** ``Discrete(9)``: 0 waits; 1 to 8 move by .12 to the east, north-east, north, ...

    **Reward.** Each food its value; the values of a game sum to 1. Touching poison -.3 (it is gone then), being caught
    -.5; and ``shaping`` times the decrease of the distance to the food that was nearest. At most 1
    + .85 * (most food), in practice about 1.7. ``is_success``: all food eaten, no poison touched. Success
    rates (returns):

    ========================================  ============  ===========
    counts                                    random        scripted
    ========================================  ============  ===========
    default                                   .00 (-.45)    .98 (1.67)
    food 4-8, hunters 2-4, others 3-6         .00 (-.52)    .95 (2.05)
    8 of each                                 .00 (-.53)    .63 (1.88)
    ========================================  ============  ===========

    **Termination.** When the food is gone or a hunter has caught you. Truncated after 20 + 10 * (most food) steps.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest of each type: a mapping such as ``{"food": 3}`` (other types: food 2,
            hunters 1, poison 1, walls 1), or one number for all types.
        max_entities: most of each type (food 4, hunters 2, poison 3, walls 3), in the same way.
        capacity: slots of each type, in the same way; default: as many as ``max_entities``
            (at least one).
        shaping: reward for each unit that the distance to the nearest food decreases.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int | Mapping[str, int] | None = None,
        max_entities: int | Mapping[str, int] | None = None,
        capacity: int | Mapping[str, int] | None = None,
        shaping: float = 0.3,
        render_mode: str | None = None,
    ):
        self.min_entities = per_type("min_entities", min_entities, FEWEST)
        self.max_entities = per_type("max_entities", max_entities, MOST)
        self.capacity = per_type("capacity", capacity, {k: max(most, 1) for k, most in self.max_entities.items()})
        for name in TYPES:
            low, high = self.min_entities[name], self.max_entities[name]
            check_counts(low, high, self.capacity[name], least=1 if name == "food" else 0, of=name)
        self._n_things = 1 + sum(self.max_entities[name] for name in TYPES if name != "walls")
        self._cells = max(MIN_CELLS, int(np.ceil(np.sqrt(self._n_things))))
        self._check_room()
        self.shaping = shaping
        super().__init__(
            num_envs,
            self._observation_space(),
            spaces.Discrete(len(MOVES)),
            max_episode_steps=20 + 10 * self.max_entities["food"],
            render_mode=render_mode,
            entities={"ego": EGO, **FEATURES},
            kinds={"position": dict.fromkeys(TYPES, ("dx", "dy"))},
        )

    def _check_room(self) -> None:
        if self._cells > MAX_CELLS:
            raise ValueError(
                f"max_entities={self.max_entities}: food, hunters and poison together may be at most {MAX_CELLS**2 - 1}"
            )
        places = 2 * (self._cells - 1) * (self._cells - 2)
        if self.max_entities["walls"] > places:
            raise ValueError(f"max_entities={self.max_entities['walls']} walls do not fit; pass {places} or fewer")

    def _observation_space(self) -> spaces.Dict:
        further: dict[str, tuple[list[float], list[float]]] = {
            "food": ([0], [1]),
            "hunters": ([-1, -1, 0], [1, 1, 1]),
            "poison": ([], []),
            "walls": ([0, 0], [0.2, 0.2]),
        }
        blocks: dict[str, spaces.Space[object]] = {"ego": features([-1, -1, 0], [1, 1, 1])}
        for name, (low, high) in further.items():
            blocks[name] = features([-2, -2, *low], [2, 2, *high], self.capacity[name])
            blocks[f"{name}_present"] = spaces.MultiBinary(self.capacity[name])
        return spaces.Dict(blocks)

    # ---- the rules -------------------------------------------------------------------------------

    def begin(self, random: RandomStream) -> State:
        n = len(random)
        state = State(**{f"{name}_present": self._there(name, random) for name in TYPES})
        cells = self._scatter(random)
        state.ego = cells[:, 0].copy()
        used = 1
        for name in ("food", "hunters", "poison"):
            most = self.max_entities[name]
            position = np.zeros((n, self.capacity[name], 2))
            position[:, :most] = cells[:, used : used + most]
            setattr(state, f"{name}_position", position)
            used += most
        state.walls_position, state.walls_half = self._walls(random)
        value = state.food_present * random.uniform(self.capacity["food"], 0.5, 1.5)
        state.food_value = value / value.sum(axis=-1, keepdims=True)
        state.hunters_velocity = np.zeros((n, self.capacity["hunters"], 2))
        state.hunters_speed = STRIDE * random.uniform(self.capacity["hunters"], 0.2, 0.5)
        state.poisoned = np.zeros(n, bool)
        return state

    def _there(self, name: str, random: RandomStream) -> BoolArray:
        count = random.integers(1, self.min_entities[name], self.max_entities[name] + 1)
        return np.arange(self.capacity[name]) < count

    def _scatter(self, random: RandomStream) -> FloatArray:
        """Return positions in different cells, clear of the lines between them: (n, things, 2)."""
        cell = random.choose(self._n_things, self._cells**2)
        size = 2 / self._cells
        centre = np.stack([cell % self._cells, cell // self._cells], axis=-1) * size + (size / 2 - 1)
        reach = size / 2 - THICKNESS - BODY
        return centre + random.uniform(2 * self._n_things, -reach, reach).reshape(-1, self._n_things, 2)

    def _walls(self, random: RandomStream) -> tuple[np.ndarray, np.ndarray]:
        """Return centres and half extents: (n, slots, 2) each. Walls part cells, none of them in the outer ring."""
        along, across = self._cells - 2, self._cells - 1
        most = self.max_entities["walls"]
        place = random.choose(most, 2 * along * across)
        upright, place = place >= along * across, place % (along * across)
        size = 2 / self._cells
        position = np.zeros((len(random), self.capacity["walls"], 2))
        half = np.zeros_like(position)
        position[:, :most, 0] = (place % along + 1.5) * size - 1
        position[:, :most, 1] = (place // along + 1) * size - 1
        half[:, :most] = (0.35 * size, THICKNESS)
        position[:, :most] = np.where(upright[..., None], position[:, :most, ::-1], position[:, :most])
        half[:, :most] = np.where(upright[..., None], half[:, :most, ::-1], half[:, :most])
        return position, half

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        before = self._food_distances(state)
        nearest = np.argmin(before, axis=-1)[:, None]
        walls = Walls(state.walls_position, state.walls_half, state.walls_present)
        state.ego = np.clip(moved(state.ego[:, None], MOVES[actions][:, None], walls)[:, 0], -1, 1)
        self._hunt(state)
        after = self._food_distances(state)
        closer = np.take_along_axis(before, nearest, axis=-1) - np.take_along_axis(after, nearest, axis=-1)
        eaten, poison = self._touched(state, "food"), self._touched(state, "poison")
        caught = self._touched(state, "hunters").any(axis=-1)
        state.food_present = state.food_present & ~eaten
        state.poison_present = state.poison_present & ~poison
        state.poisoned |= poison.any(axis=-1)
        meal = (eaten * state.food_value).sum(axis=-1)
        reward = meal - POISON_COST * poison.sum(axis=-1) - CAUGHT_COST * caught + self.shaping * closer[:, 0]
        sated = ~state.food_present.any(axis=-1)
        return Outcome(reward, sated | caught, sated & ~caught & ~state.poisoned)

    def _food_distances(self, state: State) -> FloatArray:
        """Return the distance of the ego to each food: (n, slots), infinite for absent ones."""
        return np.where(state.food_present, length(state.food_position - state.ego[:, None]), np.inf)

    def _hunt(self, state: State) -> None:
        """Move the hunters."""
        way = state.ego[:, None] - state.hunters_position
        state.hunters_velocity = turned(state.hunters_velocity, way, state.hunters_speed)
        state.hunters_position = np.clip(state.hunters_position + state.hunters_velocity, -1, 1)

    def _touched(self, state: State, name: str) -> BoolArray:
        """Return which entities of a type the ego touches: (n, slots) bool."""
        position, present = getattr(state, f"{name}_position"), getattr(state, f"{name}_present")
        return np.asarray(present & (length(position - state.ego[:, None]) <= REACH[name]))

    def shuffle(self, state: State, random: RandomStream) -> None:
        further = {"food": ["value"], "hunters": ["velocity", "speed"], "poison": [], "walls": ["half"]}
        for name, arrays in further.items():
            order = random.order(getattr(state, f"{name}_present"))
            reorder(state, order, [f"{name}_{array}" for array in ("present", "position", *arrays)])

    def observe(self, state: State) -> dict[str, np.ndarray]:
        further = {
            "food": [state.food_value[..., None]],
            "hunters": [state.hunters_velocity / STRIDE, state.hunters_speed[..., None] / STRIDE],
            "poison": [],
            "walls": [state.walls_half],
        }
        time = state.steps[:, None] / self.max_episode_steps
        obs = {"ego": np.concatenate([state.ego, time], axis=-1, dtype=np.float32)}
        for name, columns in further.items():
            present = getattr(state, f"{name}_present")
            relative = getattr(state, f"{name}_position") - state.ego[:, None]
            block = np.concatenate([relative, *columns], axis=-1, dtype=np.float32)
            obs[name] = np.where(present[..., None], block, np.float32(0))
            obs[f"{name}_present"] = present.astype(np.int8)
        return obs

    def entity_places(self, state: State) -> FloatArray:
        position = np.concatenate([getattr(state, f"{name}_position") for name in TYPES], axis=1)
        present = np.concatenate([getattr(state, f"{name}_present") for name in TYPES], axis=1)
        return np.where(present[..., None], SCALE * position, np.nan)

    def ego_place(self, state: State) -> FloatArray:
        return np.asarray(SCALE * state.ego)

    def draw(self, game: State, canvas: Canvas) -> None:
        canvas.box((0, 0), (0.985, 0.985), FLOOR, outline=LINE, corner=0.06)
        at = {name: SCALE * getattr(game, f"{name}_position") for name in TYPES}
        here = {name: np.flatnonzero(getattr(game, f"{name}_present")) for name in TYPES}
        for i in here["walls"]:
            canvas.box(at["walls"][i], SCALE * game.walls_half[i], LINE, outline=None, corner=0.02)
        for i in here["food"]:
            canvas.disc(at["food"][i], 0.035 + 0.07 * game.food_value[i], GOOD)
        for i in here["poison"]:
            x, y = at["poison"][i]
            canvas.polygon([(x, y + 0.06), (x + 0.06, y), (x, y - 0.06), (x - 0.06, y)], VIOLET)
        for i in here["hunters"]:
            _draw_hunter(canvas, at["hunters"][i], game.hunters_velocity[i])
        canvas.disc(SCALE * game.ego, 0.06, INK, outline=PAPER, width=0.02)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Go to the nearest food round the walls, off poison and off where the hunters will be."""
        return scripted(obs)


class ForageEnv(SingleEnv):
    """One game of Forage; rules and arguments: :class:`ForageVectorEnv`."""

    rules = ForageVectorEnv


def _draw_hunter(canvas: Canvas, place: FloatArray, velocity: FloatArray) -> None:
    """Draw a hunter, with the way it will make in two steps."""
    canvas.line([place, place + 2 * SCALE * velocity], BAD, width=0.02)
    x, y = place
    canvas.polygon([(x, y + 0.075), (x + 0.065, y - 0.05), (x - 0.065, y - 0.05)], BAD)
