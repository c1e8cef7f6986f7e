"""Records survive the disk unchanged and without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attn_rl import record_attention
from attn_rl.inspection.measure.effects import measure
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.record_file import record_path, record_paths
from attn_rl.inspection.measure.record_format import LAYER_ARRAYS
from attn_rl.inspection.measure.summary import scalars, verdicts
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.tensorboard.page import data
from tests.inspection.conftest import make_ppo


@pytest.fixture(params=["deep_model", "related_model"])
def probe(request, seek_scenes) -> ProbeRecord:
    actor = Actor(request.getfixturevalue(request.param))
    record = record_attention(actor, seek_scenes.batch())
    effects = measure(actor, record)
    names = tuple(f"scene {i}" for i in range(13))
    found = scalars(record, effects, seek_scenes.relevant)
    return ProbeRecord(35, "Seek-v0", record, seek_scenes, effects, names, found, verdicts(record, effects))


def test_round_trip(probe, tmp_path):
    path = record_path(tmp_path, probe.step)
    probe.save(path)
    back = ProbeRecord.load(path)
    assert record_paths(tmp_path) == [path]
    assert [p.name for p in path.parent.iterdir()] == ["000000000035.npz"]
    for name in ("step", "env", "scene_names", "scalars", "verdicts"):
        assert getattr(back, name) == getattr(probe, name)
    assert list(back.effects) == list(probe.effects)
    for name, array in probe.effects.items():
        np.testing.assert_array_equal(back.effects[name], array)
    for before, after in zip(probe.record.layers, back.record.layers, strict=True):
        for name in LAYER_ARRAYS:
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert back.record.labels == probe.record.labels
    assert back.record.strengths == probe.record.strengths
    assert back.record.feature_names == probe.record.feature_names
    assert set(back.record.obs) == set(probe.record.obs)
    np.testing.assert_array_equal(back.scenes.positions, probe.scenes.positions)
    for before, after in zip(probe.scenes.frame, back.scenes.frame, strict=True):
        assert (before is None and after is None) or np.array_equal(before.pixels, after.pixels)


def test_a_record_takes_the_place_of_nothing_but_a_file(probe, tmp_path):
    (tmp_path / "link.npz").symlink_to(os.devnull)
    with pytest.raises(ValueError, match=r"link\.npz is a link; expected a new file, or a regular one to replace"):
        probe.save(tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink()


def test_a_viewer_needs_nothing_but_numpy_and_json(probe, tmp_path):
    probe.save(tmp_path / "probe.npz")
    with np.load(tmp_path / "probe.npz", allow_pickle=False) as file:
        start = file["png_start"]
        first = file["png"][start[0] : start[1]].tobytes()
        assert first.startswith(b"\x89PNG")
        assert start[2] == start[-1]  # two pictures, the others empty
        assert {file[key].dtype.kind for key in file.files} <= set("fiubU")


def test_a_foreign_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="expected 1"):
        ProbeRecord.load(tmp_path / "other.npz")


def rewritten(path: Path, change: Callable[[dict, dict], None]) -> None:
    """Change the arrays and the description of a record file, as another version would have written it."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays["meta"]))
    change(arrays, meta)
    np.savez(path, **arrays | {"meta": np.array(json.dumps(meta))})


@pytest.mark.parametrize("readout", ["ego", "mean"])
def test_an_older_record_that_names_its_reader_shows_the_same_map(readout, seek_scenes, tmp_path):
    model = make_ppo("AttnRL/Seek-v0", {"features_extractor_kwargs": {"readout": readout}})
    path = record_path(tmp_path, 35)
    record = record_attention(model, seek_scenes.batch())
    ProbeRecord(35, "", record, seek_scenes, measure(Actor(model), record), ("",) * 13, {}, []).save(path)

    def older(arrays, meta):
        del arrays["readout_rows"]
        meta["reader"] = {"ego": 0, "mean": -1}[readout]

    rewritten(path, older)
    np.testing.assert_array_equal(ProbeRecord.load(path).record.readout(), record.readout())
    shown = np.array(data.read_record(tmp_path, 35)["states"]["readout_rows"])
    np.testing.assert_allclose(shown, record.readout_rows, atol=0.5e-4)
