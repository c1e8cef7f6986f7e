"""A history out of a checkpoint is one that could have been recorded."""

import json
from typing import Any

import numpy as np
import pytest

from attn_rl.inspection.measure.history import N_BINS, History


def state() -> dict[str, Any]:
    history = History(
        steps=[0, 7],
        mass=[{"ego": 0.25, "items": 0.75}, {"ego": 0.5, "items": 0.5}],
        edges=[float(i) for i in range(N_BINS + 1)],
        by_feature=[np.ones(N_BINS), np.full(N_BINS, np.nan)],
    )
    return json.loads(json.dumps(history.get_state()))


def test_what_was_told_comes_back():
    again = History.from_state(state())
    assert json.dumps(again.get_state()) == json.dumps(state())
    assert History.from_state(History().get_state()) == History()


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": [0]},
        {"steps": ["x", 7]},
        {"steps": "ab"},
        {"mass": None},
        {"mass": [1, 2]},
        {"mass": [{"ego": "x"}, {}]},
        {"edges": [1.0]},
        {"edges": ["x"] * (N_BINS + 1)},
        {"by_feature": [[1.0]]},
        {"by_feature": [["x"] * N_BINS]},
        {"by_feature": [[1.0] * N_BINS] * 3},
        {"feature": 5},
        {"more": 1},
    ],
)
def test_others_are_refused(changes: dict[str, Any]):
    with pytest.raises(ValueError, match="history of attention is none"):
        History.from_state(state() | changes)
