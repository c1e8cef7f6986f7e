"""A picture or a counterfactual of one's own: one entry in a registry, and all that shows records shows it."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attn_rl import AttentionCallback, DeepSetsExtractor, record_attention
from attn_rl.inspection.draw import VIEWS, heads_by_entities, named_views, pictures
from attn_rl.inspection.draw.sheet import ATTENTION, EFFECT, HEADS, POINTER, TARGET, WEIGHTED
from attn_rl.inspection.measure.effects import EFFECTS, Effects, measure
from attn_rl.inspection.measure.older_records import FIRST_EFFECTS
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.record_file import record_path
from attn_rl.inspection.measure.summary import scalars, verdicts
from attn_rl.inspection.measure.variants import compare
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.tensorboard.page import data
from tests.inspection.conftest import TypedBandit, make_ppo, single_env
from tests.inspection.test_probe_record import rewritten
from tests.inspection.test_viewer import in_node, needs_node

SEEK = "AttnRL/Seek-v0"


def sharpest_kl(actor, record):
    """Every head looks at its largest weight alone."""

    def edit(layer, pattern, rows):
        return (pattern == pattern.amax(-1, keepdim=True)).to(pattern)

    return compare(actor, record, np.arange(len(record.present)), edit=edit)[0]


def halves_kl(actor, record):
    return np.where(record.slot_present, np.float32(0.5), np.float32(np.nan))


def grey(probe):
    return np.full((7, 11, 3), 128, np.uint8)


def film(probe):
    return np.stack([np.full((5, 3, 3), shade, np.uint8) for shade in (0, 90, 180)])


@pytest.fixture
def own_effects(monkeypatch):
    monkeypatch.setitem(EFFECTS, "sharpest_kl", sharpest_kl)
    monkeypatch.setitem(EFFECTS, "halves_kl", halves_kl)


def probe_of(model, scenes) -> ProbeRecord:
    actor = Actor(model)
    record = record_attention(actor, scenes.batch())
    effects = measure(actor, record)
    found = scalars(record, effects, scenes.relevant)
    names = tuple(f"scene {i}" for i in range(len(scenes)))
    return ProbeRecord(35, "Seek-v0", record, scenes, effects, names, found, verdicts(record, effects))


# ---- counterfactuals ---------------------------------------------------------------------------------------------


def test_a_counterfactual_of_ones_own_reaches_summary_file_pictures_and_page(
    own_effects, seek_model, seek_scenes, tmp_path
):
    probe = probe_of(seek_model, seek_scenes)
    assert probe.scalars["attention/sharpest_kl"] == pytest.approx(probe.effects["sharpest_kl"].mean())
    assert probe.scalars["attention/halves_kl"] == 0.5
    assert 0 <= probe.scalars["attention/agreement_halves"] <= 1
    probe.save(record_path(tmp_path, 35))
    back = ProbeRecord.load(record_path(tmp_path, 35))
    np.testing.assert_array_equal(back.effects["sharpest_kl"], probe.effects["sharpest_kl"])
    fewer = Effects({name: array for name, array in probe.effects.items() if name != "halves_kl"})
    assert heads_by_entities(probe, [0]).shape[0] > heads_by_entities(replace(probe, effects=fewer), [0]).shape[0]
    page = data.read_record(tmp_path, 35)
    assert page["effects"]["halves_kl"] == "halves effect"
    assert len(page["states"]["sharpest_kl"]) == 13


@needs_node
def test_the_page_offers_what_the_record_holds(own_effects, seek_model, seek_scenes, tmp_path):
    probe = probe_of(seek_model, seek_scenes)
    probe.save(record_path(tmp_path, 35))
    page = data.read_record(tmp_path, 35)
    assert in_node(tmp_path, page, "viewer.choices(record)")[0][-3:] == [
        ["absence_kl", "absence effect"],
        ["content_kl", "content effect"],
        ["halves_kl", "halves effect"],
    ]
    shown = in_node(tmp_path, page, 'viewer.quantity({ record }, state, "absence_kl", 0)')
    np.testing.assert_allclose(np.array(shown, float), probe.effects["absence_kl"], atol=1e-4)


def test_an_effect_that_does_not_apply_is_missing(seek_scenes):
    model = make_ppo(SEEK, {"features_extractor_class": DeepSetsExtractor})
    assert list(probe_of(model, seek_scenes).effects) == ["absence_kl", "absence_value"]


@pytest.mark.parametrize("missing", ["absence_kl", "content_kl", "uniform_kl", "drop_head_kl", "gradient", "curves"])
def test_a_record_without_one_effect_and_with_an_unknown_array_loads_and_is_shown(
    missing, deep_model, seek_scenes, tmp_path
):
    path, written = record_path(tmp_path, 35), probe_of(deep_model, seek_scenes)
    written.save(path)

    def other_version(arrays, meta):
        del arrays[missing]
        arrays["from_the_future"] = np.zeros(3)

    rewritten(path, other_version)
    probe = ProbeRecord.load(path)
    assert set(probe.effects) == set(written.effects) - {missing}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {"attention/scenes", "attention/heads_by_entities", "attention/layers"} <= set(pictures(probe))
    assert scalars(probe.record, probe.effects, probe.scenes.relevant)
    assert verdicts(probe.record, probe.effects) is not None
    page = json.loads(json.dumps(data.read_record(tmp_path, 35), allow_nan=False))
    assert missing not in page["effects"]


def test_a_record_that_lists_no_effects_holds_the_first_ones(deep_model, seek_scenes, tmp_path):
    path = record_path(tmp_path, 35)
    probe = probe_of(deep_model, seek_scenes)
    probe.save(path)
    rewritten(path, lambda arrays, meta: meta.pop("effects"))
    back = ProbeRecord.load(path)
    assert set(back.effects) == set(FIRST_EFFECTS)
    np.testing.assert_array_equal(back.effects["curves"], probe.effects["curves"])
    assert data.read_record(tmp_path, 35)["effects"]["absence_kl"] == "absence effect"


def test_an_effect_of_the_wrong_shape_or_name_is_refused(monkeypatch, seek_model, seek_scenes, tmp_path):
    monkeypatch.setitem(EFFECTS, "value", lambda actor, record: record.value)
    with pytest.raises(ValueError, match="effect 'value' has the name of an array of the record file"):
        probe_of(seek_model, seek_scenes).save(tmp_path / "probe.npz")
    monkeypatch.setitem(EFFECTS, "short_kl", lambda actor, record: np.zeros(3))
    with pytest.raises(ValueError, match=r"effect 'short_kl' has shape \(3,\), expected one row for each of the 13"):
        probe_of(seek_model, seek_scenes)


# ---- pictures ----------------------------------------------------------------------------------------------------


def test_pictures_of_ones_own_go_to_tensorboard(tmp_path):
    model = make_ppo(SEEK)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    callback = AttentionCallback(single_env(SEEK), views=["scenes", grey, film], n_scenes=2, n_pictures=1)
    model.learn(35, callback=callback)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["images"]) == {"attention/scenes", "attention/grey", "attention/film"}
    shown = Image.open(io.BytesIO(events.Images("attention/grey")[0].encoded_image_string))
    np.testing.assert_array_equal(np.asarray(shown), grey(None))
    frames = Image.open(io.BytesIO(events.Images("attention/film")[0].encoded_image_string))
    assert (frames.format, frames.n_frames, frames.size) == ("GIF", 3, (3, 5))


def test_no_pictures_at_all_and_all_of_them():
    assert named_views([]) == {}
    assert named_views() == VIEWS


@pytest.mark.parametrize(
    ("views", "error", "message"),
    [
        (["scnes"], ValueError, "'scnes' is unknown; choose from"),
        ([lambda probe: None], ValueError, "has no name for its tag"),
        ([grey, grey], ValueError, "'grey' is there twice"),
        ([7], TypeError, "got 7, expected names from"),
        ("scenes", ValueError, "'s' is unknown"),
    ],
)
def test_wrong_views_are_refused_at_construction(views, error, message):
    with pytest.raises(error, match=message):
        AttentionCallback(TypedBandit(), views=views)


def broken(probe):
    raise RuntimeError("no paint")


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (broken, "RuntimeError: no paint"),
        (lambda probe: np.zeros((5, 5)), r"ValueError: got float64 of shape \(5, 5\), expected uint8"),
    ],
)
def test_a_picture_that_fails_is_left_out_with_a_warning(view, why, seek_model, seek_scenes):
    probe = probe_of(seek_model, seek_scenes)
    with pytest.warns(UserWarning, match=f"the picture 'mine' of step 35 is left out: {why}"):
        drawn = pictures(probe, {"mine": view, "scenes": VIEWS["scenes"]})
    assert list(drawn) == ["attention/scenes"]


@needs_node
def test_pictures_and_page_share_one_palette(tmp_path):
    page = in_node(tmp_path, {"states": {"scene": [0]}}, "viewer.PALETTE")[0]
    ours = {"attention": ATTENTION, "weighted": WEIGHTED, "effect": EFFECT, "pointer": POINTER, "target": TARGET}
    assert page == {name: _hex(colour) for name, colour in ours.items()} | {"heads": [_hex(c) for c in HEADS]}


def _hex(colour) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)
