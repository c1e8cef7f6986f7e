"""Sweeps on Optuna go on where a kill left them."""

from pathlib import Path

import pytest

pytest.importorskip("optuna")

from attn_rl.training.tune import on_optuna
from attn_rl.training.tune.space import LogRange
from attn_rl.training.tune.trial import Stopped, Sweep

SPACE = {"learning_rate": LogRange(1e-4, 1e-1), "n_heads": (1, 2)}


def sweep(folder: Path, n_trials: int) -> list:
    return on_optuna.sweep_on_optuna(Sweep("AttnRL/Match-v0"), SPACE, n_trials, 1, folder)


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Settings of the trials that were run. The third is interrupted, every other pruned."""
    seen: list[dict] = []

    def trial(sweep, changes, number, report):
        seen.append(changes)
        if len(seen) == 3:
            raise KeyboardInterrupt
        if len(seen) % 2 == 0:
            raise Stopped
        return changes["learning_rate"]

    monkeypatch.setattr(on_optuna, "run_trial", trial)
    return seen


def test_a_killed_sweep_goes_on_with_the_trial_that_was_cut_off(tmp_path: Path, numbers: list[dict]):
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path, 6)
    assert len(numbers) == 3
    found = sweep(tmp_path, 6)
    assert numbers[3] == numbers[2]
    assert len(numbers) == 7  # six that ended, and the one that was cut off
    assert sorted(score for _, score in found) == sorted(c["learning_rate"] for c in numbers[::2] if c != numbers[2])
    sweep(tmp_path, 6)
    assert len(numbers) == 7  # nothing is left to do
