"""A sweep changes one size and nothing else."""

from dataclasses import asdict

import pytest

from benchmarks import sweeps
from tests.benchmarks.test_speed import TINY


@pytest.mark.parametrize(("axis", "value"), [(axis, value) for axis in sweeps.AXES for value in sweeps.AXES[axis]])
def test_one_size_changes_and_the_rollout_keeps_its_length(axis, value):
    large, changed = asdict(sweeps.SETTINGS["large"]), asdict(sweeps.setting_of(axis, value))
    assert changed[axis] == value
    assert changed["n_envs"] * changed["n_steps"] == large["n_envs"] * large["n_steps"]
    assert {name for name in large if changed[name] != large[name]} <= {axis, "n_steps"}


def test_a_line_holds_every_row_and_leaves_the_dear_one_out_of_many_slots(monkeypatch):
    monkeypatch.setitem(sweeps.SETTINGS, "large", TINY)
    cells = sweeps.line("n_slots", 3, 1).split(" | ")
    assert cells[0] == "| 3"
    assert all(float(cell.replace(",", "")) > 0 for cell in cells[1:5])
    monkeypatch.setattr(sweeps, "MOST_SLOTS", 2)
    assert sweeps.line("n_slots", 3, 1).split(" | ")[4:] == ["–", "– |"]
