"""Where a driver looks, and its film."""

import numpy as np
import pytest
from stable_baselines3.common.base_class import BaseAlgorithm

from attn_rl import make_agent
from benchmarks import intersection_film
from benchmarks.intersection import ENV_ID
from benchmarks.intersection_attention import SECONDS, known_mean, of_agents, table, watch
from benchmarks.intersection_film import drive, film


@pytest.fixture(scope="module")
def agent() -> BaseAlgorithm:
    agent = make_agent(ENV_ID, seed=0)
    agent.policy.action_net.weight.data *= 100  # so that what it sees decides
    return agent


def test_states_are_told_apart_by_the_seconds_until_a_meeting(agent: BaseAlgorithm):
    rows = watch(agent, games=32, seconds=3)
    assert [row["from"] for row in rows] == [*SECONDS[:-1], np.inf]
    assert sum(row["states"] for row in rows) == 3 * 32
    assert np.isnan(rows[-1]["weight"])  # nobody is in the way
    known = [row for row in rows[:-1] if row["states"] > 1]
    assert known
    for row in known:
        assert 0 < row["weight"] < 1
        assert row["effect"] > 0
        assert 0 <= row["is_greatest"] <= 1
    text = table([{name: str(value) for name, value in row.items()} for row in rows])
    assert text.count("\n") == 2 + len(rows) - 1
    assert "nobody in the way" in text


def test_an_interval_needs_two_agents_and_means_leave_out_what_is_unknown():
    assert known_mean(np.array([1.0, np.nan, 2.0])) == 1.5
    assert of_agents(np.array([0.25])) == "0.250"
    assert of_agents(np.array([0.2, 0.4])) == "0.300 [-0.971, 1.571]"  # 12.71 x .1414 / 1.414


def test_a_film_shows_every_vehicle_that_was_seen_where_it_was(agent: BaseAlgorithm, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(intersection_film, "SHOTS", 1)
    monkeypatch.setattr(intersection_film, "FRAMES", 15)
    seconds, ending = drive(agent, seed=3)
    assert ending.split()[0] in ("arrived", "crashed", "too")
    for second in seconds:
        assert len(second.shots) == 2
        assert second.columns.shape == second.weights.shape == second.brakes_for.shape
        assert second.shots[0].present[0, second.columns].all()
        assert second.shots[0].ego[0] not in second.columns
    assert any(len(second.columns) for second in seconds)
    frames = film(agent, [3])
    assert len(frames) > len(seconds)
    assert (np.asarray(frames[0]) != np.asarray(frames[1])).any()
