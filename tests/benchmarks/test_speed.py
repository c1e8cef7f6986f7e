"""The speed benchmark measures what it says: every row trains on the same numbers, parts add up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import speed
from benchmarks.crowd import Crowd, batched, crowd, one_by_one

TINY = speed.Setting(n_envs=2, n_steps=6, batch_size=6, n_epochs=1, n_slots=5, n_features=3, d_model=8)


def test_crowd_presence_share() -> None:
    present = crowd(16, 8, 0.5, seed=0)[..., -1]
    assert present.mean() == pytest.approx(0.5, abs=0.02)
    assert len(np.unique(present.sum(1))) > 5
    assert present.std(0).min() > 0.4  # any slot may be the empty one
    assert crowd(16, 8, 1.0, seed=0)[..., -1].all()


def test_one_by_one_and_batched_end_episodes_alike() -> None:
    envs = one_by_one(1, 5, 3, 0.5), batched(1, 5, 3, 0.5)
    dones = []
    for env in envs:
        env.reset()
        dones.append([bool(env.step(np.zeros(1, int))[2][0]) for _ in range(60)])
    assert dones[0] == dones[1]
    assert sum(dones[0]) == 2


def test_crowd_is_a_sound_environment() -> None:
    env = Crowd(5, 3, 0.5, 0)
    obs, _ = env.reset()
    assert env.observation_space.contains(obs)


def test_every_row_trains_and_parts_add_up() -> None:
    results = speed.measure(list(speed.ROWS), TINY, rounds=1)
    for result in results.values():
        parts = result["rounds"][0]
        assert parts["total"] == pytest.approx(parts["rollout"] + parts["update"])
        assert 0 < parts["network"] + parts["environment"] + parts["optimiser"] < parts["total"]
        assert result["update_flops"] > 0
    text = speed.table(results, TINY, sgemm=1e9)
    assert text.count("\n") == len(speed.ROWS) + 1
    assert "1.00 (1.00 to 1.00)" in text


def test_ratio_pairs_rounds() -> None:
    results = {"a": {"rounds": [{"total": 2.0}, {"total": 4.0}]}, "b": {"rounds": [{"total": 1.0}, {"total": 1.0}]}}
    assert speed.ratio(results, "b", "a") == (3.0, 2.5, 3.5)


def test_backward_is_restored() -> None:
    plain = torch.autograd.backward
    with speed.Stopwatch().backward():
        assert torch.autograd.backward is not plain
    assert torch.autograd.backward is plain
