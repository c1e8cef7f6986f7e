"""Watching changes nothing, and what is read back is what was recorded."""

from __future__ import annotations

import io
import itertools
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attn_rl import (
    AttentionCallback,
    DeepSetsExtractor,
    EntityAttentionExtractor,
    EntityAttentionPolicy,
    load,
    make_vec_env,
)
from attn_rl import record_attention as record
from attn_rl.backends.kernels.acting import ActingProgram
from attn_rl.inspection import draw
from attn_rl.inspection.measure.history import History
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.record_file import record_paths
from attn_rl.inspection.record.scenes import PROBE_SEED
from attn_rl.inspection.tensorboard.writer import LAYOUT
from attn_rl.sb3 import extractor
from tests.inspection.conftest import TypedBandit, make_ppo, single_env

SEEK = "AttnRL/Seek-v0"
ROLLOUT = 7 * 5


def watched(folder: Path, model: PPO | None = None, total: int = 5 * ROLLOUT, **callback) -> PPO:
    model = model or make_ppo(SEEK, {"features_extractor_kwargs": {"n_layers": 2}})
    model.set_logger(configure(str(folder), ["tensorboard"]))
    settings = {"gamma": 0.95, "net_arch": [64]}
    callback = {"every": 2, "n_scenes": 5, "n_pictures": 3, "settings": settings} | callback
    return model.learn(total, callback=AttentionCallback(single_env(SEEK), folder, **callback))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    watched(folder).save(folder / "model.zip")
    return folder


@pytest.fixture(scope="module")
def events(run) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()


def test_watching_changes_no_bit_of_training(tmp_path):
    def fingerprint(model: PPO) -> list:
        tensors = [*model.policy.state_dict().values()]
        for state in model.policy.optimizer.state_dict()["state"].values():
            tensors += list(state.values())
        streams = [torch.rand(3), np.random.rand(3), model.action_space.sample(), model.env.reset()["items"]]
        return [np.asarray(x) for x in tensors + streams]

    plain = fingerprint(make_ppo(SEEK, {"features_extractor_kwargs": {"n_layers": 2}}).learn(5 * ROLLOUT))
    seen = fingerprint(watched(tmp_path))
    assert len(plain) == len(seen) > 50
    assert all(np.array_equal(a, b) for a, b in zip(plain, seen, strict=True))


def test_records_at_the_first_rollout_at_the_cadence_and_after_the_last_update(run):
    probes = [ProbeRecord.load(path) for path in record_paths(run)]
    assert [probe.step for probe in probes] == [ROLLOUT * k for k in (1, 2, 4, 5)]
    assert (run / "probe.npz").read_bytes() == record_paths(run)[-1].read_bytes()
    assert probes[-1].scene_names[-1] == "episode"
    for before, after in itertools.pairwise(probes):  # the same scenes, another policy
        np.testing.assert_array_equal(before.record.obs["items"][:5], after.record.obs["items"][:5])
        assert not np.array_equal(before.record.layers[0].pattern[:5], after.record.layers[0].pattern[:5])


def test_the_last_record_is_of_the_policy_that_was_saved(run):
    probe = ProbeRecord.load(run / "probe.npz")
    again = record(load(run / "model.zip", trust=True), probe.scenes.batch())
    np.testing.assert_allclose(again.layers[-1].pattern, probe.record.layers[-1].pattern, atol=1e-6)
    np.testing.assert_allclose(again.policy, probe.record.policy, atol=1e-5)


def test_the_episode_is_the_one_that_the_policy_plays(run):
    probe = ProbeRecord.load(run / "probe.npz")
    steps = probe.scenes.episode_states
    np.testing.assert_array_equal(probe.scenes.time[steps], np.arange(len(steps)))
    env, model = single_env(SEEK), load(run / "model.zip", trust=True)
    obs, _ = env.reset(seed=PROBE_SEED)
    for state in steps:
        np.testing.assert_array_equal(obs["items"], probe.record.obs["items"][state])
        action, _ = model.predict(obs, deterministic=True)
        assert action == probe.record.action[state]
        obs, reward, *_ = env.step(action)
        assert reward == pytest.approx(probe.scenes.reward[state])


