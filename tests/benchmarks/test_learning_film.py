"""The README's film: every game by every agent, side by side."""

import numpy as np
import pytest

from attn_rl import make_agent, make_vec_env
from benchmarks import learning_film
from benchmarks.learning_film import ENV_ID, GAP, PANEL, STEPS, film, play


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learning_film, "LONGEST", 2)
    monkeypatch.setattr(learning_film, "HOLD", 1)
    monkeypatch.setattr(learning_film, "SEEDS", (38, 30))


@pytest.mark.usefixtures("short")
def test_all_agents_play_the_same_games():
    agent = make_agent(make_vec_env(ENV_ID, 2, seed=0), seed=0)
    first, last = play(agent, seed=38)
    assert last.ending == "not there in 2 steps"
    assert first.weights[np.isnan(first.places).any(1)].sum() == 0  # a line goes to what is there
    assert first.weights.sum() <= 1 + 1e-6
    frames = film([agent] * len(STEPS))
    assert len(frames) == 2 * (2 + 1)
    assert {frame.width for frame in frames} == {len(STEPS) * (PANEL + GAP) + GAP}
