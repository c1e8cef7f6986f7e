"""Kept agents are evaluated along the axis, once, and the report plots what was found."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import pytest

from attn_rl import make_agent, make_vec_env
from benchmarks import long_range
from benchmarks.learning import ENVIRONMENTS, Cell, append, model_path
from benchmarks.long_range import Args, changes, main
from benchmarks.results import read_reach


@pytest.mark.parametrize(
    ("environment", "axis", "value"),
    [(name, axis, value) for name, (axis, values) in long_range.TASKS.items() for value in values],
)
def test_every_point_is_a_legal_environment(environment: str, axis: str, value: int):
    env_id, env_kwargs = ENVIRONMENTS[environment]
    env = gym.make(env_id, **env_kwargs, **changes(environment, axis, value, slots=9))
    obs, _ = env.reset(seed=2)
    present = int(obs["items_present"].sum())
    assert present == value if axis == "entities" else 2 * value - 1 <= present <= 4 * value - 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two untrained agents of Match, kept as the learning benchmark keeps them."""
    for policy in ("attention", "flat"):
        cell = Cell("Match", policy, 0, 0.004)
        env = make_vec_env("AttnRL/Match-v0", 3)
        make_agent(env, policy, seed=0).save(model_path(tmp_path, cell))
        row = {"environment": "Match", "policy": policy, "seed": 0, "learning_rate": 0.004}
        append(tmp_path / "learning.csv", [row])
    return tmp_path


def test_agents_are_evaluated_once_and_as_far_as_their_network_goes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(long_range.TASKS, "Match", ("entities", (4, 11)))
    main(Args(models=folder, results=folder, episodes=100))
    rows = read_reach(folder / "long_range.csv")
    assert [(row.policy, row.value) for row in rows] == [("attention", 4), ("attention", 11), ("flat", 4)]
    assert {row.trained for row in rows} == {(5, 9)}
    assert all(0 < row.success < 0.6 for row in rows)
    main(Args(models=folder, results=folder, episodes=100))
    assert read_reach(folder / "long_range.csv") == rows


def test_a_missing_agent_is_named(folder: Path, capsys: pytest.CaptureFixture[str]):
    main(Args(models=folder / "elsewhere", results=folder))
    assert "Match-flat-0-0.004.zip is not there; run benchmarks/learning.py to train it" in capsys.readouterr().out
    assert not (folder / "long_range.csv").exists()


def test_the_report_plots_it(folder: Path):
    plots = pytest.importorskip("benchmarks.plots", reason="needs an extra: pip install 'attn_rl[bench]'")
    point = {"axis": "entities", "trained_from": 5, "trained_to": 9, "success_rate": 0.5}
    cell = {"environment": "Match", "policy": "attention", "seed": 0, "learning_rate": 0.004}
    append(folder / "long_range.csv", [{**cell, **point, "value": value} for value in (4, 11)])
    plots.long_range(read_reach(folder / "long_range.csv"), folder / "long-range.png")
    assert (folder / "long-range.png").stat().st_size