def test_scalars_read_back_equal_the_record(run, events):
    for path in record_paths(run):
        probe = ProbeRecord.load(path)
        assert len(probe.scalars) > 40
        for tag, value in probe.scalars.items():
            logged = {event.step: event.value for event in events.Scalars(tag)}
            assert logged[probe.step] == np.float32(value), tag


def test_every_record_replays_and_leaks_nothing(events):
    assert max(event.value for event in events.Scalars("attention/replay_error")) <= 1e-6
    assert {event.value for event in events.Scalars("attention/absent_leak")} == {0.0}
    assert {event.value for event in events.Scalars("attention_live/absent_leak")} == {0.0}
    assert len(events.Scalars("attention_live/entropy")) == 5  # every rollout


def test_pictures_read_back_equal_the_record(run, events):
    def image(tag: str, step: int) -> Image.Image:
        found = {event.step: event.encoded_image_string for event in events.Images(tag)}
        return Image.open(io.BytesIO(found[step]))

    history = History()
    for path in record_paths(run):
        probe = ProbeRecord.load(path)
        history.add(probe.step, probe.record)
        drawn = {
            "attention/scenes": draw.overlay(probe, range(3)),
            "attention/heads_by_entities": draw.heads_by_entities(probe, range(2)),
            "attention/layers": draw.layers(probe, 0),
            "attention/over_training": draw.training(history),
        }
        for tag, pixels in drawn.items():
            assert np.array_equal(np.asarray(image(tag, probe.step).convert("RGB")), pixels), tag
    film = image("attention/episode_film", probe.step)
    assert film.format == "GIF"
    assert getattr(film, "n_frames", 1) == len(probe.scenes.episode_states)
    assert image("attention/disagreements", probe.step).size[0] > 300
    assert image("attention/episode", probe.step).size[0] > 300


def test_layout_settings_schema_and_command_are_logged(events):
    tags = events.Tags()
    text = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"] if "text" in tag}
    assert '"items"' in text["attention/schema/text_summary"]
    assert text["attention/command/text_summary"] == f"`{shlex.join(sys.argv)}`"
    assert "acting: network by" in text["attention/backends/text_summary"]
    assert "| gamma | `0.95` |" in text["attention/settings/text_summary"]
    assert "custom_scalars__config__" in tags["tensors"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    plain = {tag for charts in LAYOUT.values() for names in charts.values() for tag in names if not tag.endswith("*")}
    undefined = {"attention/deletion", "attention/insertion"}  # an untrained policy: no order beats another
    assert plain - set(tags["scalars"]) <= undefined


def test_live_scalars_need_no_pass_of_their_own(tmp_path, monkeypatch):
    """In a rollout without a record, the network computes exactly as often as unwatched."""
    calls, encode = [], extractor.encode
    monkeypatch.setattr(extractor, "encode", lambda *a: calls.append(1) or encode(*a))
    run = ActingProgram.run
    monkeypatch.setattr(ActingProgram, "run", lambda *a: calls.append(1) or run(*a))

    class Count(BaseCallback):
        def _on_rollout_start(self):
            calls.clear()

        def _on_step(self):
            return True

        def _on_rollout_end(self):
            counts.append(len(calls))

    both = []
    for watch in ([], [AttentionCallback(single_env(SEEK), every=100, n_scenes=2, n_pictures=2)]):
        counts: list[int] = []
        model = make_ppo(SEEK)
        model.set_logger(configure(str(tmp_path / str(len(watch))), ["tensorboard"]))
        model.learn(3 * ROLLOUT, callback=[*watch, Count()])
        both.append(counts[1])
    assert both[0] == both[1] > 0


def test_a_policy_without_attention_is_recorded_without_maps(tmp_path):
    model = make_ppo(SEEK, {"features_extractor_class": DeepSetsExtractor})
    watched(tmp_path, model, total=2 * ROLLOUT)
    probe = ProbeRecord.load(tmp_path / "probe.npz")
    assert probe.record.layers == []
    assert "attention/absence_kl" in probe.scalars
    assert not {"attention/entropy", "attention/uniform_kl", "attention/deletion"} & set(probe.scalars)
    assert probe.verdicts == ["this policy has no attention: absence effects only"]


@pytest.mark.parametrize(("algorithm", "action_space"), [(DQN, spaces.Discrete(5)), (SAC, spaces.Box(-1, 1, (2,)))])
def test_off_policy_algorithms_and_environments_without_pictures(algorithm, action_space, tmp_path):
    """No render mode, no positions, no relevant entity, types without flags: a schema is drawn instead."""
    kwargs = {"features_extractor_class": EntityAttentionExtractor}
    model = algorithm(
        "MultiInputPolicy", TypedBandit(action_space), policy_kwargs=kwargs, learning_starts=50, buffer_size=100
    )
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    callback = AttentionCallback(TypedBandit(action_space), tmp_path, n_scenes=3, n_pictures=3)
    model.learn(60, callback=callback, log_interval=1)
    paths = record_paths(tmp_path)
    assert 2 <= len(paths) <= 51
    probe = ProbeRecord.load(paths[-1])
    assert probe.scalars["attention/replay_error"] <= 1e-6
    assert draw.overlay(probe, range(3)).std() > 1


def test_a_pointer_policy_gets_the_warning_and_the_pointer_panel(tmp_path):
    model = PPO(EntityAttentionPolicy, TypedBandit(), policy_kwargs={"pointer": "foes"}, n_steps=4, batch_size=4)
    model.learn(8, callback=AttentionCallback(TypedBandit(), tmp_path, n_scenes=3, n_pictures=3))
    probe = ProbeRecord.load(tmp_path / "probe.npz")
    assert "NO explanation" in probe.verdicts[0]
    assert draw.overlay(probe, range(3)).shape[1] > draw.overlay(_without_pointer(probe), range(3)).shape[1]


def _without_pointer(probe: ProbeRecord) -> ProbeRecord:
    return replace(probe, record=replace(probe.record, pointer=None))


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="every=0"):
        AttentionCallback(TypedBandit(), every=0)


