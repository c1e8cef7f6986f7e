"""The benchmark on tours: rules come near to what others report of them, and what is held is not trained again."""

import pytest

from benchmarks.learning import append
from benchmarks.results import read_csv
from benchmarks.routing import Cell, key, rules, table


def test_rules_on_published_cities():
    """Of all 10,000, Kool et al. report 4.50 and 7.00 for the nearest neighbour, 3.93 and 6.01 for the insertion."""
    found = rules(100)
    assert found["nearest neighbour"] == pytest.approx([4.50, 7.00], abs=0.15)
    assert found["farthest insertion"] == pytest.approx([3.93, 6.01], abs=0.1)


def test_a_row_is_known_again_by_its_cell(tmp_path):
    cell = Cell("attention", 8, 20, 1000, 32, 3)
    figures = {f"{way}_{n}": 4.032 for way in ("greedy", "best", "symmetric") for n in (20, 50)}
    append(tmp_path / "some.csv", [{**cell._asdict(), "cpu_seconds": 7, "parameters": 99, **figures}])
    rows = read_csv(tmp_path / "some.csv")
    assert [key(row) for row in rows] == [cell]
    assert "| attention, 20 cities, 1,000 steps, baseline of 8: best | 7 | 4.032 (5.0%) | 4.032 (-29.3%) |" in table(
        rows
    )
