"""Every algorithm learns, saves, loads and acts equally, and what is recorded of it is what it acts with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import AttentionCallback, EntityAttentionExtractor, record_attention
from attn_rl.inspection.measure.invariants import absent_leak, replay_error
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.record.actor import Actor
from attn_rl.nn.attention import MultiHeadAttention
from tests.sb3.algorithms import DODGE, TABLE, VARIANTS, Case, Ring, own_policy, table

PAGE = Path(__file__).parents[2] / "docs" / "algorithms.md"
EVERY = pytest.mark.parametrize("case", [*TABLE, *VARIANTS], ids=lambda case: case.name)


def learned(case: Case, callback=None):
    if case.package == "sb3_contrib":
        pytest.importorskip("sb3_contrib")
    torch.set_num_threads(1)
    model = case.make()
    before = [weight.detach().clone() for weight in model.policy.parameters()]
    model.learn(48, callback=callback)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    return model


def states(case: Case):
    """Observations that lie apart."""
    env = case.env(7)
    env.seed(101)
    return env.reset()


@EVERY
def test_it_learns_saves_loads_and_acts_equally(case, tmp_path):
    model = learned(case)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", device="cpu")
    observation = states(case)
    for deterministic in (True, False):
        actions = []
        for each in (model, loaded):
            torch.manual_seed(5)
            np.random.seed(5)
            each.action_space.seed(5)
            if getattr(each, "use_sde", False):
                each.policy.reset_noise(7)
            actions.append(each.predict(observation, deterministic=deterministic)[0])
        assert np.array_equal(*actions)
    loaded.set_env(case.env())
    loaded.learn(48)


@EVERY
def test_the_record_is_what_it_acts_with(case):
    model, observation = learned(case), states(case)
    for module in model.policy.modules():  # what is looked at makes a difference
        if isinstance(module, MultiHeadAttention):
            with torch.no_grad():
                module.w_v.weight.mul_(30)
                module.w_q.weight.mul_(5)
    policy, value = own_policy(model, observation)
    assert np.ptp(policy, axis=0).max() > 1e-3
    actor, record = Actor(model), record_attention(model, observation)
    np.testing.assert_allclose(record.policy, policy, rtol=1e-5, atol=1e-5)
    if value is None:
        assert np.isnan(record.value).all()
    else:
        np.testing.assert_allclose(record.value, value, rtol=1e-5, atol=1e-5)
    predicted = model.predict(observation, deterministic=True)[0]
    np.testing.assert_allclose([actor.to_env(action) for action in record.action], predicted, rtol=1e-5, atol=1e-5)
    assert replay_error(actor, record) <= 1e-6
    assert absent_leak(actor, record) == 0


@EVERY
def test_its_training_is_watched(case, tmp_path):
    if case.masked:
        pytest.skip("the toy has no id to probe")
    from attn_rl.adapters import make_env

    probe_env = make_env(DODGE, render_mode="rgb_array", continuous=case.continuous)
    model = learned(case, AttentionCallback(probe_env, tmp_path, n_scenes=2, n_pictures=1, views=[]))
    probe = ProbeRecord.load(tmp_path / "probe.npz")
    assert probe.scalars["attention/replay_error"] <= 1e-6
    again = record_attention(model, probe.record.rows(slice(2)).obs)
    np.testing.assert_allclose(probe.record.policy[:2], again.policy, rtol=1e-5, atol=1e-5)


def test_an_algorithm_without_multiinputpolicy_takes_a_plain_box():
    contrib = pytest.importorskip("sb3_contrib")
    extractor = {"features_extractor_class": EntityAttentionExtractor, "features_extractor_kwargs": {"presence": 2}}
    kwargs = {**extractor, "net_arch": [16]}
    model = contrib.CrossQ("MlpPolicy", Ring(), policy_kwargs=kwargs, learning_starts=8, seed=1, device="cpu")
    model.learn(16)
    env = DummyVecEnv([Ring] * 5)
    observation = env.reset()
    actor, record = Actor(model), record_attention(model, observation)
    predicted = model.predict(observation, deterministic=True)[0]
    np.testing.assert_allclose([actor.to_env(action) for action in record.action], predicted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(record.policy, own_policy(model, observation)[0], rtol=1e-5, atol=1e-5)
    assert replay_error(actor, record) <= 1e-6


def test_an_algorithm_whose_path_is_not_known_is_refused_in_words():
    contrib = pytest.importorskip("sb3_contrib")
    model = contrib.ARS("LinearPolicy", Ring(), device="cpu")
    with pytest.raises(ValueError, match="cannot look inside ARSLinearPolicy; expected the policy of PPO, A2C"):
        record_attention(model, Ring().reset(seed=1)[0])


def test_the_page_shows_the_table_of_the_cases_that_are_tested():
    block = f"<!-- algorithms -->\n{table()}\n<!-- /algorithms -->"
    assert block in PAGE.read_text(), "python -m tests.sb3.algorithms prints what belongs there"
