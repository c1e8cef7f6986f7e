"""Remember: what the signs at the start said is asked for at the end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import BatchedEnv
from .core.colours import check_colours, lattice
from .core.drawing import FLOOR, INK, LINE, Canvas
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features
from .core.state import Outcome, State
from .core.types import FloatArray, IntArray

LEVELS = 4
N_ANSWERS = 4
EGO = ("asked", "cue_r", "cue_g", "cue_b")
SIGN = ("r", "g", "b", *(f"answer_{i}" for i in range(N_ANSWERS)))
PRESET = {
    "total_timesteps": 100_000,
    "n_envs": 64,
    "settings": {"memory_sightings": 4, "batch_size": 512, "learning_rate": 5e-3},
    "transfer": ({"length": 48}, {"length": 96}),
}


class RememberVectorEnv(BatchedEnv):
    """Read the signs at the start of a corridor; at its end you are asked what one of them said.

    **Description.** Some signs, each of its own colour, each with one of four answers on it, are seen in the first
    step and never again. After ``length`` steps you are shown a colour: what did the sign of that colour say? With one
    sign (``max_entities=1``) this is the plain proof of memory. Without a memory nothing beats chance.

    **Entities.**

    ========  ======================  =================================  =======
    block     feature                 meaning                            range
    ========  ======================  =================================  =======
    ego       asked                   1 in the last step                 0 or 1
    ego       cue_r, cue_g, cue_b     colour that is asked for, then     0 to 1
    signs     r, g, b                 colour                             0 to 1
    signs     answer_0 ... answer_3   one-hot                            0 or 1
    ========  ======================  =================================  =======

    Slots are in random order, present ones first.

    **Actions.** ``Discrete(4)``: the answer; only the last one counts.

    **Reward.** 1 for the right answer in the last step, else 0. Maximum 1; random .25, the scripted policy, which
    remembers, 1.00.

    **Termination.** With the answer, after ``length`` + 1 steps. Never truncated.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest signs.
        max_entities: most signs.
        capacity: sign slots; None: ``max_entities``.
        length: steps between the signs and the question.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 1,
        max_entities: int = 4,
        capacity: int | None = None,
        length: int = 16,
        render_mode: str | None = None,
    ):
        if length < 1:
            raise ValueError(f"length={length}; expected 1 or more steps between the signs and the question")
        self.capacity = check_counts(min_entities, max_entities, capacity)
        check_colours(max_entities, LEVELS)
        self.min_entities, self.max_entities, self.length = min_entities, max_entities, length
        self._lattice = lattice(LEVELS)
        super().__init__(
            num_envs,
            spaces.Dict(
                {
                    "ego": features([0] * 4, [1] * 4),
                    "signs": features([0] * len(SIGN), [1] * len(SIGN), self.capacity),
                    "signs_present": spaces.MultiBinary(self.capacity),
                }
            ),
            spaces.Discrete(N_ANSWERS),
            max_episode_steps=length + 1,
            render_mode=render_mode,
            entities={"ego": EGO, "signs": SIGN},
            kinds={"colour": {"ego": EGO[1:], "signs": SIGN[:3]}},
        )

    def begin(self, random: RandomStream) -> State:
        n = len(random)
        count = random.integers(1, self.min_entities, self.max_entities + 1)
        colour = np.zeros((n, self.capacity, 3))
        colour[:, : self.max_entities] = self._lattice[random.choose(self.max_entities, len(self._lattice))]
        sign = np.arange(self.capacity) < count
        answer = random.integers(self.capacity, 0, N_ANSWERS)
        return State(sign=sign, colour=colour, answer=answer, target=random.integers(1, 0, count)[:, 0])

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        last = state.steps == self.length
        right = last & (actions == state.answer[np.arange(len(actions)), state.target])
        return Outcome(right.astype(np.float64), last, right)

    def observe(self, state: State) -> dict[str, np.ndarray]:
        rows = np.arange(len(state.target))
        seen = state.sign & (state.steps == 0)[:, None]
        one_hot = state.answer[..., None] == np.arange(N_ANSWERS)
        signs = np.concatenate([state.colour, one_hot], axis=-1, dtype=np.float32) * seen[..., None]
        asked = (state.steps == self.length)[:, None]
        cue = state.colour[rows, state.target] * asked
        return {
            "ego": np.concatenate([asked, cue], axis=-1, dtype=np.float32),
            "signs": signs.astype(np.float32),
            "signs_present": seen.astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        return np.where(state.steps == 0, state.target, -1)

    def relevant_past_slots(self, state: State) -> IntArray:
        return np.stack([np.where(state.steps == self.length, state.steps, 0), state.target], axis=-1)

    def entity_places(self, state: State) -> FloatArray:
        """Signs stand in a row, in slot order."""
        x = (np.arange(self.capacity) + 0.5) / self.capacity * 1.8 - 0.9
        places = np.broadcast_to(np.stack([x, np.full_like(x, 0.35)], axis=-1), (len(state.steps), self.capacity, 2))
        seen = state.sign & (state.steps == 0)[:, None]
        return np.where(seen[..., None], places, np.nan)

    def ego_place(self, state: State) -> FloatArray:
        along = -0.85 + 1.7 * state.steps / max(self.length, 1)
        return np.stack([np.minimum(along, 0.85), np.full(len(along), -0.45)], axis=-1)

    def draw(self, game: State, canvas: Canvas) -> None:
        canvas.box((0, 0), (0.985, 0.985), FLOOR, outline=LINE, corner=0.06)
        canvas.line([(-0.85, -0.45), (0.85, -0.45)], LINE, 0.02)
        batch = State(**{name: value[None] for name, value in game.arrays()})
        size = min(0.14, 0.8 / self.capacity)
        for place, colour, answer in zip(self.entity_places(batch)[0], game.colour, game.answer, strict=True):
            if not np.isnan(place[0]):
                canvas.disc(place, size, colour)
                _draw_answer(canvas, place, size, answer)
        ego = self.ego_place(batch)[0]
        asked = game.steps == self.length
        canvas.box(
            ego, (0.07, 0.07), game.colour[game.target] if asked else LINE, outline=INK, width=0.02, corner=0.015
        )

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Say what the sign of the asked colour said: the scripted policy remembers all of them."""
        state = self._require_state()
        answers: IntArray = state.answer[np.arange(len(state.target)), state.target].copy()
        return answers


class RememberEnv(SingleEnv):
    """One game of Remember; rules and arguments: :class:`RememberVectorEnv`."""

    rules = RememberVectorEnv


def _draw_answer(canvas: Canvas, place: FloatArray, size: float, answer: int) -> None:
    """Draw the answer as one to four dots."""
    for i in range(int(answer) + 1):
        canvas.disc(place + size * np.array([(i - answer / 2) * 0.38, 0]), 0.13 * size, INK, outline=None)
