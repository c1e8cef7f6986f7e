"""Boxes: Box-World as entities. Open the chain of boxes that leads to the gem."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.colours import check_colours, lattice
from .core.drawing import FLOOR, INK, LINE, Canvas
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, reorder
from .core.state import Outcome, State
from .core.types import FloatArray, IntArray

LEVELS = 4
STEP_COST = 0.02
STEPS_PER_BOX = 3
GEM = -1  # in place of a content colour
EGO = ("key_r", "key_g", "key_b", "time")
ITEM = ("lock_r", "lock_g", "lock_b", "content_r", "content_g", "content_b", "is_gem")
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 300_000,
    "settings": {
        **ADVANTAGES_SCALED,
        "gamma": 0.95,
        "pointer": "items",
        "ego_conditioning": False,
        "learning_rate": 4e-3,
    },
    "policies": {"deepsets": {"learning_rate": 5e-3}, "flat": {"learning_rate": 5e-3, "d_model": 72}},
    "transfer": ({"min_depth": 4, "max_depth": 4, "capacity": 16},),
}


class BoxesVectorEnv(BatchedEnv):
    """Open boxes with the keys that other boxes hold, until one holds the gem.

    **Description.** After Box-World (Zambaldi et al. 2019), without the grid: you hold one key. Opening
    a box whose lock has the key's colour uses the key up and gives you what is in the box: another
    key, or the gem. From the first key a chain of ``depth`` boxes leads to the gem. Each key of the
    chain but the last also opens ``branches`` dead ends: a box (or a row of up to ``branch_length``
    boxes) of which the last holds a key that opens nothing. Choosing well means looking ahead: does what
    is in this box open another one? All key colours of a game differ (from a lattice of 63, black left
    out). An opened box is gone. Slots are shuffled anew at every step.

    The number of boxes follows: ``min_entities`` is ``min_depth + (min_depth - 1) * min_branches``,
    ``max_entities`` is ``max_depth + (max_depth - 1) * max_branches * branch_length`` (9 by default,
    13 for a depth of 4), and ``capacity`` must be at least that.

    **Entities.**

    ========  ===============================  =====================================  ========
    block     feature                          meaning                                range
    ========  ===============================  =====================================  ========
    ego       key_r, key_g, key_b              colour of the key you hold             0 to 1
    ego       time                             steps used / step limit                0 to 1
    items     lock_r, lock_g, lock_b           colour of the key that opens it        0 to 1
    items     content_r, ...g, ...b            colour of the key in it; gem: zeros    0 to 1
    items     is_gem                           1: holds the gem                       0 or 1
    ========  ===============================  =====================================  ========

    **Actions.** ``Discrete(capacity)``: open the box in that slot. Nothing happens (but a step passes)
    where the slot is empty or your key does not fit.

    **Reward.** +1 for the gem, ``shaping`` for each other box on the way to it, -.02 a step. Maximum
    1 + (.2 - .02) * depth - .2. Success rates:

    =============================  =====================  =================
    policy                         depth 2-3, 10 slots    depth 4, 16 slots
    =============================  =====================  =================
    random slot                    .09                    .002
    random among boxes that open   .24                    .045
    scripted                       1.00                   1.00
    =============================  =====================  =================

    **Termination.** With the gem, or when your key opens no box: a dead end is final. Truncated after
    3 * ``max_depth`` steps.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_depth: fewest boxes from the first key to the gem.
        max_depth: most boxes from the first key to the gem.
        min_branches: fewest dead ends at each fork.
        max_branches: most dead ends at each fork.
        branch_length: most boxes in a dead end; each has 1 to ``branch_length``.
        capacity: box slots, and the number of actions.
        shaping: reward for opening a box on the way.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_depth: int = 2,
        max_depth: int = 3,
        min_branches: int = 1,
        max_branches: int = 3,
        branch_length: int = 1,
        capacity: int = 10,
        shaping: float = 0.2,
        render_mode: str | None = None,
    ):
        _check_range("depth", min_depth, max_depth, least=1)
        _check_range("branches", min_branches, max_branches, least=0)
        if branch_length < 1:
            raise ValueError(f"branch_length={branch_length}; expected 1 or more")
        self.min_depth, self.max_depth = min_depth, max_depth
        self.min_branches, self.max_branches = min_branches, max_branches
        self.branch_length, self.shaping = branch_length, shaping
        self.min_entities = min_depth + (min_depth - 1) * min_branches
        self.max_entities = max_depth + (max_depth - 1) * max_branches * branch_length
        self.capacity = check_counts(self.min_entities, self.max_entities, capacity)
        check_colours(self.max_entities + 1, LEVELS)
        self._lattice = lattice(LEVELS)
        observation_space = spaces.Dict(
            {
                "ego": features([0] * len(EGO), [1] * len(EGO)),
                "items": features([0] * len(ITEM), [1] * len(ITEM), self.capacity),
                "items_present": spaces.MultiBinary(self.capacity),
            }
        )
        super().__init__(
            num_envs,
            observation_space,
            spaces.Discrete(self.capacity),
            max_episode_steps=STEPS_PER_BOX * max_depth,
            render_mode=render_mode,
            entities={"ego": EGO, "items": ITEM},
            kinds={"colour": {"ego": EGO[:3], "items": (ITEM[:3], ITEM[3:6])}},
        )

    def begin(self, random: RandomStream) -> State:
        n = len(random)
        depth = random.integers(1, self.min_depth, self.max_depth + 1)
        chain, branches = self._chain(depth), self._branches(random, depth)
        present, lock, content = (np.concatenate(pair, axis=1) for pair in zip(chain, branches, strict=True))
        level = np.full((n, self.max_entities), -1)
        level[:, : self.max_depth] = np.arange(self.max_depth)
        return State(
            present=self._padded(present, False),
            lock=self._padded(lock, 0),
            content=self._padded(content, 0),
            level=self._padded(level, -1),
            seat=self._padded(random.choose(self.max_entities, self.max_entities), 0),
            palette=1 + random.choose(self.max_entities, len(self._lattice) - 1),
            key=np.zeros(n, np.int64),
            progress=np.zeros(n, np.int64),
        )

    def _chain(self, depth: IntArray) -> tuple[np.ndarray, ...]:
        """Return presence, lock and content of the boxes on the way: key i opens box i, which holds key i+1."""
        step = np.broadcast_to(np.arange(self.max_depth), (len(depth), self.max_depth))
        return step < depth, step, np.where(step == depth - 1, GEM, np.minimum(step + 1, self.max_depth - 1))

    def _branches(self, random: RandomStream, depth: IntArray) -> tuple[np.ndarray, ...]:
        """Return presence, lock and content of the boxes in dead ends: row m, box j off key ``fork``."""
        forks, rows, length = self.max_depth - 1, self.max_branches, self.branch_length
        shape = (len(depth), forks, rows, length)
        if 0 in shape:
            return np.zeros((len(depth), 0), bool), *np.zeros((2, len(depth), 0), np.int64)
        count = random.integers(forks, self.min_branches, self.max_branches + 1)[:, :, None, None]
        boxes = random.integers(forks * rows, 1, length + 1).reshape(*shape[:3], 1)
        fork, row, box = np.ogrid[:forks, :rows, :length]
        present = (fork < depth[..., None, None] - 1) & (row < count) & (box < boxes)
        content = self.max_depth + (fork * rows + row) * length + box
        lock = np.where(box == 0, fork, content - 1)
        return tuple(np.broadcast_to(array, shape).reshape(shape[0], -1) for array in (present, lock, content))

    def _padded(self, array: np.ndarray, value: int | bool) -> np.ndarray:
        """Return (n, max_entities) widened to (n, capacity)."""
        padding = ((0, 0), (0, self.capacity - array.shape[1]))
        return np.pad(array, padding, constant_values=value)

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        rows = np.arange(len(actions))
        opened = state.present[rows, actions] & (state.lock[rows, actions] == state.key)
        content = state.content[rows, actions]
        gem = opened & (content == GEM)
        right = opened & (state.level[rows, actions] == state.progress)
        state.present[rows, actions] &= ~opened
        state.key = np.where(opened, content, state.key)
        state.progress = np.where(right, state.progress + 1, np.where(opened, -2, state.progress))
        stuck = ~gem & ~((state.lock == state.key[:, None]) & state.present).any(axis=1)
        reward = gem + self.shaping * (right & ~gem) - STEP_COST
        return Outcome(reward, gem | stuck, gem)

    def shuffle(self, state: State, random: RandomStream) -> None:
        reorder(state, random.order(state.present), ("present", "lock", "content", "level", "seat"))

    def observe(self, state: State) -> dict[str, np.ndarray]:
        gem = state.content == GEM
        lock, content = self._colours(state, state.lock), self._colours(state, state.content)
        content = np.where(gem[..., None], 0.0, content)
        items = np.concatenate([lock, content, gem[..., None]], axis=-1, dtype=np.float32)
        items *= state.present[..., None]
        key = self._colours(state, state.key[:, None])[:, 0]
        time = state.steps[:, None] / self.max_episode_steps
        return {
            "ego": np.concatenate([key, time], axis=-1, dtype=np.float32),
            "items": items,
            "items_present": state.present.astype(np.int8),
        }

    def _colours(self, state: State, index: IntArray) -> FloatArray:
        """Return the colours of keys given by their number in the game: (n, k) -> (n, k, 3); the gem: black."""
        rows = np.arange(len(index))[:, None]
        return self._lattice[np.where(index == GEM, 0, state.palette[rows, index])]

    def relevant_slots(self, state: State) -> IntArray:
        """Return the box to open next on the way to the gem; -1 where the way is lost."""
        wanted = state.present & (state.level == state.progress[:, None])
        return np.where(wanted.any(axis=1), np.argmax(wanted, axis=1), -1)

    def entity_places(self, state: State) -> FloatArray:
        """Boxes sit in rows, each at the seat it was given at the beginning; the key is below."""
        columns = max(3, int(np.ceil(np.sqrt(self.max_entities))))
        rows = -(-self.max_entities // columns)
        x = (2 * (state.seat % columns) + 1) / columns - 1
        y = 0.94 - 1.62 * (state.seat // columns + 0.5) / rows
        places = np.stack([0.96 * x, y], axis=-1)
        return np.where(state.present[..., None], places, np.nan)

    def ego_place(self, state: State) -> FloatArray:
        return np.broadcast_to([0.0, -0.82], (len(state.key), 2)).copy()

    def draw(self, game: State, canvas: Canvas) -> None:
        batch = State(**{name: np.asarray(value)[None] for name, value in game.arrays()})
        places, half = self.entity_places(batch)[0], 0.64 / max(3, np.ceil(np.sqrt(self.max_entities)))
        lock, content = self._colours(batch, batch.lock)[0], self._colours(batch, batch.content)[0]
        canvas.box((0, 0), (0.985, 0.985), FLOOR, outline=LINE, corner=0.06)
        for i in np.flatnonzero(game.present):
            _draw_box(canvas, places[i], half, lock[i], None if game.content[i] == GEM else content[i])
        _draw_key(canvas, np.array([0.0, -0.82]), 0.13, self._colours(batch, batch.key[:, None])[0, 0])

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Mark the boxes that lead to the gem, from the gem backwards; open the one that the key fits."""
        items, present = obs["items"], obs["items_present"].astype(bool)
        lock, content = items[..., :3], items[..., 3:6]
        opens = (content[:, :, None] == lock[:, None]).all(axis=-1) & present[:, None] & present[:, :, None]
        leads = (items[..., 6] == 1) & present
        for _ in range(self.max_depth - 1):
            leads = leads | (opens & leads[:, None]).any(axis=-1)
        fits = (lock == obs["ego"][:, None, :3]).all(axis=-1)
        actions: IntArray = np.argmax(leads & fits, axis=1)
        return actions


class BoxesEnv(SingleEnv):
    """One game of Boxes; rules and arguments: :class:`BoxesVectorEnv`."""

    rules = BoxesVectorEnv


def _check_range(name: str, low: int, high: int, least: int) -> None:
    if not least <= low <= high:
        raise ValueError(f"min_{name}={low}, max_{name}={high}; expected {least} <= min_{name} <= max_{name}")


def _draw_box(canvas: Canvas, place: FloatArray, half: float, lock: FloatArray, content: FloatArray | None) -> None:
    """Draw a box: its content large, its lock as a clasp at the upper edge; the gem as a diamond."""
    canvas.box(place, (half, 0.8 * half), (0.93, 0.92, 0.89), corner=0.15 * half, width=0.014)
    clasp = place + np.array([0, 0.8 * half])
    if content is None:
        reach = 0.42 * half
        middle = place - np.array([0, 0.2 * half])
        corners = [middle + reach * np.array(c) for c in ((0, 1.0), (1.15, 0), (0, -1.0), (-1.15, 0))]
        canvas.polygon(corners, (0.55, 0.85, 0.95))
        canvas.line([corners[3], corners[1]], INK, width=0.008)
    else:
        _draw_key(canvas, place - np.array([0, 0.2 * half]), 0.5 * half, content)
    canvas.ring(clasp + np.array([0, 0.14 * half]), 0.26 * half, INK, width=0.022)
    canvas.box(clasp, (0.38 * half, 0.26 * half), lock, corner=0.06 * half, width=0.014)


def _draw_key(canvas: Canvas, place: FloatArray, half: float, colour: FloatArray) -> None:
    """Draw a key, ``2 * half`` long."""
    bow, tip = place - np.array([0.55 * half, 0]), place + np.array([half, 0])
    bits = [np.array([0.55 * half, 0]), np.array([0.85 * half, 0])]
    for ink, grow in ((INK, 0.024), (colour, 0.0)):
        width = 0.26 * half + grow
        canvas.line([bow, tip + np.array([grow / 2, 0])], ink, width=width)
        for bit in bits:
            canvas.line([place + bit, place + bit - np.array([0, 0.42 * half + grow / 2])], ink, width=width)
        canvas.disc(bow, 0.45 * half + grow / 2, ink, outline=None)
    canvas.disc(bow, 0.16 * half, FLOOR, outline=None)
