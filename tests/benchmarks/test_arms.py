"""Named arms: every one can be trained and evaluated, and the table says what the CSV holds."""

import json

import pytest

from benchmarks.arms import ARMS, run, table
from benchmarks.learning import append
from benchmarks.results import read_csv


@pytest.mark.parametrize("name", ["Mines, nothing declared", "Mines, positions without heading"])
def test_an_arm_trains_and_is_evaluated_wherever_it_says(name, tmp_path):
    row = run((name, 0), episodes=100, steps=4096)
    assert row["steps"] == 4096
    assert len(json.loads(row["transfer"])) == len(ARMS[name].transfer)
    append(tmp_path / "arms.csv", [row])
    assert name in table(read_csv(tmp_path / "arms.csv"))


def test_the_table_tells_every_seed_and_how_many_reached_95():
    row = {"arm": "Mines, declared", "cpu_seconds": "20", "transfer": "[0.5]"}
    rows = [row | {"success": "0.99", "steps_to_95": "200704"}, row | {"success": "0.9", "steps_to_95": ""}]
    assert "| .900 .990 | .500 | 200k to 200k, 1 of 2 | 20 |" in table(rows)
