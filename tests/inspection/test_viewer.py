"""The viewer's arithmetic, run in Node: the page shows the numbers that the record holds."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn_rl import record_attention
from attn_rl.inspection.measure.effects import measure
from attn_rl.inspection.measure.metrics import UNUSED_BELOW
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.record_file import record_path
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.tensorboard.page import data
from tests.inspection.conftest import make_ppo

NODE = shutil.which("node")
VIEWER = Path(data.__file__).parent / "viewer.js"
needs_node = pytest.mark.skipif(NODE is None, reason="no node on this machine: install Node.js to run these tests")


def in_node(folder: Path, record: dict[str, Any], expression: str) -> Any:
    """Value of an expression over ``record`` and the functions of the viewer, for every ``state``."""
    shutil.copy(VIEWER, folder / "viewer.mjs")
    (folder / "record.json").write_text(json.dumps(record, allow_nan=False))
    (folder / "run.mjs").write_text(
        'import { readFileSync } from "node:fs";\nimport * as viewer from "./viewer.mjs";\n'
        'const record = JSON.parse(readFileSync("record.json", "utf8"));\n'
        f"const found = record.states.scene.map((_, state) => {expression});\n"
        "console.log(JSON.stringify(found));\n"
    )
    done = subprocess.run([str(NODE), "run.mjs"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def saved(folder: Path, model, scenes) -> tuple[ProbeRecord, dict[str, Any]]:
    """A record of a model, and what the page reads of it."""
    actor = Actor(model)
    record = record_attention(actor, scenes.batch())
    names = tuple(f"scene {i}" for i in range(len(scenes)))
    probe = ProbeRecord(35, "Seek-v0", record, scenes, measure(actor, record), names, {}, [])
    probe.save(record_path(folder, 35))
    return probe, data.read_record(folder, 35)


@needs_node
def test_an_effect_too_small_to_count_is_not_drawn_in_full_colour(seek_model, seek_scenes, tmp_path):
    probe, record = saved(tmp_path, seek_model, seek_scenes)
    tiny = np.nanmax(probe.effects["absence_kl"], 1)
    assert tiny.max() < UNUSED_BELOW  # an untrained policy reacts to nothing
    for kind, expected in (("absence_kl", UNUSED_BELOW), ("mean", 1)):
        scale = f'viewer.fullColour(record, "{kind}", viewer.quantity({{ record }}, state, "{kind}", 0))'
        assert in_node(tmp_path, record, scale) == [expected] * 13


@needs_node
@pytest.mark.parametrize("readout", ["mean", "max", "ego", "learned"])
def test_the_page_shows_the_same_map_as_the_record(readout, seek_scenes, tmp_path):
    """A pooled readout reads the present rows alone: absent ones hold weights too, which nobody reads."""
    model = make_ppo("AttnRL/Seek-v0", {"features_extractor_kwargs": {"readout": readout, "n_layers": 2}})
    with torch.no_grad():
        model.policy.features_extractor.network.encoder.blocks[-1].attention.w_q.weight.mul_(20)  # maps of character
    probe, record = saved(tmp_path, model, seek_scenes)
    present = probe.record.slot_present
    assert not present.all()
    for kind, expected in (("mean", probe.record.entity_map()), ("1", probe.record.readout()[:, 1, -8:])):
        found = in_node(tmp_path, record, f'viewer.quantity({{ record }}, state, "{kind}", 1)')
        shown = np.array(found, float)
        assert np.array_equal(np.isnan(shown), ~present)
        np.testing.assert_allclose(shown[present], expected[present], atol=2e-4)
