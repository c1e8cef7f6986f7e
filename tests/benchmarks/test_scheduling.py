"""The benchmark on job shops: rules play published instances, and what is held is not trained again."""

import pytest
from attn_rl.envs.job_shop_instances import l2d_instances

from benchmarks.learning import append
from benchmarks.results import read_csv
from benchmarks.scheduling import Cell, key, optimum, play_rule, table


def test_rules_on_the_instances_of_l2d():
    """By index among ties: 543.54 and 538.57."""
    assert play_rule(l2d_instances(6, 6), "work").mean() == pytest.approx(543.54, abs=1.5)
    assert play_rule(l2d_instances(6, 6), "after").mean() == pytest.approx(538.57, abs=1.5)


def test_a_row_is_known_again_by_its_cell(tmp_path):
    cell = Cell("attention", "active", False, 8, 10, 256, 8, 1000, 16, 3)
    figures = {f"{name}_{size}": "" if size == 6 else 900.5 for name in ("greedy", "best") for size in (6, 10, 15)}
    figures |= {"greedy_taillard_gap": 0.15, "best_taillard_gap": 0.1}
    append(tmp_path / "some.csv", [{**cell._asdict(), "cpu_seconds": 7, "parameters": 99, **figures}])
    rows = read_csv(tmp_path / "some.csv")
    assert [key(row) for row in rows] == [cell]
    assert (
        "| 8 | 10 x 10 | 256 | 8 | 1,000 | 99 | 7 | – / – | 900.5 / 900.5 | 900.5 / 900.5 | 15.0 / 10.0 | 16 | 1 |"
        in table(rows)
    )


def test_cp_sat_finds_an_optimum_by_hand():
    """Two jobs that begin on one machine: 8, see tests/envs/test_jobshop.py."""
    pytest.importorskip("ortools")
    instances = l2d_instances(2, 2, count=1)
    instances.duration[0], instances.machine[0] = [[3, 2], [2, 4]], [[0, 1], [0, 1]]
    assert optimum(instances.duration[0], instances.machine[0], 10) == (8, True)
