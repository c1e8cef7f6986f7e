"""The table of drivers says what the rows say, and all drivers play the same episodes."""

import json

import numpy as np
import pytest

from benchmarks.driving import driving_table, idle, make_roads, missing, play


def row(policy: str, seed: int, steps: int, crashed: list[float]) -> dict[str, str]:
    return {
        "environment": "highway-fast-v0",
        "policy": policy,
        "seed": str(seed),
        "steps": str(steps),
        "parameters": "1700",
        "cpu_seconds": "23",
        "success": json.dumps([1.0 - c for c in crashed]),
        "crashed": json.dumps(crashed),
        "ret": json.dumps([9.0 - 9 * c for c in crashed]),
    }


def test_seeds_are_averaged_and_compared_with_idle_episode_by_episode():
    rows = [
        row("IDLE", 0, 0, [1, 1, 0, 0]),
        row("attention", 0, 10240, [0, 0, 0, 0]),
        row("attention", 1, 10240, [1, 1, 0, 0]),
    ]
    idle, attention = driving_table(rows).splitlines()[2:]
    assert idle == "| highway-fast-v0 | IDLE | – | – | – | 1 x 4 | 0.50 ± 0.29 | 0.50 ± 0.29 | 4.50 ± 2.60 | – | – |"
    assert attention.startswith(
        "| highway-fast-v0 | attention | 10,240 | 1,700 | 23 | 2 x 4 | 0.75 ± 0.14 (1.00, 0.50)"
    )
    assert attention.endswith("| -0.25 ± 0.14 (-0.50, 0.00) | 2.25 ± 1.30 (4.50, 0.00) |")


def test_what_is_there_after_as_many_steps_is_not_run_again():
    pytest.importorskip("highway_env")
    cells = [("highway-fast-v0", policy, seed) for policy in ("IDLE", "attention") for seed in (0, 1)]
    held = [row("IDLE", 0, 0, [1]), row("attention", 0, 10240, [0])]
    assert missing(cells, 10_000, held) == [cells[1], cells[3]]  # 10,000 steps are 40 rollouts of 256
    assert missing(cells, 20_000, held) == cells[1:]


def test_every_episode_has_a_seed_of_its_own():
    pytest.importorskip("highway_env")
    env_id = "highway_env:highway-fast-v0"
    once, again = (play(make_roads(env_id, n, 7), idle(env_id, n)) for n in (3, 2))
    assert again["ret"] == once["ret"][:2]
    assert len(set(once["ret"])) > 1
    assert not np.isnan(once["crashed"]).any()
