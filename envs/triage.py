"""Triage: which enemy do you hit first, when all that still stand hurt you?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.drawing import FLOOR, INK, LINE, PAPER, Canvas
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, reorder
from .core.state import Outcome, State
from .core.types import FloatArray, IntArray

MAX_HIT_POINTS = 5
MIN_DAMAGE = 0.1
SMALL_REGRET = 0.02
EGO = ("suffered",)
ENEMY = ("hit_points", "damage")
CIRCLE = 0.74  # where the enemies sit in the picture
HARMLESS, DEADLY = np.array([0.98, 0.86, 0.62]), np.array([0.72, 0.16, 0.20])
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "settings": {**ADVANTAGES_SCALED, "pointer": "enemies", "learning_rate": 8e-3},
    "policies": {"flat": {"d_model": 88}},
    "transfer": ({"min_entities": 6, "max_entities": 12, "capacity": 12}, 16),
}


class TriageVectorEnv(BatchedEnv):
    """Bring down a group of enemies in the order that hurts least.

    **Description.** Each enemy has 1 to 5 hit points, and does you a certain damage in every tick that it
    stands. You hit one enemy a tick; it loses a hit point and falls at none. Who falls in tick C
    has hurt you C times, so the total is the sum of damage times C: single-machine scheduling with
    weighted completion times, which Smith's rule solves exactly (Smith 1956): always hit the enemy
    with the greatest damage per hit point left. Enemies change their slots at every tick.

    **Entities.**

    ========  ==========  ================================================  ===============
    block     feature     meaning                                           range
    ========  ==========  ================================================  ===============
    ego       suffered    damage suffered so far / optimal total            0 to time limit
    enemies   hit_points  hit points left / 5                               0 to 1
    enemies   damage      damage per tick                                   0 to 1
    ========  ==========  ================================================  ===============

    Slots are in random order, those that stand first. Fallen enemies are absent.

    **Actions.** ``Discrete(capacity)``: hit the enemy in this slot. In an empty slot the blow hits
    nothing, and the tick has passed.

    **Reward.** Minus the damage suffered in this tick, as a share of what the optimal order suffers
    in the whole episode. Maximum of the return: -1, always; -return - 1 is the *regret*. The last
    info of an episode tells it as ``regret`` (truncated: as if the rest were played optimally), and
    ``is_success`` where it is at most .02.

    A random policy returns -3.0 at 3 to 6 enemies (regret 2.0, success .00; .48 if it only hits those that
    stand), the scripted one -1 (regret 0, success 1.00). Hitting the most harmful or the weakest has
    a regret of .10.

    **Termination.** When all have fallen. Truncated after 10 ticks for each of ``max_entities``, twice what the
    toughest group needs.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest enemies.
        max_entities: most enemies.
        capacity: enemy slots; None: ``max_entities``.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 3,
        max_entities: int = 6,
        capacity: int | None = None,
        render_mode: str | None = None,
    ):
        self.capacity = check_counts(min_entities, max_entities, capacity)
        self.min_entities, self.max_entities = min_entities, max_entities
        max_steps = 2 * MAX_HIT_POINTS * max_entities
        observation_space = spaces.Dict(
            {
                "ego": features([0], [max_steps]),
                "enemies": features([0, 0], [1, 1], self.capacity),
                "enemies_present": spaces.MultiBinary(self.capacity),
            }
        )
        super().__init__(
            num_envs,
            observation_space,
            spaces.Discrete(self.capacity),
            max_episode_steps=max_steps,
            render_mode=render_mode,
            entities={"ego": EGO, "enemies": ENEMY},
        )

    def begin(self, random: RandomStream) -> State:
        slots = np.arange(self.capacity)
        there = slots < random.integers(1, self.min_entities, self.max_entities + 1)
        toughness = there * random.integers(self.capacity, 1, MAX_HIT_POINTS + 1)
        damage = there * random.uniform(self.capacity, MIN_DAMAGE, 1.0)
        return State(
            hit_points=toughness.copy(),
            toughness=toughness,
            damage=damage,
            seat=np.tile(slots, (len(random), 1)),
            suffered=np.zeros(len(random)),
            optimum=least_damage(toughness, damage),
        )

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        rows = np.arange(len(actions))
        hurt = np.where(state.hit_points > 0, state.damage, 0).sum(axis=-1)
        state.hit_points[rows, actions] = np.maximum(state.hit_points[rows, actions] - 1, 0)
        state.suffered += hurt
        won = ~state.hit_points.any(axis=-1)
        regret = self._regret(state)
        return Outcome(-hurt / state.optimum, won, won & (regret <= SMALL_REGRET), {"regret": regret})

    def _regret(self, state: State) -> FloatArray:
        """Return the excess over the optimum, (n,); what is still to come counts as in the best case."""
        total = state.suffered
        if (state.steps + 1 >= self.max_episode_steps).any():
            total = total + least_damage(state.hit_points, state.damage)
        regret: FloatArray = total / state.optimum - 1
        return regret

    def shuffle(self, state: State, random: RandomStream) -> None:
        reorder(state, random.order(state.hit_points > 0), ("hit_points", "toughness", "damage", "seat"))

    def observe(self, state: State) -> dict[str, np.ndarray]:
        present = state.hit_points > 0
        enemies = np.stack([state.hit_points / MAX_HIT_POINTS, state.damage * present], axis=-1)
        return {
            "ego": (state.suffered / state.optimum)[:, None].astype(np.float32),
            "enemies": enemies.astype(np.float32),
            "enemies_present": present.astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        urgency = _urgency(state.hit_points, state.damage)
        return np.where(state.hit_points.any(axis=-1), np.argmax(urgency, axis=-1), -1)

    def entity_places(self, state: State) -> FloatArray:
        """Everyone keeps a seat on a circle while slots change, clockwise from the top."""
        return np.where((state.hit_points > 0)[..., None], self._seats(state), np.nan)

    def _seats(self, state: State) -> FloatArray:
        count = np.maximum((state.toughness > 0).sum(axis=-1, keepdims=True), 1)
        angle = 2 * np.pi * state.seat / count
        return CIRCLE * np.stack([np.sin(angle), np.cos(angle)], axis=-1)

    def draw(self, game: State, canvas: Canvas) -> None:
        seats = self._seats(State(toughness=game.toughness[None], seat=game.seat[None]))[0]
        there = np.flatnonzero(game.toughness)
        radius = min(0.21, 0.9 * CIRCLE * np.sin(np.pi / max(len(there), 2)))
        for slot in there:
            _draw_enemy(canvas, seats[slot], radius, State(**{k: getattr(game, k)[slot] for k in _SHOWN}))
        canvas.disc((0, 0.06), 0.13, FLOOR, width=0.02)
        canvas.text((0, -0.16), f"{game.suffered / game.optimum:.2f}", height=0.12)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Follow Smith's rule."""
        hit_points, damage = obs["enemies"][..., 0], obs["enemies"][..., 1]
        actions: IntArray = np.argmax(_urgency(hit_points, damage), axis=-1)
        return actions


class TriageEnv(SingleEnv):
    """One game of Triage; rules and arguments: :class:`TriageVectorEnv`."""

    rules = TriageVectorEnv


_SHOWN = ("hit_points", "toughness", "damage")


def least_damage(hit_points: FloatArray | IntArray, damage: FloatArray) -> FloatArray:
    """Return what the optimal order suffers: the sum of damage times the tick of the fall, by Smith's rule.

    Args:
        hit_points: (n, N), 0 = does not stand.
        damage: (n, N).

    Returns:
        (n,) float64.
    """
    order = np.argsort(-_urgency(hit_points, damage), axis=-1, kind="stable")
    tick_of_fall = np.cumsum(np.take_along_axis(hit_points, order, axis=-1), axis=-1)
    standing = np.where(hit_points > 0, damage, 0.0)
    total: FloatArray = (np.take_along_axis(standing, order, axis=-1) * tick_of_fall).sum(axis=-1)
    return total


def _urgency(hit_points: FloatArray | IntArray, damage: FloatArray) -> FloatArray:
    """Return damage per hit point, -1 for those that do not stand."""
    return np.where(hit_points > 0, damage / np.maximum(hit_points, 1e-9), -1.0)


def _draw_enemy(canvas: Canvas, seat: FloatArray, radius: float, enemy: State) -> None:
    """Draw one enemy: the redder, the more it hurts; a dot for each hit point, hollow once lost."""
    standing = enemy.hit_points > 0
    colour = HARMLESS + enemy.damage * (DEADLY - HARMLESS) if standing else PAPER
    canvas.disc(seat, radius, colour, outline=INK if standing else LINE)
    for i in range(enemy.toughness):
        spot = seat + (0.34 * radius * (i - (enemy.toughness - 1) / 2), 0)
        left = i < enemy.hit_points
        canvas.disc(spot, 0.13 * radius, INK if left else PAPER, outline=INK if standing else LINE, width=0.006)
