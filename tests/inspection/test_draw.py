"""Pictures show the arrays: they follow permuted slots, hatch what is absent and say when a map means nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attn_rl import record_attention
from attn_rl.inspection import draw
from attn_rl.inspection.draw import gallery, scene, timeline
from attn_rl.inspection.draw.sheet import EFFECT, Sheet, number, shade, shorten, wrap
from attn_rl.inspection.measure.effects import measure
from attn_rl.inspection.measure.probe import worst_states
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.summary import compared, scalars, verdicts
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.scenes import Scenes


def probe_of(model, scenes: Scenes) -> ProbeRecord:
    actor = Actor(model)
    record = record_attention(actor, scenes.batch())
    effects = measure(actor, record)
    names = tuple(f"scene {i}" for i in range(len(scenes)))
    said = scalars(record, effects, scenes.relevant)
    return ProbeRecord(12, "Seek", record, scenes, effects, names, said, verdicts(record, effects))


@pytest.fixture(scope="module")
def probe(trained_match, match_scenes):
    return probe_of(trained_match, match_scenes)


def permuted(scenes: Scenes, order: np.ndarray) -> Scenes:
    obs = scenes.obs | {key: scenes.obs[key][:, order] for key in ("items", "items_present")}
    relevant = np.array([list(order).index(slot) for slot in scenes.relevant])
    return replace(scenes, obs=obs, positions=scenes.positions[:, order], relevant=relevant)


def test_the_overlay_follows_shuffled_slots(trained_match, match_scenes, probe):
    order = np.random.default_rng(3).permutation(9)
    shuffled = probe_of(trained_match, permuted(match_scenes, order))
    straight, crooked = draw.overlay(probe, [0, 1]), draw.overlay(shuffled, [0, 1])
    assert straight.shape == crooked.shape
    assert changed(straight, crooked) < 1e-4  # rounding moves a line by a shade at most
    wrong = draw.overlay(replace(shuffled, scenes=match_scenes), [0, 1])  # entities matched to the wrong places
    assert changed(straight, wrong) > 1e-3


def changed(a: np.ndarray, b: np.ndarray) -> float:
    """Share of colour values that differ visibly."""
    return float((np.abs(a.astype(int) - b.astype(int)) > 24).mean())


def test_absent_slots_are_hatched_and_present_ones_are_not(probe):
    table = draw.heads_by_entities(probe, [0])
    sparse = replace(probe, record=replace(probe.record, present=probe.record.present & (np.arange(10) < 3)))
    assert changed(table, draw.heads_by_entities(sparse, [0])) > 1e-2


def test_every_view_of_a_record_is_a_picture(probe):
    for picture in (
        draw.overlay(probe, range(2)),
        draw.heads_by_entities(probe, range(2)),
        draw.disagreements(probe),
    ):
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.std() > 5


def test_scenes_with_nobody_to_choose_from_are_drawn_only_for_want_of_others(probe):
    scenes = replace(probe.scenes, frame=[None if i == 4 else object() for i in range(len(probe.scenes))])
    present = probe.record.present.copy()
    present[[0, 2, 3], 2:] = False  # one entity beside the ego
    lonely = replace(probe, scenes=scenes, record=replace(probe.record, present=present))
    assert gallery.telling_states(probe, 3) == [0, 1, 2]
    assert gallery.telling_states(lonely, 3) == [1, 5, 6]
    nobody = replace(lonely, record=replace(probe.record, present=present & False))
    assert gallery.telling_states(nobody, 3) == [0, 1, 2]


def test_disagreements_are_the_worst_ones(probe):
    worst = worst_states(probe, 5)
    weights = probe.record.entity_map()
    weights = weights / weights.sum(-1, keepdims=True)
    effect = np.nan_to_num(probe.effects["absence_kl"])
    effect = effect / effect.sum(-1, keepdims=True)
    distance = np.abs(weights - effect).sum(-1)
    assert distance[worst].min() >= np.delete(distance, worst).max()


def test_the_caption_of_an_unused_map_is_red(probe):
    said = replace(probe, verdicts=["map not used by the policy (uniform_kl 0.0012 < 0.01 nats)"])
    rows = slice(-30, None)
    assert (draw.overlay(said, [0])[rows] == EFFECT).all(-1).any()
    assert not (draw.overlay(probe, [0])[rows] == EFFECT).all(-1).any()


def test_a_line_ends_where_the_entity_is(probe):
    """The strongest head's line is drawn between ego and entity and nowhere else."""
    state = 0
    panel = scene.mean_panel(probe)
    sheet = Sheet(200, 200)
    scene.draw_panel(sheet, replace(probe, scenes=_undrawn(probe.scenes)), state, panel, (0, 0), 200)
    best = int(np.argmax(probe.record.entity_map()[state]))
    x, y = probe.scenes.positions[state, best]
    halfway = sheet.pixels()[round(100 - 50 * y), round(100 + 50 * x)]
    assert np.abs(halfway.astype(int) - panel.colour).max() < 120
    opposite = sheet.pixels()[round(100 + 50 * y), round(100 - 50 * x)]
    assert np.abs(opposite.astype(int) - panel.colour).max() > 120


