"""JSON out of a file, held against declared types."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from attn_rl.envs import NAMES
from attn_rl.training.family_presets import FAMILY_PRESETS
from attn_rl.training.presets import Preset, Settings, find_preset, read_preset
from attn_rl.training.run.json_form import WrongForm, fields_from_json, from_json


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (5, int, 5),
        (5, float, 5.0),
        (0.5, float, 0.5),
        (float("inf"), float, float("inf")),
        (True, bool, True),
        ("x", str, "x"),
        (None, int | None, None),
        ("a/b", Path | None, Path("a/b")),
        ("cue", Literal["cue", "odd"], "cue"),
        ([3, 5], tuple[int, ...], (3, 5)),
        ([3, "x"], tuple[int, str], (3, "x")),
        ([[1], []], list[list[int]], [[1], []]),
        ({"a": [1]}, dict[str, list[int]], {"a": [1]}),
        ({"pi": [1]}, Mapping[str, tuple[int, ...]] | tuple[int, ...], {"pi": (1,)}),
        ({"a": [None]}, Any, {"a": [None]}),
        (7, int | str | None, 7),
    ],
)
def test_values_of_the_declared_type_pass(value: Any, hint: Any, expected: Any):
    got = from_json(value, hint, "x")
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, int),
        (1, bool),
        (5.0, int),
        ("5", int),
        (None, int),
        (True, float),
        ("0.5", float),
        (float("nan"), float),
        pytest.param(10**400, float, id="huge"),
        (5, str),
        (5, Path),
        ("evil", Literal["cue", "odd"]),
        (1, Literal[True]),
        ([1, "x"], tuple[int, ...]),
        ([1], tuple[int, str]),
        ("ab", list[str]),
        ({"a": 1}, list[int]),
        ([1], dict[str, int]),
        ({"a": "x"}, dict[str, int]),
        ([], int | None),
    ],
)
def test_others_are_refused_by_name(value: Any, hint: Any):
    with pytest.raises(WrongForm, match=r"^some.name.* is .*; expected "):
        from_json(value, hint, "some.name")


def test_a_long_value_is_shortened():
    with pytest.raises(WrongForm) as refusal:
        from_json("a" * 10_000, int, "x")
    assert len(str(refusal.value)) < 200


OURS = [find_preset(f"AttnRL/{name}-v0") for name in NAMES]
PRESETS = OURS + [read_preset(data, name) for (_, name), data in FAMILY_PRESETS.items()]


@pytest.mark.parametrize("preset", PRESETS, ids=[*NAMES, *(name for _, name in FAMILY_PRESETS)])
@pytest.mark.parametrize("policy", ["attention", "deepsets", "flat"])
def test_all_presets_survive_json(preset: Preset, policy: str):
    settings = preset.settings(policy)
    stored = json.loads(json.dumps(vars(settings)))
    assert Settings(**fields_from_json(Settings, stored, "settings")) == settings
