"""What the allocation benchmark measures: the situation, means per bin, and untrained attention as equal weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from attn_rl.envs.dodge import EGO_RADIUS, RADII, SPEEDS, STRIDE

from attn_rl import make_agent, make_vec_env
from benchmarks.allocation import Args, binned, main, time_to_contact, watch
from benchmarks.learning import Cell, append, model_path
from benchmarks.results import read_csv


def observed(dx: float, vx: float, radius: float) -> dict[str, np.ndarray]:
    """An ego at the origin whose goal is far to the east, and one disc on the way."""
    disc = [dx, 0, abs(dx), vx / SPEEDS[1], 0, radius / RADII[1]]
    return {"ego": np.array([[0, 0, 1.5, 0, 0]]), "items": np.array([[disc]])}


def test_the_time_to_contact_is_the_gap_over_the_closing_speed():
    for dx, vx in ((0.7, 0.0), (0.7, -0.02), (0.9, 0.03)):
        steps = time_to_contact(observed(dx, vx, radius=0.07), np.array([0]))
        np.testing.assert_allclose(steps, (dx - 0.07 - EGO_RADIUS) / (STRIDE - vx))


def test_a_disc_that_touches_already_is_met_at_once():
    assert time_to_contact(observed(0.05, 0.0, radius=0.07), np.array([0])) == 0


def test_bins_hold_means_and_empty_ones_are_left_out():
    columns = {"situation": np.array([0.1, 0.3, 2.5, 9.0]), "mass": np.array([0.2, 0.4, 0.9, 1.0])}
    rows = binned(columns, (0, 1, 2, 3))
    assert [(row["from"], row["to"], row["states"]) for row in rows] == [(0, 1, 2), (2, 3, 1)]
    np.testing.assert_allclose([row["mass"] for row in rows], [0.3, 0.9])


@pytest.mark.parametrize("environment", ["Seek", "Dodge"])
def test_untrained_attention_is_spread_evenly(environment: str):
    agent = make_agent(make_vec_env(f"AttnRL/{environment}-v0", 1), seed=0, relations="off")
    rows = watch(agent, environment, steps=5)
    assert sum(row["states"] for row in rows) > 100
    for row in rows:
        assert row["entropy"] > 0.9
        assert abs(row["mass"] - row["uniform"]) < 0.1


def test_the_agents_of_the_learning_benchmark_are_watched_and_plotted(tmp_path: Path):
    plots = pytest.importorskip("benchmarks.plots", reason="needs an extra: pip install 'attn_rl[bench]'")
    cell = Cell("Seek", "attention", 0, 0.005)
    make_agent(make_vec_env("AttnRL/Seek-v0", 3), seed=0).save(model_path(tmp_path, cell))
    append(tmp_path / "learning.csv", [vars(cell)])
    main(Args(models=tmp_path, results=tmp_path, steps=5))
    rows = read_csv(tmp_path / "allocation.csv")
    assert {row["policy"] for row in rows} == {"attention", "untrained, relations off"}
    plots.allocation(rows, tmp_path / "allocation.png")
    assert (tmp_path / "allocation.png").stat().st_size