def _undrawn(scenes: Scenes) -> Scenes:
    return replace(scenes, frame=[None] * len(scenes))


def test_without_pictures_and_places_slots_are_named_and_numbers_stand_outside_the_circle(probe):
    scenes = _undrawn(probe.scenes)
    assert scene.slot_numbers(probe, [0]) == []
    assert scene.slot_numbers(replace(probe, scenes=scenes), [0]) == ["slots 0-8 items"]
    nowhere = replace(probe, scenes=replace(scenes, positions=np.full_like(scenes.positions, np.nan)))
    assert scene.slot_numbers(nowhere, [0]) == [
        "slots 0-8 items, in a circle because no entity_positions() says where they are"
    ]
    labels = ("ego", *(f"a {i}" for i in range(8)), "b 0")
    two = replace(nowhere, record=replace(nowhere.record, labels=labels))
    assert scene.slot_numbers(two, [0])[0].startswith("slots 0-7 a, 8 b, in a circle")
    places, _ = scene.layout(nowhere, 0)
    assert np.linalg.norm(places, axis=1).max() < 0.7  # which leaves room for numbers


def test_the_triangle_is_explained_only_where_there_is_one(probe):
    def has_triangles(shown):
        return bool((draw.overlay(shown, [0]) == scene.TARGET).all(-1).any())

    unknown = replace(probe, scenes=replace(probe.scenes, relevant=np.full_like(probe.scenes.relevant, -1)))
    assert has_triangles(probe)
    assert not has_triangles(unknown)


def played(probe: ProbeRecord, **changes) -> ProbeRecord:
    """The probe's scenes, taken for the steps of an episode."""
    record = replace(probe.record, **changes)
    return replace(probe, record=record, scenes=replace(probe.scenes, reward=np.zeros(len(probe.scenes))))


def test_the_strip_draws_continuous_actions_as_curves_and_names_several_types(probe):
    n = len(probe.scenes)
    discrete = draw.episode_strip(played(probe))
    means = np.linspace(-1, 1, 2 * n).reshape(n, 2).astype(np.float32)
    continuous = draw.episode_strip(played(probe, sizes=(), policy=np.hstack([means, means])))
    assert continuous.shape[0] == discrete.shape[0] + 2 * timeline.CURVE
    labels = ("ego", *(f"friends {i}" for i in range(5)), *(f"foes {i}" for i in range(4)))
    names = draw.episode_strip(played(probe, labels=labels))[:, discrete.shape[1] - timeline.MARGIN - 10 :]
    assert (names[44:200] != names[0, -1]).any()


def test_choices_too_wide_for_a_step_are_thinned_out(monkeypatch):
    said = []
    monkeypatch.setattr(Sheet, "text", lambda self, at, text, *rest: said.append(text))
    timeline._choices(Sheet(300, 30), ["1", "2", "3"], 10, 14)
    timeline._choices(Sheet(300, 30), ["1,2,3,4"] * 5, 10, 14)
    assert said[:4] == ["action", "1", "2", "3"]
    assert 1 < len(said[4:]) < 5


def test_captions_say_what_heads_compare(related_model, seek_scenes):
    probe = probe_of(related_model, seek_scenes)
    assert compared(probe.record).startswith("compares most: head 1: cue = colour, 10; head 2: ")
    silent = replace(probe, record=replace(probe.record, strengths=()))
    assert compared(silent.record) == ""
    assert [panel.note for panel in scene.head_panels(probe)] == ["cue = colour, 10"] * 4
    for view in (draw.overlay, draw.heads_by_entities):
        assert view(probe, [0]).shape[0] > view(silent, [0]).shape[0]
    assert shorten("cue = colour", 200, 9) == "cue = colour"
    assert shorten("cue = colour, and more of the same", 60, 9).endswith("…")


def test_small_print():
    assert [number(x) for x in (0.0, 0.004, 0.07, 0.834, 0.996, 3.24, 27.3, np.nan)] == [
        *(".00", "<.01", ".07", ".83", "1.0", "3.2", "27", "")
    ]
    assert shade(EFFECT, 1.0) == EFFECT
    assert wrap("one two three", 1, 10) == ["one", "two", "three"]
    assert wrap("one two three", 1000, 10) == ["one two three"]
