"""Counterfactuals: batched equals one by one, and planted truths are found."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionPolicy, record_attention
from attn_rl.inspection.measure import effects, metrics, variants
from attn_rl.inspection.measure.summary import scalars, verdicts
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.outputs import Outputs, policy_kl
from tests.inspection.conftest import TypedBandit, make_ppo


def test_policy_kl_by_hand():
    p = Outputs(torch.tensor([[0.5, 0.5, 1.0]]).log(), (2, 1), torch.zeros(1))
    q = Outputs(torch.tensor([[0.25, 0.75, 1.0]]).log(), (2, 1), torch.zeros(1))
    forbidden = Outputs(torch.tensor([[-3.4e38, 0.0, 0.0]]), (2, 1), torch.zeros(1))
    assert policy_kl(p, q).item() == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert policy_kl(p, forbidden).item() == pytest.approx(0.5 * np.log(0.5 / 1e-6) + 0.5 * np.log(0.5), rel=1e-5)
    assert policy_kl(forbidden, p).item() == pytest.approx(np.log(2))
    gauss_p, gauss_q = (Outputs(torch.tensor([[mean, log_std]]), (), p.value) for mean, log_std in ((1, 0), (3, 0)))
    assert policy_kl(gauss_p, gauss_q).item() == pytest.approx(2.0)


def test_leave_one_out_in_one_batch_equals_removing_by_hand(deep_model, seek_scenes):
    record = record_attention(deep_model, seek_scenes.batch())
    found, value = effects.absence(Actor(deep_model), record).values()
    assert np.isnan(found[~record.slot_present]).all()
    for state, slot in ((0, 1), (4, 0), (11, 3)):
        obs = {key: block[state].copy() for key, block in seek_scenes.batch().items()}
        assert obs["items_present"][slot] == 1
        obs["items_present"][slot] = 0
        without = record_attention(deep_model, obs)
        p, q = record.policy[state].astype(float), without.policy[0].astype(float)
        assert found[state, slot] == pytest.approx((np.exp(p) * (p - q)).sum(), rel=1e-2, abs=1e-7)
        assert value[state, slot] == pytest.approx(without.value[0] - record.value[state], abs=1e-5)


def test_entities_without_presence_flags_can_be_taken_out_too():
    model = PPO(EntityAttentionPolicy, TypedBandit(), n_steps=2, batch_size=2, seed=0)
    record = record_attention(model, TypedBandit().reset(seed=3)[0])
    found = effects.absence(Actor(model), record)["absence_kl"]
    assert (found[:, :2] > 0).all()  # allies exist always


def test_chunks_change_nothing(seek_actor, seek_scenes, monkeypatch):
    record = record_attention(seek_actor, seek_scenes.batch())
    whole = effects.measure(seek_actor, record)
    monkeypatch.setattr(variants, "MAX_ROWS", 17)
    chunked = effects.measure(seek_actor, record)
    assert effects.EFFECTS.keys() <= whole.keys()
    for name, array in whole.items():
        np.testing.assert_allclose(chunked[name], array, atol=2e-6, err_msg=name)


def test_measuring_changes_neither_weights_nor_random_streams(deep_model, seek_scenes):
    before = copy.deepcopy(deep_model.policy.state_dict())
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    effects.measure(Actor(deep_model), record_attention(deep_model, seek_scenes.batch()))
    assert all(torch.equal(before[key], tensor) for key, tensor in deep_model.policy.state_dict().items())
    assert all(parameter.grad is None for parameter in deep_model.policy.parameters())
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])


def test_a_head_that_writes_nothing_is_free_to_drop(seek_scenes):
    model = make_ppo("AttnRL/Seek-v0", seed=5)
    actor = Actor(model)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100)  # an untrained policy hardly reacts to anything
        actor.attention[0].w_o.weight[:, 8:16] = 0  # head 2 of 4
    record = record_attention(actor, seek_scenes.batch())
    dropped = effects.dropped_head(actor, record)[:, 0].mean(0)
    kept = effects.kept_head(actor, record)[:, 0].mean(0)
    assert dropped[1] < 1e-9
    assert (np.delete(dropped, 1) > 1e-4).all()
    with torch.no_grad():
        actor.attention[0].w_o.weight.zero_()  # to keep that head alone is to keep none
    silent = record_attention(actor, seek_scenes.batch())
    divergence = (np.exp(record.policy) * (record.policy - silent.policy)).sum(-1).mean()
    assert kept[1] == pytest.approx(divergence, rel=1e-3)
    assert kept[1] > 1e-4


# ---- planted truth -----------------------------------------------------------------------------------------------


class ThreeThings(TypedBandit):
    """Three entities that announce their number."""

    observation_space = spaces.Dict({"things": spaces.Box(0, 1, (3, 5)), "things_present": spaces.MultiBinary(3)})

    def __init__(self):
        super().__init__(spaces.Discrete(2))

    def reset(self, *, seed=None, options=None):
        return {"things": np.eye(3, 5, dtype=np.float32), "things_present": np.ones(3, np.int8)}, {}


def sink_circuit() -> PPO:
    """A policy with weights (.7, .2, .1) on values (0, 1, 0), set by hand.

    Token i is unit vector i; layer normalisation turns it into high at i and low elsewhere (a and b).
    """
    network = {"d_model": 5, "n_heads": 1, "readout": "learned", "log_count": False, "normalize": False}
    kwargs = {"net_arch": [], "features_extractor_kwargs": network}
    model = PPO(EntityAttentionPolicy, ThreeThings(), policy_kwargs=kwargs, n_steps=2, batch_size=2)
    net = model.policy.features_extractor.network
    attention, block = net.encoder.blocks[0].attention, net.encoder.blocks[0]
    a, b = torch.nn.functional.layer_norm(torch.eye(5)[0], (5,))[:2]
    with torch.no_grad():
        for parameter in (*net.tokenizer.parameters(), *attention.parameters(), *block.feedforward.parameters()):
            parameter.zero_()
        net.tokenizer.embed[0].first.weight.copy_(torch.eye(5))
        net.tokenizer.embed[0].second.weight.copy_(torch.eye(5))
        net.query.copy_(torch.eye(5)[3])
        wanted = torch.tensor([0.7, 0.2, 0.1, 1e-9, 1.0]).log()
        attention.w_q.bias.copy_(wanted * 5**0.5 / (a - b))
        attention.w_k.weight.copy_(torch.eye(5))
        attention.w_v.weight[0] = torch.tensor([0.0, 1, 0, 0, -1]) / (a - b)  # 1 for token 1, 0 for 0, 2 and 3
        attention.w_o.weight[4, 0] = 1
        model.policy.action_net.weight.copy_(torch.tensor([[0.0, 0, 0, 0, 0.5], [0, 0, 0, 0, -0.5]]))
    return model


def test_a_sink_is_blamed_by_absence_and_not_by_content():
    model = sink_circuit()
    record = record_attention(model, ThreeThings().reset()[0])
    np.testing.assert_allclose(record.entity_map()[0], [0.7, 0.2, 0.1], atol=1e-4)
    np.testing.assert_allclose(record.layers[0].value_norm[0, 0, 1:], [0, 1, 0], atol=1e-4)
    found = effects.measure(Actor(model), record)
    assert found["absence_kl"][0].argmax() == 0
    assert found["content_kl"][0].argmax() == 1
    assert found["content_kl"][0, 0] < 1e-8
    assert record.value_map()[0, 0, record.lead :].argmax() == 1
    said = scalars(record, found, np.array([1]))
    assert said["attention/top1_relevant"] == 0
    assert said["attention/agreement_absence"] == 1
    assert said["attention/agreement_content"] == 0
    assert said["attention/agreement_content_value_weighted"] == 1


def test_trained_match_attends_to_what_matters(trained_match, match_scenes):
    record = record_attention(trained_match, match_scenes.batch())
    found = effects.measure(Actor(trained_match), record)
    said = scalars(record, found, match_scenes.relevant)
    assert said["attention/absence_top1_relevant"] >= 0.95
    assert said["attention/top1_relevant"] >= 0.85
    assert said["attention/agreement_absence"] >= 0.85
    assert said["attention/absence_kl_relevant"] > 20 * said["attention/absence_kl_others"]
    assert said["attention/uniform_kl"] > 0.5
    assert said["attention/deletion"] > 0.7
    assert said["attention/insertion"] > 0.7
    assert "map is used" in verdicts(record, found)[0]


def test_untrained_match_is_at_chance(match_scenes):
    """No entity is larger or brighter than another by construction, so a network that knows nothing finds nothing."""
    model = make_ppo("AttnRL/Match-v0", seed=11)
    record = record_attention(model, match_scenes.batch())
    chance = (1 / record.slot_present.sum(-1)).mean()
    spread = 3 * np.sqrt(chance * (1 - chance) / len(record.present))
    hits = metrics.mean(metrics.top1(record.entity_map(), match_scenes.relevant, record.slot_present))
    assert abs(hits - chance) < spread


class ConstantAction(TypedBandit):
    """Action 2 is always right: nothing needs looking at."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, float(action == 2), *rest


