"""The stepping benchmark runs and measures both sides."""

from __future__ import annotations

from benchmarks.stepping import measure


def test_both_sides_are_measured():
    batch, single = measure("AttnRL/Match-v0", n_envs=3, rounds=1, seconds=0.02)
    assert batch > 0
    assert single > 0