# ---- what the constructor takes -----------------------------------------------------------------------


def test_an_id_stands_for_a_probe_environment_of_its_own():
    callback = AttentionCallback(SEEK, n_scenes=2, n_pictures=1)
    assert callback.probe_env.render_mode == "rgb_array"
    make_ppo(SEEK).learn(ROLLOUT, callback=callback)
    assert len(callback.history.steps) == 1


class BareBandit(TypedBandit):
    """Draws nothing and takes no render_mode."""


def test_an_id_without_pictures_warns_of_nothing(recwarn):
    gym.register("Test/Bandit-v0", BareBandit)
    try:
        AttentionCallback("Test/Bandit-v0")
    finally:
        del gym.registry["Test/Bandit-v0"]
    assert [str(w.message) for w in recwarn] == []


NO_PROBE = {
    "our vector environment": (lambda: make_vec_env(SEEK, 2), "a vector environment (VectorEnvAdapter)"),
    "SB3's": (lambda: DummyVecEnv([TypedBandit]), "a vector environment (DummyVecEnv)"),
    "Gymnasium's": (lambda: gym.vector.SyncVectorEnv([TypedBandit]), "a vector environment (SyncVectorEnv)"),
    "an agent": (lambda: make_ppo(SEEK), "a PPO"),
    "a class": (lambda: TypedBandit, "a class (TypedBandit)"),
    "nothing": (lambda: None, "None"),
    "a path": (lambda: Path("runs"), f"a {type(Path()).__name__}"),
}


@pytest.mark.parametrize("what", NO_PROBE)
def test_what_is_no_single_environment_is_refused_at_construction(what: str):
    make, got = NO_PROBE[what]
    with pytest.raises(TypeError) as error:
        AttentionCallback(make())
    assert str(error.value) == (
        f'probe_env is {got}; expected a single environment that nobody else steps: its id ("AttnRL/Seek-v0"), or '
        'attn_rl.adapters.make_env(id, render_mode="rgb_array")'
    )
