"""Recall: what did the card of the cue's colour show k steps ago?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import BatchedEnv
from .core.colours import check_colours, lattice
from .core.drawing import FLOOR, INK, LINE, PAPER, Canvas
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features
from .core.state import Outcome, State
from .core.types import FloatArray, IntArray

LEVELS = 4
N_SUITS = 4
MEASURED_STEPS = 32
"""Answers that count in an episode."""
SOLVED = 0.9
EGO = ("cue_r", "cue_g", "cue_b", "asked")
CARD = ("r", "g", "b", *(f"suit_{i}" for i in range(N_SUITS)))
PRESET = {
    "total_timesteps": 200_000,
    "n_envs": 64,
    "settings": {"memory_steps": 8, "batch_size": 512, "gamma": 0.5, "learning_rate": 5e-3},
}


class RecallVectorEnv(BatchedEnv):
    """Say at every step what the card of the cue's colour showed ``lag`` steps ago.

    **Description.** Some cards, each of its own colour, lie on the table; at every step each shows one of four suits,
    drawn anew, and you are told a colour, drawn anew as well. Only what was shown ``lag`` steps ago counts, so a memory
    must tell its steps apart. With one card (``max_entities=1``) this is RepeatPrevious of POPGym.

    **Entities.**

    ========  ====================  ===================================  =======
    block     feature               meaning                              range
    ========  ====================  ===================================  =======
    ego       cue_r, cue_g, cue_b   colour of the card that is meant     0 to 1
    ego       asked                 1 where the answer counts            0 or 1
    cards     r, g, b               colour                               0 to 1
    cards     suit_0 ... suit_3     what it shows in this step, one-hot  0 or 1
    ========  ====================  ===================================  =======

    Slots are shuffled anew at every step, present ones first.

    **Actions.** ``Discrete(4)``: the suit.

    **Reward.** 1/32 for each right answer of the last 32 steps, else 0. Maximum 1; random .25, the scripted policy,
    which remembers, 1.00. Success: at least nine answers in ten are right.

    **Termination.** None. Truncated after ``lag`` + 32 steps.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest cards.
        max_entities: most cards.
        capacity: card slots; None: ``max_entities``.
        lag: how many steps ago counts.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 1,
        max_entities: int = 3,
        capacity: int | None = None,
        lag: int = 4,
        render_mode: str | None = None,
    ):
        if lag < 1:
            raise ValueError(f"lag={lag}; expected 1 or more steps")
        self.capacity = check_counts(min_entities, max_entities, capacity)
        check_colours(max_entities, LEVELS)
        self.min_entities, self.max_entities, self.lag = min_entities, max_entities, lag
        self._lattice = lattice(LEVELS)
        super().__init__(
            num_envs,
            spaces.Dict(
                {
                    "cards": features([0] * len(CARD), [1] * len(CARD), self.capacity),
                    "cards_present": spaces.MultiBinary(self.capacity),
                    "ego": features([0] * 4, [1] * 4),
                }
            ),
            spaces.Discrete(N_SUITS),
            max_episode_steps=lag + MEASURED_STEPS,
            render_mode=render_mode,
            entities={"ego": EGO, "cards": CARD},
            kinds={"colour": {"ego": EGO[:3], "cards": CARD[:3]}},
        )

    def begin(self, random: RandomStream) -> State:
        n, n_steps = len(random), self.max_episode_steps + 1
        count = random.integers(1, self.min_entities, self.max_entities + 1)
        colour = np.zeros((n, self.capacity, 3))
        colour[:, : self.max_entities] = self._lattice[random.choose(self.max_entities, len(self._lattice))]
        return State(
            present=np.arange(self.capacity) < count,
            colour=colour,
            suit=random.integers(n_steps * self.capacity, 0, N_SUITS).reshape(n, n_steps, self.capacity),
            cue=random.integers(n_steps, 0, count),
            order=np.zeros((n, n_steps, self.capacity), np.int64),
            right=np.zeros(n, np.int64),
        )

    def _answer(self, state: State) -> IntArray:
        """What the card that is meant showed ``lag`` steps ago; nonsense in the first steps."""
        rows = np.arange(len(state.steps))
        suits: IntArray = state.suit[rows, np.maximum(state.steps - self.lag, 0), state.cue[rows, state.steps]]
        return suits

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        right = (state.steps >= self.lag) & (actions == self._answer(state))
        state.right += right
        solved = state.right >= SOLVED * MEASURED_STEPS
        return Outcome(right / MEASURED_STEPS, np.zeros(len(actions), bool), solved)

    def shuffle(self, state: State, random: RandomStream) -> None:
        state.order[np.arange(len(state.steps)), state.steps] = random.order(state.present)

    def observe(self, state: State) -> dict[str, np.ndarray]:
        rows = np.arange(len(state.steps))[:, None]
        order = state.order[rows[:, 0], state.steps]
        suit = state.suit[rows[:, 0], state.steps][rows, order]
        cards = np.concatenate([state.colour[rows, order], suit[..., None] == np.arange(N_SUITS)], -1, dtype=np.float32)
        cue = state.colour[rows[:, 0], state.cue[rows[:, 0], state.steps]]
        asked = (state.steps >= self.lag)[:, None]
        return {
            "cards": cards * state.present[..., None],
            "cards_present": state.present.astype(np.int8),
            "ego": np.concatenate([cue, asked], axis=-1, dtype=np.float32),
        }

    def relevant_past_slots(self, state: State) -> IntArray:
        rows = np.arange(len(state.steps))
        order = state.order[rows, np.maximum(state.steps - self.lag, 0)]
        slot = np.argmax(order == state.cue[rows, state.steps][:, None], axis=1)
        return np.stack([np.where(state.steps >= self.lag, self.lag, 0), slot], axis=-1)

    def entity_places(self, state: State) -> FloatArray:
        """Cards lie in a row, in slot order."""
        count = state.present.sum(axis=1, keepdims=True)
        x = (np.arange(self.capacity) + 0.5) / count * 1.8 - 0.9
        places = np.stack([x, np.zeros_like(x)], axis=-1)
        return np.where(state.present[..., None], places, np.nan)

    def ego_place(self, state: State) -> FloatArray:
        return np.tile([0.0, -0.75], (len(state.steps), 1))

    def draw(self, game: State, canvas: Canvas) -> None:
        canvas.box((0, 0), (0.985, 0.985), FLOOR, outline=LINE, corner=0.06)
        order, places = game.order[game.steps], self.entity_places(State(present=game.present[None]))[0]
        half = min(0.25, 0.8 / int(game.present.sum()))
        for place, card in zip(places[: int(game.present.sum())], order, strict=False):
            canvas.box(place, (half, 1.4 * half), game.colour[card], corner=0.04)
            for i in range(int(game.suit[game.steps, card]) + 1):
                canvas.disc(place + np.array([0, half * (0.75 - 0.5 * i)]), 0.18 * half, PAPER, outline=INK)
        cue = game.colour[game.cue[game.steps]]
        canvas.box(
            (0, -0.75), (0.1, 0.1), cue, outline=INK if game.steps >= self.lag else LINE, width=0.02, corner=0.02
        )

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Say what was shown: the scripted policy remembers everything."""
        return self._answer(self._require_state())


class RecallEnv(SingleEnv):
    """One game of Recall; rules and arguments: :class:`RecallVectorEnv`."""

    rules = RecallVectorEnv