def test_a_policy_that_needs_no_map_says_so():
    env = DummyVecEnv([ConstantAction] * 16)
    model = PPO(EntityAttentionPolicy, env, n_steps=8, batch_size=64, n_epochs=4, learning_rate=5e-3, seed=2)
    model.learn(1280)
    obs = [ConstantAction().reset(seed=seed)[0] for seed in range(23)]
    record = record_attention(model, {key: np.stack([o[key] for o in obs]) for key in obs[0]})
    found = effects.measure(Actor(model), record)
    assert record.probabilities[:, 2].min() > 0.9
    assert metrics.mean(found["uniform_kl"]) < metrics.UNUSED_BELOW
    assert "map not used by the policy" in verdicts(record, found)[0]


def test_a_pointer_policy_is_told_not_to_trust_the_ego_row():
    model = PPO(EntityAttentionPolicy, TypedBandit(), policy_kwargs={"pointer": "foes"}, n_steps=2, batch_size=2)
    with torch.no_grad():
        model.policy.action_net.point.score.weight.mul_(300)  # make up its mind
    record = record_attention(model, TypedBandit().reset(seed=3)[0])
    found = effects.measure(Actor(model), record)
    assert np.isfinite(found["absence_kl"][record.slot_present]).all()
    chosen = record.pointer[0].argmax()
    assert np.nanargmax(found["absence_kl"][0, 2:]) == chosen - 2
    assert "NO explanation" in verdicts(record, found)[0]
