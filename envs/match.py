"""Match: which item has the cue's colour? Or: which colour is alone?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.colours import check_colours, lattice
from .core.drawing import INK, PAPER, Canvas
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features
from .core.state import Outcome, State
from .core.types import FloatArray, IntArray

N_PAYLOADS = 4
CUE = ("cue_r", "cue_g", "cue_b")
ITEM = ("r", "g", "b", *(f"payload_{i}" for i in range(N_PAYLOADS)))
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 50_000,
    "settings": {**ADVANTAGES_SCALED},
    "policies": {
        "attention": {"learning_rate": 5e-3},
        "deepsets": {"learning_rate": 8e-3},
        "flat": {"learning_rate": 5e-3, "d_model": 58},
    },
    "transfer": (16, 32),
    "variants": {
        "rule=odd": {
            "total_timesteps": 100_000,
            "settings": {"normalize_advantage": False, "normalize_reward": False},
            "policies": {
                "attention": {"learning_rate": 3e-3, "n_layers": 2},
                "deepsets": {"learning_rate": 5e-3, "d_model": 44},
                "flat": {"learning_rate": 2e-3, "d_model": 80},
            },
            "transfer": (16, 31),
        }
    },
}


class MatchVectorEnv(BatchedEnv):
    """Name the payload of the one item that matters, in a single step.

    **Description.** Several items lie on the table, each with a colour and one of four payloads.
    With ``rule="cue"`` all colours differ and you are shown the colour of one item; with
    ``rule="odd"`` you are shown nothing: exactly one item has a colour that no other item shares
    (the others come in pairs, and one triple where the count demands it).

    **Entities.**

    ========  =======================  ===========================  =======
    block     feature                  meaning                      range
    ========  =======================  ===========================  =======
    ego       cue_r, cue_g, cue_b      the cue (``rule="cue"``)     0 to 1
    items     r, g, b                  colour, from a lattice       0 to 1
    items     payload_0 ... payload_3  one-hot                      0 or 1
    ========  =======================  ===========================  =======

    Slots are in random order, present ones first. With ``rule="odd"`` there is no ego.

    **Actions.** ``Discrete(4)``: the payload.

    **Reward.** 1 for the payload of the item that matters, else 0. Maximum 1; random .25, the
    scripted policy 1.00 (both rules, any number of items).

    **Termination.** After one step. Never truncated.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest items (at least 3 with ``rule="odd"``).
        max_entities: most items.
        capacity: item slots; None: ``max_entities``.
        rule: "cue" or "odd".
        levels: values per colour channel, 2 to 7; the lattice has ``levels**3`` colours.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 5,
        max_entities: int = 9,
        capacity: int | None = None,
        rule: Literal["cue", "odd"] = "cue",
        levels: int = 4,
        render_mode: str | None = None,
    ):
        if rule not in ("cue", "odd"):
            raise ValueError(f'rule={rule!r}; expected "cue" or "odd"')
        self.rule = rule
        self.capacity = check_counts(min_entities, max_entities, capacity, least=3 if rule == "odd" else 1)
        self.min_entities, self.max_entities = min_entities, max_entities
        self._n_colours = max_entities if rule == "cue" else (max_entities - 1) // 2 + 1
        self._lattice = lattice(levels)
        check_colours(self._n_colours, levels)
        blocks: dict[str, spaces.Space[object]] = {
            "items": features([0] * len(ITEM), [1] * len(ITEM), self.capacity),
            "items_present": spaces.MultiBinary(self.capacity),
        }
        entities = {"items": ITEM}
        if rule == "cue":
            blocks["ego"] = features([0] * 3, [1] * 3)
            entities = {"ego": CUE, "items": ITEM}
        super().__init__(
            num_envs,
            spaces.Dict(blocks),
            spaces.Discrete(N_PAYLOADS),
            max_episode_steps=1,
            render_mode=render_mode,
            entities=entities,
            kinds={"colour": {block: names[:3] for block, names in entities.items()}},
        )

    def begin(self, random: RandomStream) -> State:
        n = len(random)
        rows = np.arange(n)[:, None]
        count = random.integers(1, self.min_entities, self.max_entities + 1)
        present = np.arange(self.capacity) < count
        palette = self._lattice[random.choose(self._n_colours, len(self._lattice))]
        order = random.order(present)
        colour = np.where(present[..., None], palette[rows, self._colour_index(order, count)], 0.0)
        payload = random.integers(self.capacity, 0, N_PAYLOADS)
        return State(present=present, colour=colour, payload=payload, relevant=np.argmax(order == 0, axis=1))

    def _colour_index(self, rank: IntArray, count: IntArray) -> IntArray:
        """Return which colour of the palette the item of each rank has; rank 0 is the item that matters."""
        if self.rule == "cue":
            return np.minimum(rank, self._n_colours - 1)
        # 0 alone, then pairs (1, 2), (3, 4), ...; a last item without a partner joins the pair before it.
        pair = (rank + 1) // 2
        return np.minimum(pair, (count - 1) // 2)

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        right = state.payload[np.arange(len(actions)), state.relevant] == actions
        return Outcome(right.astype(np.float64), np.ones(len(actions), bool), right)

    def observe(self, state: State) -> dict[str, np.ndarray]:
        one_hot = (state.payload[..., None] == np.arange(N_PAYLOADS)) & state.present[..., None]
        obs = {
            "items": np.concatenate([state.colour, one_hot], axis=-1, dtype=np.float32),
            "items_present": state.present.astype(np.int8),
        }
        if self.rule == "cue":
            obs["ego"] = state.colour[np.arange(len(state.relevant)), state.relevant].astype(np.float32)
        return obs

    def relevant_slots(self, state: State) -> IntArray:
        slots: IntArray = state.relevant.copy()
        return slots

    def entity_places(self, state: State) -> FloatArray:
        """Items sit evenly on a circle, in slot order, clockwise from the top."""
        count = state.present.sum(axis=1, keepdims=True)
        angle = 2 * np.pi * np.arange(self.capacity) / count
        places = 0.72 * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        return np.where(state.present[..., None], places, np.nan)

    def draw(self, game: State, canvas: Canvas) -> None:
        count = int(game.present.sum())
        radius = min(0.19, 1.9 / count)
        places = self.entity_places(State(present=game.present[None]))[0]
        for place, colour, payload in zip(places[:count], game.colour, game.payload, strict=False):
            canvas.disc(place, radius, colour)
            _draw_payload(canvas, place, radius, payload)
        if self.rule == "cue":
            canvas.box((0, 0), (0.22, 0.22), game.colour[game.relevant], corner=0.05, width=0.02)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Compare colours, read the payload."""
        colour, present = obs["items"][..., :3], obs["items_present"].astype(bool)
        if self.rule == "cue":
            wanted = (colour == obs["ego"][:, None, :]).all(axis=-1)
        else:
            same = (colour[:, :, None, :] == colour[:, None, :, :]).all(axis=-1) & present[:, None, :]
            wanted = same.sum(axis=-1) == 1
        slot = np.argmax(wanted & present, axis=1)
        actions: IntArray = np.argmax(obs["items"][np.arange(len(slot)), slot, 3:], axis=-1)
        return actions


class MatchEnv(SingleEnv):
    """One game of Match; rules and arguments: :class:`MatchVectorEnv`."""

    rules = MatchVectorEnv


def _draw_payload(canvas: Canvas, place: FloatArray, radius: float, payload: int) -> None:
    """Draw the payload as one to four dots on a light patch, as on a die."""
    spots: dict[int, list[tuple[float, float]]] = {
        0: [(0, 0)],
        1: [(-1, 0), (1, 0)],
        2: [(-1, -0.8), (1, -0.8), (0, 0.9)],
        3: [(-1, -1), (1, -1), (-1, 1), (1, 1)],
    }
    canvas.disc(place, 0.56 * radius, PAPER, outline=None)
    for spot in spots[int(payload)]:
        canvas.disc(place + 0.21 * radius * np.array(spot), 0.14 * radius, INK, outline=None)
