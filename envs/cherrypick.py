"""CherryPick: pick the best of what is left, half of them in all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.drawing import INK, Canvas, blend
from .core.geometry import seats_in_rows
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, reorder
from .core.state import Outcome, State
from .core.types import FloatArray, IntArray

N_UNIFORMS = 4  # whose sum is a bell curve within bounds
BEST = 0.99
LIMIT = 8.0  # no quality is beyond
UNRIPE, RIPE = (0.93, 0.90, 0.70), (0.70, 0.13, 0.20)
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 250_000,
    "settings": {**ADVANTAGES_SCALED, "pointer": "cherries", "gamma": 1.0, "learning_rate": 4e-3},
}


class CherryPickVectorEnv(BatchedEnv):
    """Pick half of the cherries, one at a time, and get the quality of each.

    **Description.** The qualities are drawn from a bell curve (the sum of four uniform numbers, standard
    deviation 1), then shifted by one constant so that the better half of them sums to 1. Picked
    cherries are gone; slots are shuffled anew at every step. The rules are those of CherryPick in
    entity-gym, whose qualities are normally distributed.

    **Entities.**

    ========  =========  ===================================  ===========
    block     feature    meaning                              range
    ========  =========  ===================================  ===========
    cherries  quality    reward for picking it                -8 to 8
    ========  =========  ===================================  ===========

    There is no ego. Present cherries come first.

    **Actions.** ``Discrete(capacity)``: pick the cherry in this slot. For an empty slot you get
    the worst cherry there is.

    **Reward.** The quality of the cherry picked. Maximum of the return: 1, in every game.
    ``is_success``: at least .99. A random policy returns -16 with 32 cherries (success
    .00), the scripted one 1 (1.00).

    **Termination.** When half of the cherries are picked (rounded down). Never truncated.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest cherries (at least 2).
        max_entities: most cherries.
        capacity: cherry slots; None: ``max_entities``.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 32,
        max_entities: int = 32,
        capacity: int | None = None,
        render_mode: str | None = None,
    ):
        self.capacity = check_counts(min_entities, max_entities, capacity, least=2)
        self.min_entities, self.max_entities = min_entities, max_entities
        observation_space = spaces.Dict(
            {
                "cherries": features([-LIMIT], [LIMIT], self.capacity),
                "cherries_present": spaces.MultiBinary(self.capacity),
            }
        )
        super().__init__(
            num_envs,
            observation_space,
            spaces.Discrete(self.capacity),
            max_episode_steps=max(max_entities // 2, 1),
            render_mode=render_mode,
            entities={"cherries": ("quality",)},
        )

    def begin(self, random: RandomStream) -> State:
        slots = np.arange(self.capacity)
        count = random.integers(1, self.min_entities, self.max_entities + 1)
        present = slots < count
        quality = random.uniform(self.capacity * N_UNIFORMS).reshape(-1, self.capacity, N_UNIFORMS).sum(axis=-1)
        quality = (quality - N_UNIFORMS / 2) / np.sqrt(N_UNIFORMS / 12)
        picks = count // 2
        best_first = -np.sort(-np.where(present, quality, -np.inf), axis=-1)
        better_half = np.where(slots < picks, best_first, 0.0).sum(axis=-1, keepdims=True)
        quality = np.where(present, quality + (1 - better_half) / picks, 0.0)
        return State(
            present=present,
            quality=quality,
            seat=np.tile(slots, (len(random), 1)),
            picks_left=picks[:, 0],
            total=np.zeros(len(random)),
        )

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        rows = np.arange(len(actions))
        worst = np.argmin(np.where(state.present, state.quality, np.inf), axis=-1)
        picked = np.where(state.present[rows, actions], actions, worst)
        reward = state.quality[rows, picked]
        state.present[rows, picked] = False
        state.total += reward
        state.picks_left -= 1
        done = state.picks_left == 0
        return Outcome(reward, done, done & (state.total >= BEST))

    def shuffle(self, state: State, random: RandomStream) -> None:
        reorder(state, random.order(state.present), ("present", "quality", "seat"))

    def observe(self, state: State) -> dict[str, np.ndarray]:
        return {
            "cherries": np.where(state.present, state.quality, 0.0)[..., None].astype(np.float32),
            "cherries_present": state.present.astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        slots: IntArray = np.argmax(np.where(state.present, state.quality, -np.inf), axis=-1)
        return slots

    def entity_places(self, state: State) -> FloatArray:
        """Cherries lie in rows and stay there while slots change."""
        return np.where(state.present[..., None], seats_in_rows(state.seat, self.capacity), np.nan)

    def draw(self, game: State, canvas: Canvas) -> None:
        places = self.entity_places(State(present=game.present[None], seat=game.seat[None]))[0]
        radius = 0.6 / np.ceil(np.sqrt(self.capacity))
        for slot in np.flatnonzero(game.present):
            ripeness = np.clip((game.quality[slot] + 2) / 3, 0, 1)
            x, y = places[slot]
            canvas.line([(x, y), (x + 0.7 * radius, y + 1.4 * radius)], INK, width=0.1 * radius)
            canvas.disc((x, y), radius, blend(RIPE, UNRIPE, ripeness))

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Pick the best."""
        actions: IntArray = np.argmax(np.where(obs["cherries_present"] == 1, obs["cherries"][..., 0], -np.inf), axis=-1)
        return actions


class CherryPickEnv(SingleEnv):
    """One game of CherryPick; rules and arguments: :class:`CherryPickVectorEnv`."""

    rules = CherryPickVectorEnv
