"""Squad: an order for every unit: where to move, and whom to attack."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.drawing import BAD, FLOOR, GOOD, INK, LINE, Canvas
from .core.geometry import length
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, per_type, reorder
from .core.state import Outcome, State
from .core.types import BoolArray, FloatArray, IntArray

MOVE, ATTACK = 0, 1
SPEED, ENEMY_SPEED = 0.16, 0.08
ENEMY_REACH = 0.7
REACH = (0.6, 1.2)
MAX_SHOT, MAX_HIT_POINTS = 3, 8
LOSSES = (0.7, 1.1)  # share of the squad's health that a perfect order of targets costs at least
MAX_DAMAGE = 5.0
STEP_LIMIT = 40
EGO, UNIT, ENEMY = ("time",), ("x", "y", "health", "shot", "reach"), ("x", "y", "health", "damage")
ACTIONS = {  # its form: attn_rl.actions
    "verb": {"each": "units", "choices": ("move", "attack")},
    "target": {"each": "units", "points_at": "enemies", "mask": "valid_targets", "mask_by": "verb"},
}
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 150_000,
    "settings": {**ADVANTAGES_SCALED, "gamma": 0.97, "ent_coef": 0.003},
    "transfer": ({"min_entities": {"units": 16, "enemies": 20}, "max_entities": {"units": 16, "enemies": 20}},),
}


class SquadVectorEnv(BatchedEnv):
    """Give every unit its order, and win before the squad has fallen.

    **Description.** Two sides on a plane. At every step each unit moves towards an enemy of its choice, or
    attacks one within its reach; its shot takes 1 to 3 hit points. What is shot beyond an enemy's last
    hit point is lost. Then every enemy that still stands hurts the nearest unit within its reach
    (.7), or moves towards it. So it pays to bring down first who hurts most for its hit points, to
    shoot together, and not to shoot together at what one alone brings down. The enemies' damage is scaled
    such that the best order of targets (Smith 1956, as in Triage), shot at from the first step on by
    the whole squad, costs 70% to 110% of the squad's health where all reach it. Slots are shuffled at every step.

    **Entities.**

    ========  ==============  ==============================================  ========
    block     feature         meaning                                         range
    ========  ==============  ==============================================  ========
    ego       time            steps used / step limit                         0 to 1
    units     x, y            place                                           -1 to 1
    units     health          left, of 1                                      0 to 1
    units     shot            hit points that its shot takes / 3              0 to 1
    units     reach           how far it shoots                               0 to 1.2
    enemies   x, y            place                                           -1 to 1
    enemies   health          hit points left / 8                             0 to 1
    enemies   damage          health that it takes of a unit in a step        0 to 5
    ========  ==============  ==============================================  ========

    ``valid_targets`` (units, 2, enemies) says whom a unit can move to (all that stand) and attack (those
    within its reach).

    **Actions.** ``MultiDiscrete``: the verb of every unit slot (0 = move, 1 = attack), then the
    target of every unit slot, a slot of the enemies. ``metadata["actions"]`` declares it. Orders of empty slots
    count nothing; an attack out of reach, or on an empty slot, hits nothing.

    **Reward.** Share of all enemies' hit points taken, minus share of the squad's health lost. Maximum
    of the return: below 1. ``is_success``: all enemies have fallen. Success rates (mean returns): random .01
    (-.80), scripted .96 (.67); the script is no optimum: a trained policy gets .96 (.75).

    **Termination.** When a side has fallen. Truncated after 40 steps.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest of each type: units (2), enemies (2). A mapping, or one number for both.
        max_entities: most of each type: units (8), enemies (10).
        capacity: slots of each type; None: as many as ``max_entities``.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET, "actions": ACTIONS}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int | Mapping[str, int] | None = None,
        max_entities: int | Mapping[str, int] | None = None,
        capacity: int | Mapping[str, int] | None = None,
        render_mode: str | None = None,
    ):
        self.min_entities = per_type("min_entities", min_entities, {"units": 2, "enemies": 2})
        self.max_entities = per_type("max_entities", max_entities, {"units": 8, "enemies": 10})
        slots = per_type("capacity", capacity, self.max_entities)
        self.capacity = {
            name: check_counts(self.min_entities[name], self.max_entities[name], n, of=name)
            for name, n in slots.items()
        }
        n_units, n_enemies = self.capacity["units"], self.capacity["enemies"]
        observation_space = spaces.Dict(
            {
                "ego": features([0], [1]),
                "units": features([-1, -1, 0, 0, 0], [1, 1, 1, 1, REACH[1]], n_units),
                "units_present": spaces.MultiBinary(n_units),
                "enemies": features([-1, -1, 0, 0], [1, 1, 1, MAX_DAMAGE], n_enemies),
                "enemies_present": spaces.MultiBinary(n_enemies),
                "valid_targets": spaces.MultiBinary((n_units, 2, n_enemies)),
            }
        )
        super().__init__(
            num_envs,
            observation_space,
            spaces.MultiDiscrete([2] * n_units + [n_enemies] * n_units),
            max_episode_steps=STEP_LIMIT,
            render_mode=render_mode,
            entities={"ego": EGO, "units": UNIT, "enemies": ENEMY},
            kinds={"place": {"units": UNIT[:2], "enemies": ENEMY[:2], "compare": "position"}},
        )

    def begin(self, random: RandomStream) -> State:
        there, hostile = (self._drawn_presence(random, name) for name in ("units", "enemies"))
        n_units, n_enemies = there.shape[1], hostile.shape[1]
        shot = np.where(there, random.integers(n_units, 1, MAX_SHOT + 1), 0)
        hit_points = np.where(hostile, random.integers(n_enemies, 2, MAX_HIT_POINTS + 1), 0)
        damage = np.where(hostile, 0.04 + random.uniform(n_enemies) ** 4, 0.0)
        least = _least_suffering(hit_points / shot.sum(-1, keepdims=True), damage)
        share = random.uniform(1, *LOSSES)
        damage = np.minimum(damage * share * there.sum(-1, keepdims=True) / least[:, None], MAX_DAMAGE)
        return State(
            unit_there=there,
            unit_place=_places(random, n_units, -0.95, -0.25),
            health=there.astype(float),
            shot=shot,
            reach=random.uniform(n_units, *REACH),
            enemy_there=hostile,
            enemy_place=_places(random, n_enemies, 0.25, 0.95),
            hit_points=hit_points,
            damage=damage,
            first_units=there.sum(-1),
            first_hit_points=hit_points.sum(-1),
        )

    def _drawn_presence(self, random: RandomStream, name: str) -> BoolArray:
        count = random.integers(1, self.min_entities[name], self.max_entities[name] + 1)
        present: BoolArray = np.arange(self.capacity[name]) < count
        return present

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        verb, target = np.split(actions, 2, axis=-1)
        rows = np.arange(len(actions))[:, None]
        way = state.enemy_place[rows, target] - state.unit_place
        apart = length(way)
        able = state.unit_there & state.enemy_there[rows, target]
        shoots = able & (verb == ATTACK) & (apart <= state.reach)
        taken = self._shoot(state, np.where(shoots, state.shot, 0), target)
        step = np.where(able & (verb == MOVE), np.minimum(SPEED / np.maximum(apart, 1e-9), 1.0), 0.0)
        state.unit_place = state.unit_place + step[..., None] * way
        lost = self._suffer(state)
        won, beaten = ~state.enemy_there.any(-1), ~state.unit_there.any(-1)
        reward = taken / state.first_hit_points - lost / state.first_units
        return Outcome(reward, won | beaten, won)

    def _shoot(self, state: State, shots: IntArray, target: IntArray) -> IntArray:
        """Enemies lose what is shot at them; return how many hit points that were, (n,)."""
        at = target[:, None] == np.arange(state.hit_points.shape[1])[:, None]  # (n, enemies, units)
        left = np.maximum(state.hit_points - (shots[:, None] * at).sum(-1), 0)
        taken: IntArray = (state.hit_points - left).sum(-1)
        state.hit_points = left
        state.enemy_there = state.enemy_there & (left > 0)
        return taken

    def _suffer(self, state: State) -> FloatArray:
        """Enemies hurt or follow the nearest unit; return how much health that cost, (n,)."""
        way, apart = _between(state.enemy_place, state.unit_place)
        apart = np.where(state.unit_there[:, None], apart, np.inf)
        nearest = np.argmin(apart, axis=-1)[..., None]
        distance = np.take_along_axis(apart, nearest, axis=-1)[..., 0]
        acts = state.enemy_there & np.isfinite(distance)
        hurts = acts & (distance <= ENEMY_REACH)
        at = nearest[..., 0][:, None] == np.arange(state.health.shape[1])[:, None]  # (n, units, enemies)
        left = np.maximum(state.health - (np.where(hurts, state.damage, 0.0)[:, None] * at).sum(-1), 0.0)
        lost: FloatArray = (state.health - left).sum(-1)
        state.health = left
        state.unit_there = state.unit_there & (left > 0)
        step = np.where(acts & ~hurts, ENEMY_SPEED / np.where(acts & (distance > 0), distance, 1.0), 0.0)
        towards = np.take_along_axis(way, nearest[..., None], axis=2)[:, :, 0]
        state.enemy_place = state.enemy_place + step[..., None] * towards
        return lost

    def shuffle(self, state: State, random: RandomStream) -> None:
        reorder(state, random.order(state.unit_there), ("unit_there", "unit_place", "health", "shot", "reach"))
        reorder(state, random.order(state.enemy_there), ("enemy_there", "enemy_place", "hit_points", "damage"))

    def observe(self, state: State) -> dict[str, np.ndarray]:
        own = np.stack([state.health, state.shot / MAX_SHOT, state.reach], axis=-1)
        theirs = np.stack([state.hit_points / MAX_HIT_POINTS, state.damage], axis=-1)
        units = np.concatenate([state.unit_place, own], axis=-1) * state.unit_there[..., None]
        enemies = np.concatenate([state.enemy_place, theirs], axis=-1) * state.enemy_there[..., None]
        pairs = state.unit_there[..., None] & state.enemy_there[:, None]
        near = _between(state.unit_place, state.enemy_place)[1] <= state.reach[..., None]
        return {
            "ego": (state.steps[:, None] / self.max_episode_steps).astype(np.float32),
            "units": units.astype(np.float32),
            "units_present": state.unit_there.astype(np.int8),
            "enemies": enemies.astype(np.float32),
            "enemies_present": state.enemy_there.astype(np.int8),
            "valid_targets": np.stack([pairs, pairs & near], axis=2).astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        """Return the enemy that hurts most for its hit points; slots of the enemies come first."""
        worth = np.where(state.enemy_there, state.damage / np.maximum(state.hit_points, 1), -1.0)
        return np.where(state.enemy_there.any(-1), np.argmax(worth, axis=-1), -1)

    def entity_places(self, state: State) -> FloatArray:
        places = np.concatenate([state.enemy_place, state.unit_place], axis=1)
        there = np.concatenate([state.enemy_there, state.unit_there], axis=1)
        return np.where(there[..., None], places, np.nan)

    def draw(self, game: State, canvas: Canvas) -> None:
        canvas.box((0, 0), (0.985, 0.985), FLOOR, outline=LINE, corner=0.06)
        for slot in np.flatnonzero(game.enemy_there):
            size = 0.03 + 0.05 * game.hit_points[slot] / MAX_HIT_POINTS
            canvas.box(game.enemy_place[slot], (size, size), BAD)
        for slot in np.flatnonzero(game.unit_there):
            canvas.ring(game.unit_place[slot], game.reach[slot], LINE, width=0.006)
            canvas.disc(game.unit_place[slot], 0.03 + 0.04 * game.health[slot], GOOD)
            canvas.ring(game.unit_place[slot], 0.07, INK, width=0.008)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Unit by unit, attack who hurts most for the hit points that are left; else move to the nearest."""
        reachable = obs["valid_targets"][:, :, ATTACK].astype(bool)
        left = np.rint(obs["enemies"][..., 2] * MAX_HIT_POINTS)
        shots, rows = np.rint(obs["units"][..., 3] * MAX_SHOT), np.arange(len(left))
        apart = _between(obs["units"][..., :2], obs["enemies"][..., :2])[1]
        nearest = np.argmin(np.where(obs["valid_targets"][:, :, MOVE] == 1, apart, np.inf), axis=-1)
        verb, target = np.zeros_like(nearest), nearest.copy()
        for unit in range(nearest.shape[1]):
            worth = np.where(reachable[:, unit] & (left > 0), obs["enemies"][..., 3] / np.maximum(left, 1), -1.0)
            best = np.argmax(worth, axis=-1)
            shoots = worth[rows, best] > 0
            verb[:, unit], target[:, unit] = shoots, np.where(shoots, best, nearest[:, unit])
            left[rows, best] -= np.where(shoots, shots[:, unit], 0)
        return np.concatenate([verb, target], axis=-1)


class SquadEnv(SingleEnv):
    """One game of Squad; rules and arguments: :class:`SquadVectorEnv`."""

    rules = SquadVectorEnv


def _places(random: RandomStream, n: int, left: float, right: float) -> FloatArray:
    return np.stack([random.uniform(n, left, right), random.uniform(n, -0.9, 0.9)], axis=-1)


def _between(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The way from each of a (n,A,2) to each of b (n,B,2), (n,A,B,2), and how far it is (n,A,B)."""
    way = b[:, None] - a[:, :, None]
    return way, length(way)


def _least_suffering(time: FloatArray, damage: FloatArray) -> FloatArray:
    """Damage until all have fallen, each after its time (n,M), in the order that hurts least: (n,)."""
    order = np.argsort(-damage / np.maximum(time, 1e-9), axis=-1, kind="stable")
    fallen = np.cumsum(np.take_along_axis(time, order, axis=-1), axis=-1)
    found: FloatArray = (fallen * np.take_along_axis(damage, order, axis=-1)).sum(-1)
    return found
