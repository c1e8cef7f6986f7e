"""Training in Intersection-v0, judging there and in HighwayEnv: what is missing, the table, a whole small run."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.intersection import SIMULATORS, make_games, missing, run, setting, table, traffic
from benchmarks.intersection_ceiling import search


def asked(**changed) -> argparse.Namespace:
    given = {
        "policies": ["IDLE", "attention"],
        "steps": 64,
        "seeds": 2,
        "first_seed": 0,
        "episodes": 2,
        "simulators": list(SIMULATORS),
    }
    return argparse.Namespace(**{**given, "densities": [1.0], "set": {}, "agents": None, **changed})


def row(policy: str, simulator: str, ret: float, seed: int = 0) -> dict[str, str]:
    steps, settings = ("64", "") if policy == "attention" else ("0", "")
    told = {"policy": policy, "settings": settings, "seed": str(seed), "steps": steps, "cpu_seconds": "3"}
    judged = {"simulator": simulator, "density": "1.0", "episodes": "2"}
    return told | judged | {"success": "[1.0, 0.0]", "crashed": "[0.0, 1.0]", "ret": json.dumps([ret, ret + 1])}


def test_traffic_gets_denser_up_to_certainty():
    assert traffic(1) == {"initial_vehicle_count": 10, "spawn_probability": 0.6}
    assert traffic(2) == {"initial_vehicle_count": 20, "spawn_probability": 1.0}


def test_only_what_no_row_holds_is_missing():
    assert missing(asked(), []) == [("IDLE", 0), ("attention", 0), ("attention", 1)]
    held = [row(policy, simulator, 1.0) for policy in ("IDLE", "attention") for simulator in SIMULATORS]
    assert missing(asked(), held) == [("attention", 1)]
    assert missing(asked(), held[:3]) == [("attention", 0), ("attention", 1)]
    assert missing(asked(seeds=1, set={"learning_rate": 0.001}), held) == [("attention", 0)]


def test_the_table_compares_with_idle_in_the_same_simulator():
    rows = [row("IDLE", "intersection-v2", 1.0), row("attention", "intersection-v2", 3.0)]
    rows += [row("attention", "intersection-v2", 4.0, seed=1), row("IDLE", "Intersection-v0", 7.0)]
    lines = table(rows).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["Intersection-v0", "intersection-v2", "intersection-v2"]
    assert "2.50 ± 0.00 (2.00, 3.00)" in lines[2]
    assert "2 x 2" in lines[2]


def test_a_setting_is_a_name_and_a_value():
    assert setting("learning_rate=1e-3") == ("learning_rate", 0.001)


def test_a_small_run_trains_judges_and_saves(tmp_path: Path):
    pytest.importorskip("highway_env", reason="needs an extra: pip install 'attn_rl[highway]'")
    rows = run(asked(simulators=["Intersection-v0"], densities=[1.0, 2.0], agents=tmp_path), "attention", 0)
    assert [(r["simulator"], r["density"], len(json.loads(r["ret"]))) for r in rows] == [
        ("Intersection-v0", 1.0, 2),
        ("Intersection-v0", 2.0, 2),
    ]
    assert (tmp_path / "attention____64__0.zip").exists()
    again = run(asked(simulators=["Intersection-v0"], densities=[1.0, 2.0], agents=tmp_path), "attention", 0)
    assert again == rows  # judged again, not trained: the seconds are the same
    stock = run(asked(simulators=["Intersection-v0"], set={"n_epochs": 1, "batch_size": 2048}), "MultiInputPolicy", 0)
    assert [r["settings"] for r in stock] == ["n_epochs=1 batch_size=2048"]
    for name in ("IDLE", "random", "cautious"):
        (told,) = run(asked(simulators=["Intersection-v0"]), name, 0)
        assert np.isfinite(json.loads(told["ret"])).all()


def test_both_simulators_show_the_same():
    pytest.importorskip("highway_env", reason="needs an extra: pip install 'attn_rl[highway]'")
    for intentions in (False, True):
        ours, theirs = (make_games(simulator, 1.0, 1, intentions) for simulator in SIMULATORS)
        assert ours.observation_space == theirs.observation_space
        assert ours.get_attr("metadata")[0]["entities"] == theirs.get_attr("metadata")[0]["entities"]


def test_a_search_is_no_worse_than_a_driver_that_it_contains():
    arrives, survives, best = search(seed=3, width=3, density=1.0)
    assert survives or not arrives
    assert best > -5
