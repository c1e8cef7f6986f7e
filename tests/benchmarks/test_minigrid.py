"""The table of MiniGrid says what the rows say; agents are trained once, and score within bounds."""

import csv
from argparse import Namespace

import pytest

pytest.importorskip("minigrid", reason="needs an extra: pip install 'attn_rl[minigrid]'")

from benchmarks import minigrid
from benchmarks.minigrid import KEYS, full_id, main, minigrid_table


def row(seed: int, success: float, policy: str = "attention") -> dict[str, str]:
    figures = {"seconds": "9", "cpu_seconds": "7", "parameters": "29912", "success": str(success), "mean_return": "0.4"}
    return dict(zip(KEYS, ("GoToDoor-5x5", policy, str(seed), "300000"), strict=True)) | figures


def test_seeds_share_a_line():
    first, second = minigrid_table([row(0, 0.9), row(1, 0.8), row(0, 0.5, "mlp")]).splitlines()[2:]
    assert first == "| GoToDoor-5x5 | attention | 300,000 | 2 | 0.850 (0.900, 0.800) | 29,912 | 7 |"
    assert second.startswith("| GoToDoor-5x5 | mlp | 300,000 | 1 | 0.500 |")


def test_names_become_ids():
    assert full_id("GoToDoor-5x5") == "minigrid:MiniGrid-GoToDoor-5x5-v0"
    assert full_id("BabyAI-GoToLocal") == "minigrid:BabyAI-GoToLocal-v0"


def test_what_is_there_is_not_trained_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(minigrid, "EPISODES", 2)
    monkeypatch.setattr(minigrid, "N_ENVS", 2)
    arguments = Namespace(
        envs=["GoToDoor-5x5"], policies=["raw-advantages", "mlp"], steps=100, seeds=1, out=tmp_path / "minigrid.csv"
    )
    main(arguments)
    rows = list(csv.DictReader(arguments.out.open()))
    assert [(r["policy"], r["steps"]) for r in rows] == [("raw-advantages", "100"), ("mlp", "100")]
    assert all(0 <= float(r["success"]) <= 1 for r in rows)
    monkeypatch.setattr(minigrid, "run", lambda *cell: pytest.fail("trained again"))
    main(arguments)
    assert "raw-advantages" in capsys.readouterr().out
