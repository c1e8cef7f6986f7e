"""A record is the pass that acted: same numbers, one pass, nothing left behind, replayable."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3

from attn_rl import DeepSetsExtractor, EntityAttentionExtractor, EntityAttentionPolicy, record_attention
from attn_rl.backends.choose import using
from attn_rl.inspection.measure.invariants import absent_leak, replay_error
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.nn.relations.named import Strength
from attn_rl.nn.tap import Tap
from tests.inspection.conftest import TypedBandit


@pytest.fixture(params=["seek_model", "deep_model"])
def model(request):
    return request.getfixturevalue(request.param)


def hooks_of(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.policy.modules())


def test_record_is_the_pass_that_predict_makes(model, seek_scenes):
    before = torch.get_rng_state()
    record = record_attention(model, seek_scenes.batch())
    assert torch.equal(before, torch.get_rng_state())
    expected, _ = model.predict(seek_scenes.batch(), deterministic=True)
    np.testing.assert_array_equal(record.action, expected)
    obs = model.policy.obs_to_tensor(seek_scenes.batch())[0]
    with torch.no_grad():
        assert np.array_equal(record.value, model.policy.predict_values(obs)[:, 0].numpy())
        assert np.array_equal(record.policy, model.policy.get_distribution(obs).distribution.logits.numpy())


def test_one_pass_per_record_and_nothing_stays_attached(model, seek_scenes, monkeypatch):
    calls = []
    show = Tap.show
    monkeypatch.setattr(Tap, "show", lambda self, *seen: calls.append(self) or show(self, *seen))
    for backend in ("kernels", "plain"):
        calls.clear()
        with using(model, backend):
            record = record_attention(model, seek_scenes.batch())
        assert len(calls) == len(record.layers) == len(set(calls))
        assert hooks_of(model) == 0
        assert not any(tap.observers for tap in calls)


def test_shapes_and_labels(deep_model, seek_scenes):
    record = record_attention(deep_model, seek_scenes.batch())
    assert record.labels == ("query", "ego", *(f"items {i}" for i in range(8)))
    assert [layer.pattern.shape for layer in record.layers] == [(13, 4, 10, 10), (13, 4, 1, 10)]
    assert [layer.values.shape for layer in record.layers] == [(13, 4, 10, 8)] * 2
    assert record.readout().shape == (13, 4, 10)
    assert record.entity_map().shape == (13, 8)
    assert record.feature_names["items"] == ("dx", "dy", "distance", "r", "g", "b")


def test_strengths_are_those_of_the_network_by_name(related_model, seek_scenes):
    record = record_attention(related_model, seek_scenes.batch())
    relations = related_model.policy.features_extractor.network.relations
    assert {s.name for s in record.strengths} == {"ego.cue = items.colour"}
    assert list(record.strengths) == relations.strengths()
    with torch.no_grad():
        relations.layers[0].scores.weight[2] += 0.25  # of the exponential of 4 w
    again = record_attention(related_model, seek_scenes.batch())
    assert again.compared()[0, 2].value == pytest.approx(np.e * record.compared()[0, 2].value, rel=1e-5)
    with torch.no_grad():
        relations.layers[0].scores.weight[2] -= 0.25


def test_a_head_compares_most_what_it_weighs_most():
    strengths = (
        Strength(0, 1, "a.x = b.y", 3.14),
        Strength(0, 1, "a -> b: offset 0", -4.0),
        Strength(1, 0, "a = b", 1),
    )
    record = replace(_nothing(), strengths=strengths)
    assert record.compared() == {(0, 1): strengths[1], (1, 0): strengths[2]}
    assert strengths[0].short == "x = y, 3.1"


def _nothing() -> AttentionRecord:
    empty = np.zeros((0, 0))
    return AttentionRecord({}, [], (), 0, empty, empty, empty, empty, (), empty)


def test_a_single_observation_becomes_a_batch_of_one(seek_model, seek_scenes):
    one = {key: block[0] for key, block in seek_scenes.batch().items()}
    many = record_attention(seek_model, seek_scenes.batch())
    record = record_attention(seek_model, one)
    assert record.layers[0].pattern.shape == (1, 4, 1, 9)
    np.testing.assert_allclose(record.layers[0].pattern[0], many.layers[0].pattern[0], atol=1e-6)


def test_replay_reproduces_and_swapped_weights_do_not(model, seek_scenes):
    actor = Actor(model)
    record = record_attention(actor, seek_scenes.batch())
    assert replay_error(actor, record) <= 1e-6
    swapped = record.layers[-1].pattern
    swapped[..., [2, 3]] = swapped[..., [3, 2]]
    assert replay_error(actor, record) > 1e-4


def test_replay_sees_a_wrong_value(seek_actor, seek_scenes):
    record = record_attention(seek_actor, seek_scenes.batch())
    record.value[5] += 0.01
    assert replay_error(seek_actor, record) > 1e-3


def test_absent_leak_is_exactly_zero_and_notices_a_leak(seek_actor, seek_scenes):
    record = record_attention(seek_actor, seek_scenes.batch())
    assert not record.slot_present.all()
    assert absent_leak(seek_actor, record) == 0
    record.layers[0].pattern[~np.broadcast_to(record.present[:, None, None], (13, 4, 1, 9))] = 1e-7
    assert absent_leak(seek_actor, record) == pytest.approx(1e-7)


def test_names_travel_with_rows(seek_model, seek_scenes):
    """Reversing the slots reverses the map and nothing else."""
    obs = seek_scenes.batch()
    reverse = obs | {"items": obs["items"][:, ::-1].copy(), "items_present": obs["items_present"][:, ::-1].copy()}
    there, back = record_attention(seek_model, obs), record_attention(seek_model, reverse)
    np.testing.assert_allclose(there.entity_map(), back.entity_map()[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(there.policy, back.policy, atol=1e-5)


@pytest.mark.parametrize("readout", ["mean", "max"])
def test_pooled_readout_shows_the_mean_of_the_present_rows(readout):
    kwargs = {"features_extractor_kwargs": {"readout": readout}}
    model = PPO(EntityAttentionPolicy, TypedBandit(), policy_kwargs=kwargs, n_steps=2, batch_size=2)
    obs, _ = TypedBandit().reset(seed=11)
    record = record_attention(model, obs)
    assert record.labels[:3] == ("allies 0", "allies 1", "foes 0")
    rows = record.layers[0].pattern[0][:, record.present[0]]
    np.testing.assert_allclose(record.readout()[0], rows.mean(1), atol=1e-6)
    assert replay_error(Actor(model), record) <= 1e-6
    assert absent_leak(Actor(model), record) == 0


def test_pointer_probabilities_stand_at_their_slots():
    kwargs = {"pointer": "foes"}
    model = PPO(EntityAttentionPolicy, TypedBandit(), policy_kwargs=kwargs, n_steps=2, batch_size=2)
    obs, _ = TypedBandit().reset(seed=5)
    record = record_attention(model, obs)
    assert record.layers[0].pattern.shape[2] == len(record.labels)  # the pointer reads every row
    np.testing.assert_array_equal(record.pointer[:, :2], 0)
    np.testing.assert_allclose(record.pointer[:, 2:], record.probabilities, rtol=1e-6)
    assert (record.pointer[~record.slot_present] == 0).all()
    assert replay_error(Actor(model), record) <= 1e-6


CONTINUOUS = spaces.Box(-1, 1, (3,))


def policy_kwargs(**more) -> dict:
    return {"features_extractor_class": EntityAttentionExtractor, **more}


@pytest.mark.parametrize(
    ("algorithm", "action_space", "kwargs"),
    [
        (A2C, spaces.MultiDiscrete([2, 3]), {}),
        (A2C, spaces.MultiBinary(3), {}),
        (PPO, CONTINUOUS, {"policy_kwargs": policy_kwargs(share_features_extractor=False)}),
        (PPO, CONTINUOUS, {"use_sde": True}),
        (DQN, spaces.Discrete(5), {}),
        (SAC, CONTINUOUS, {}),
        (TD3, CONTINUOUS, {}),
    ],
)
def test_any_algorithm(algorithm, action_space, kwargs):
    env = TypedBandit(action_space)
    model = algorithm("MultiInputPolicy", env, seed=1, **{"policy_kwargs": policy_kwargs()} | kwargs)
    obs, _ = env.reset(seed=2)
    record = record_attention(model, obs)
    expected, _ = model.predict(obs, deterministic=True)
    action = np.tanh(record.action[0]) if algorithm is SAC else record.action[0]  # SAC squashes what it draws
    if action_space == CONTINUOUS:
        action = np.clip(action, -1, 1)
    np.testing.assert_allclose(action, expected, atol=1e-6)
    assert replay_error(Actor(model), record) <= 1e-6
    assert absent_leak(Actor(model), record) == 0
    assert hooks_of(model) == 0


def test_recording_stays_with_the_instance_that_acts():
    """DQN's target network has an extractor of its own, which nobody listens to."""
    model = DQN("MultiInputPolicy", TypedBandit(), policy_kwargs=policy_kwargs())
    actor = Actor(model)
    assert actor.extractor is model.policy.q_net.features_extractor
    assert actor.extractor is not model.policy.q_net_target.features_extractor


