"""Pick: choose a few of many, whose values combine."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.drawing import INK, Canvas
from .core.geometry import seats_in_rows
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, reorder
from .core.state import Outcome, State
from .core.types import FloatArray, IntArray

N_COLOURS = 3
COLOURS = ((0.85, 0.30, 0.28), (0.28, 0.58, 0.36), (0.28, 0.42, 0.78))
BEST = 0.9999
EGO, ITEM = ("synergy",), ("value", "red", "green", "blue")
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 200_000,
    "settings": {**ADVANTAGES_SCALED, "gamma": 1.0, "n_steps": 16, "ent_coef": 0.003, "relations": "off"},
    "transfer": (16,),
}


class PickVectorEnv(BatchedEnv):
    """Take K things at once: each has a value, and things of one colour are worth more together.

    **Description.** A knapsack of K places with synergies. Every item has a value and one of three colours.
    What is taken is worth the sum of its values, plus the game's synergy for every pair of one
    colour. Once the numbers of each colour are fixed, the most valuable of each are best, so the
    optimum is known: the best over all ways to divide K among the colours. One step, and the game is over.

    **Entities.**

    ========  =======  ============================================  ===========
    block     feature  meaning                                       range
    ========  =======  ============================================  ===========
    ego       synergy  worth of a pair of one colour                 0 to 1
    items     value    worth of the item alone                       0 to 1
    items     red      1: it is red; green and blue likewise         0 or 1
    ========  =======  ============================================  ===========

    **Actions.** ``MultiDiscrete([capacity + 1] * take)``: the slots that are taken; ``capacity`` means
    nothing, and so does an empty slot, or one named twice. ``metadata["actions"]`` declares it.

    **Reward.** Worth of what is taken, as a share of the optimum. Maximum: 1, in every game. ``is_success``:
    the optimum. Mean reward of a random policy: .33; of the most valuable items: .82; scripted: 1.

    **Termination.** After one step. Never truncated.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest items (at least ``take``).
        max_entities: most items.
        capacity: item slots; None: ``max_entities``.
        take: K.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 6,
        max_entities: int = 12,
        capacity: int | None = None,
        take: int = 4,
        render_mode: str | None = None,
    ):
        if not 1 <= take <= 8:
            raise ValueError(
                f"take={take}; expected 1 to 8: all ways to divide them among the colours are gone through"
            )
        self.capacity = check_counts(min_entities, max_entities, capacity, least=take)
        self.min_entities, self.max_entities, self.take = min_entities, max_entities, take
        ways = itertools.product(range(take + 1), repeat=N_COLOURS)
        self._ways = np.array([way for way in ways if sum(way) == take])
        observation_space = spaces.Dict(
            {
                "ego": features([0], [1]),
                "items": features([0] * len(ITEM), [1] * len(ITEM), self.capacity),
                "items_present": spaces.MultiBinary(self.capacity),
            }
        )
        super().__init__(
            num_envs,
            observation_space,
            spaces.MultiDiscrete([self.capacity + 1] * take),
            max_episode_steps=1,
            render_mode=render_mode,
            entities={"ego": EGO, "items": ITEM},
            kinds={"colour": {"items": ITEM[1:]}},
        )
        self.metadata["actions"] = {"taken": {"points_at": "items", "take": take, "draw": "in_turn"}}

    def begin(self, random: RandomStream) -> State:
        slots = np.arange(self.capacity)
        present = slots < random.integers(1, self.min_entities, self.max_entities + 1)
        value = np.where(present, random.uniform(self.capacity), 0.0)
        colour = np.where(present, random.integers(self.capacity, 0, N_COLOURS), -1)
        synergy = random.uniform(1)[:, 0]
        return State(
            present=present,
            value=value,
            colour=colour,
            synergy=synergy,
            optimum=self._optimum(value, colour, synergy)[0],
            seat=np.tile(slots, (len(random), 1)),
        )

    def _optimum(self, value: FloatArray, colour: IntArray, synergy: FloatArray) -> tuple[FloatArray, IntArray]:
        """Return the greatest worth (n,), and the numbers of each colour that reach it (n, colours)."""
        worth = np.repeat(_pairs(self._ways).sum(-1)[None], len(value), axis=0) * synergy[:, None]
        for i in range(N_COLOURS):
            best_first = -np.sort(-np.where(colour == i, value, -np.inf), axis=-1)
            gathered = np.concatenate([np.zeros((len(value), 1)), np.cumsum(best_first, axis=-1)], axis=-1)
            gathered = np.pad(gathered, ((0, 0), (0, self.take)), constant_values=-np.inf)
            worth = worth + gathered[:, self._ways[:, i]]
        best = np.argmax(worth, axis=-1)
        return worth[np.arange(len(value)), best], self._ways[best]

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        named = (actions[..., None] == np.arange(self.capacity)).any(axis=1)
        taken = named & state.present
        counts = np.stack([(taken & (state.colour == i)).sum(-1) for i in range(N_COLOURS)], axis=-1)
        worth = np.where(taken, state.value, 0.0).sum(-1) + state.synergy * _pairs(counts).sum(-1)
        share = np.minimum(worth / state.optimum, 1.0)
        return Outcome(share, np.ones(len(share), bool), share >= BEST)

    def shuffle(self, state: State, random: RandomStream) -> None:
        reorder(state, random.order(state.present), ("present", "value", "colour", "seat"))

    def observe(self, state: State) -> dict[str, np.ndarray]:
        colours = state.colour[..., None] == np.arange(N_COLOURS)
        items = np.concatenate([state.value[..., None], colours], axis=-1)
        return {
            "ego": state.synergy[:, None].astype(np.float32),
            "items": (items * state.present[..., None]).astype(np.float32),
            "items_present": state.present.astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        slots: IntArray = np.argmax(np.where(state.present, state.value, -1.0), axis=-1)
        return slots

    def entity_places(self, state: State) -> FloatArray:
        """Items lie in rows and stay there while slots change."""
        return np.where(state.present[..., None], seats_in_rows(state.seat, self.capacity), np.nan)

    def draw(self, game: State, canvas: Canvas) -> None:
        places = self.entity_places(State(present=game.present[None], seat=game.seat[None]))[0]
        largest = 0.85 / np.ceil(np.sqrt(self.capacity))
        for slot in np.flatnonzero(game.present):
            canvas.disc(places[slot], largest * (0.25 + 0.75 * game.value[slot]), COLOURS[game.colour[slot]])
            canvas.ring(places[slot], largest, INK, width=0.006)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Of the best division among the colours, the most valuable of each."""
        present, value = obs["items_present"] == 1, obs["items"][..., 0].astype(float)
        colour = np.where(present, np.argmax(obs["items"][..., 1:], axis=-1), -1)
        _, counts = self._optimum(np.where(present, value, 0.0), colour, obs["ego"][:, 0].astype(float))
        taken = np.zeros_like(present)
        for i in range(N_COLOURS):
            order = np.argsort(-np.where(colour == i, value, -1.0), axis=-1, kind="stable")
            rank = np.argsort(order, axis=-1)
            taken |= (colour == i) & (rank < counts[:, i : i + 1])
        slots = np.where(taken, np.arange(self.capacity), self.capacity)
        actions: IntArray = np.sort(slots, axis=-1)[:, : self.take]
        return actions


class PickEnv(SingleEnv):
    """One game of Pick; rules and arguments: :class:`PickVectorEnv`."""

    rules = PickVectorEnv


def _pairs(counts: IntArray) -> IntArray:
    found: IntArray = counts * (counts - 1) // 2
    return found
