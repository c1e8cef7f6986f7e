"""Heat maps over cells and shaded words show the record's weights where the cells and words are."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from attn_rl import make_agent, make_vec_env
from attn_rl.inspection.draw import VIEWS, cells
from attn_rl.inspection.draw.cells import MARGIN, SIDE, cells_and_words
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.record.scenes import Scenes
from attn_rl.wrappers import GridToEntities, TextToEntities
from tests.inspection.test_draw import changed, probe_of

ROWS, COLUMNS = 3, 5
SAID = "red key, blue door"


class Told(gym.Env):
    """A board of three rows and five columns, one cell empty, and a sentence."""

    observation_space = spaces.Dict({"board": spaces.Box(0, 3, (ROWS, COLUMNS), np.int8), "said": spaces.Text(40)})
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        board = np.arange(ROWS * COLUMNS, dtype=np.int8).reshape(ROWS, COLUMNS) % 3 + 1
        board[1, 1] = 0
        return {"board": board, "said": SAID}, {}

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {}


def told() -> gym.Env:
    board = GridToEntities(
        Told(), "board", values={"value": ("empty", "wall", "red key", "blue door")}, absent=["empty"]
    )
    return TextToEntities(board, "said", vocabulary=("red", "blue", "key", "door"), capacity=7)


@pytest.fixture(scope="module")
def probe() -> ProbeRecord:
    agent = make_agent(make_vec_env(told, 2, seed=0), n_steps=8, batch_size=16, n_layers=2, seed=0)
    obs = agent.get_env().reset()
    n, slots = 2, ROWS * COLUMNS + 7
    nowhere = {"positions": np.full((n, slots, 2), np.nan), "ego": np.full((n, 2), np.nan)}
    scenes = Scenes(obs=obs, frame=[None] * n, relevant=np.full(n, -1), **nowhere, **times(n))
    return probe_of(agent, scenes)


def times(n: int) -> dict[str, np.ndarray]:
    return {"scene": np.arange(n), "time": np.zeros(n, int), "reward": np.full(n, np.nan)}


def with_weight_on(probe: ProbeRecord, slot: int) -> ProbeRecord:
    """All heads of the last layer look at one slot."""
    last = probe.record.layers[-1]
    pattern = np.zeros_like(last.pattern)
    pattern[..., probe.record.lead + slot] = 1.0
    return replace(probe, record=replace(probe.record, layers=[probe.record.layers[0], replace(last, pattern=pattern)]))


def test_cells_and_words_are_found_by_their_features(probe):
    (board,) = cells.lattices(probe.record)
    assert board.size == (COLUMNS, ROWS)
    there = probe.record.slot_present[0, board.slots]
    expected = [(c, r) for r in range(ROWS) for c in range(COLUMNS) if (r, c) != (1, 1)]
    assert list(map(tuple, board.at[0][there])) == expected
    said = probe.record.words(0)
    assert [said[slot] for slot in cells.sentence(probe.record)][:5] == ["red", "key", "?", "blue", "door"]


@pytest.mark.parametrize("place", [(0, 0), (4, 2), (2, 1)])
def test_the_darkest_cell_is_the_one_looked_at(probe, place):
    (board,) = cells.lattices(probe.record)
    slot = int(board.slots[[tuple(at) for at in board.at[0]].index(place)])
    first_panel = cells_and_words(with_weight_on(probe, slot), [0])[56 : 56 + SIDE, MARGIN : MARGIN + SIDE]
    side = (SIDE - 6) / COLUMNS
    corners = [(c, r) for c in range(COLUMNS) for r in range(ROWS)]
    inside = {(c, r): first_panel[int((r + 0.85) * side), int((c + 0.1) * side)].astype(int).sum() for c, r in corners}
    assert min(inside, key=inside.get) == place


def test_the_word_looked_at_is_shaded(probe):
    words = cells.sentence(probe.record)
    one, other = (cells_and_words(with_weight_on(probe, int(words[i])), [0]) for i in (0, 4))
    grid, text = slice(56, 56 + SIDE), slice(56 + SIDE, 56 + SIDE + 30)
    assert changed(one[text, : MARGIN + SIDE], other[text, : MARGIN + SIDE]) > 0.05
    assert changed(one[grid, : MARGIN + SIDE], other[grid, : MARGIN + SIDE]) == 0


def test_things_that_stand_anywhere_are_no_grid(trained_match, match_scenes):
    assert VIEWS["cells_and_words"](probe_of(trained_match, match_scenes)) is None
