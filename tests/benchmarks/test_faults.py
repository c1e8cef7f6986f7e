"""A fast part of the campaign: run folders of strangers, and forged ones."""

import faulthandler
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from attn_rl.training.run.checkpoint import list_checkpoints, read_checkpoint
from benchmarks.campaign import forged, strangers

KINDS = ("class path in HighwayEnv's configuration", "linked event file")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strangers.honest_run(tmp_path_factory.mktemp("campaign"))


def test_nothing_of_a_strangers_folder_is_executed(tmp_path: Path):
    pytest.importorskip("highway_env")
    outcome = strangers.strangers(tmp_path, {kind: strangers.KINDS[kind] for kind in KINDS})
    assert outcome.remarks == [f"executed: 0 of {len(KINDS)} kinds, each in 4 ways"]
    assert outcome.passed == outcome.tried == len(KINDS)


def test_the_campaign_notices_what_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def careless(run: Path):
        return {"load": lambda: __import__(strangers.MODULE)}

    monkeypatch.setattr(strangers, "attempts", careless)
    outcome = strangers.strangers(tmp_path, {"module": (strangers.seek(), "")})
    assert outcome.remarks == ["module: EXECUTED", "executed: 1 of 1 kinds, each in 4 ways"]


def test_there_are_many_kinds():
    assert len(strangers.KINDS) >= 20


def test_forged_folders_are_refused_in_words_or_harmless(tmp_path: Path):
    outcome = forged.forged(tmp_path, np.random.default_rng(3), 3)
    assert outcome.passed == outcome.tried == 6, outcome.remarks


@pytest.mark.parametrize(
    ("attempt", "verdict"),
    [
        (lambda: None, "harmless"),
        (lambda: (_ for _ in ()).throw(ValueError("in words")), "refused: in words"),
        (lambda: (_ for _ in ()).throw(ValueError), "TRACEBACK: an error without words"),
        (lambda: 1 / 0, "TRACEBACK: ZeroDivisionError"),
        (lambda: (faulthandler.disable(), os.kill(os.getpid(), signal.SIGSEGV)), "CRASHED: signal 11"),
        (lambda: len(b"x" * (256 << 20)), "MEMORY: "),
    ],
)
def test_each_verdict_can_be_given(attempt, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forged, "attempts", lambda run: {"load": attempt})
    monkeypatch.setattr(forged, "MOST_MEMORY", 128 << 20)
    assert forged.in_own_process(tmp_path, "load").startswith(verdict)


def test_a_forgery_keeps_the_seal(honest: Path):
    rng = np.random.default_rng(0)
    path = list_checkpoints(honest)[0]
    for _ in range(5):
        forged.forged_state(honest, rng)
        read_checkpoint(path)