def test_a_policy_without_attention_gives_a_record_without_layers():
    kwargs = {"features_extractor_class": DeepSetsExtractor}
    model = PPO(EntityAttentionPolicy, TypedBandit(), policy_kwargs=kwargs, n_steps=2, batch_size=2)
    obs, _ = TypedBandit().reset(seed=2)
    record = record_attention(model, obs)
    assert record.layers == []
    assert record.labels == ("allies 0", "allies 1", *(f"foes {i}" for i in range(5)))
    assert absent_leak(Actor(model), record) == 0


class PlainBox(TypedBandit):
    """A bare (N,F) array whose first column says which rows exist."""

    observation_space = spaces.Box(-1, 1, (5, 3))

    def reset(self, *, seed=None, options=None):
        gym.Env.reset(self, seed=seed)
        obs = self.np_random.uniform(-1, 1, (5, 3)).astype(np.float32)
        obs[:, 0] = [1, 0, 1, 1, 0]
        return obs * obs[:, :1], {}


def test_a_plain_box_with_a_presence_column():
    extractor = {"presence": 0, "names": {"cars": ("presence", "x", "y")}}
    kwargs = {"features_extractor_kwargs": extractor}
    model = PPO(EntityAttentionPolicy, PlainBox(), policy_kwargs=kwargs, n_steps=2, batch_size=2)
    record = record_attention(model, PlainBox().reset(seed=1)[0])
    assert record.slot_labels == tuple(f"cars {i}" for i in range(5))
    np.testing.assert_array_equal(record.slot_present, [[1, 0, 1, 1, 0]])
    assert record.obs[""].shape == (1, 5, 3)
    assert replay_error(Actor(model), record) <= 1e-6
    assert absent_leak(Actor(model), record) == 0


def test_a_compiled_policy_is_recorded_like_itself(seek_model, seek_scenes):
    plain = record_attention(seek_model, seek_scenes.batch())
    compiled = record_attention(torch.compile(seek_model.policy), seek_scenes.batch())
    np.testing.assert_array_equal(compiled.layers[0].pattern, plain.layers[0].pattern)
    np.testing.assert_array_equal(compiled.policy, plain.policy)


def test_a_foreign_policy_is_refused():
    model = PPO("MultiInputPolicy", TypedBandit(), n_steps=2, batch_size=2)
    with pytest.raises(ValueError, match="features_extractor_class=EntityAttentionExtractor"):
        record_attention(model, TypedBandit().reset(seed=2)[0])
