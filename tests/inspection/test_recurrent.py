"""Recurrent policies are recorded with the state of their LSTM; a policy whose path is unknown is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.sac.policies import MultiInputPolicy as SACPolicy

from attn_rl import AttentionCallback, EntityAttentionExtractor, EntityAttentionPolicy, make_vec_env, record_attention
from attn_rl.inspection.measure import effects
from attn_rl.inspection.measure.invariants import absent_leak, replay_error
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.scenes import PROBE_SEED
from tests.inspection.conftest import TypedBandit, single_env

contrib = pytest.importorskip("sb3_contrib")
SEEK = "AttnRL/Seek-v0"
LSTMS = {
    "as wide as the features": {"lstm_hidden_size": 32},
    "of another width": {"lstm_hidden_size": 17, "n_lstm_layers": 2},
    "shared with the critic": {"lstm_hidden_size": 32, "shared_lstm": True, "enable_critic_lstm": False},
    "of the actor alone": {"lstm_hidden_size": 32, "enable_critic_lstm": False},
    "with extractors apart": {"lstm_hidden_size": 32, "share_features_extractor": False},
}


def make_recurrent(**lstm):
    kwargs = {"features_extractor_class": EntityAttentionExtractor, **lstm}
    env = make_vec_env(SEEK, 5, seed=3)
    model = contrib.RecurrentPPO("MultiInputLstmPolicy", env, policy_kwargs=kwargs, n_steps=7, batch_size=35, seed=1)
    with torch.no_grad():
        for name, weight in model.policy.named_parameters():
            if "lstm" in name:
                weight.mul_(4)  # the state makes a difference
        model.policy.action_net.weight.mul_(100)  # and so does every entity
    return model


@pytest.fixture(params=LSTMS.values(), ids=LSTMS)
def model(request):
    return make_recurrent(**request.param)


def steps_of(model, n_steps=3):
    """Observation, the policy's own distribution and value, and the record, step by step from the policy's states."""
    policy, env = model.policy, model.get_env()
    policy.set_training_mode(False)
    obs, before = env.reset(), None
    shape = policy.lstm_hidden_state_shape
    pi = vf = (torch.zeros(shape[0], 5, shape[2]),) * 2
    starts = torch.zeros(5)
    for _ in range(n_steps):
        record = record_attention(model, obs, before)
        tensors = policy.obs_to_tensor(obs)[0]
        with torch.no_grad():
            distribution, pi_next = policy.get_distribution(tensors, pi, starts)
            value = policy.predict_values(tensors, vf, starts)
            states = contrib.common.recurrent.type_aliases.RNNStates(pi, vf)
            *_, states = policy(tensors, states, starts)
        yield obs, distribution, value, record
        pi, vf, before = states.pi, states.vf, record.next_lstm_states
        assert torch.equal(pi[0], pi_next[0])
        obs, *_ = env.step(record.action)


def test_recorded_probabilities_and_values_are_the_policys_own(model):
    policies = []
    for _, distribution, value, record in steps_of(model):
        np.testing.assert_allclose(record.policy, distribution.distribution.logits, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(record.value, value[:, 0], atol=1e-6)
        policies.append(record.policy)
    fresh = record_attention(model, {key: block.copy() for key, block in record.obs.items()})
    assert np.abs(fresh.policy - record.policy).max() > 1e-3  # without its state the policy is another one


def test_a_recurrent_record_replays_and_leaks_nothing(model):
    *_, (_, _, _, record) = steps_of(model)
    actor = Actor(model)
    assert replay_error(actor, record) <= 1e-6
    assert absent_leak(actor, record) == 0
    assert np.isfinite(effects.measure(actor, record)["drop_head_kl"]).all()


def test_effects_are_those_of_the_policy_in_its_state(model):
    *_, (obs, _, _, record) = steps_of(model)
    found, value = effects.absence(Actor(model), record).values()
    state, slot = np.argwhere(record.slot_present)[-1]
    without = {key: block.copy() for key, block in obs.items()}
    without["items_present"][state, slot] = 0
    again = record_attention(model, without, record.lstm_states)
    p, q = record.policy[state].astype(float), again.policy[state].astype(float)
    assert found[state, slot] == pytest.approx((np.exp(p) * (p - q)).sum(), rel=1e-2, abs=1e-6)
    assert found[state, slot] > 1e-5
    assert value[state, slot] == pytest.approx(again.value[state] - record.value[state], abs=1e-5)


def test_training_is_watched_and_the_episode_is_the_one_that_predict_plays(tmp_path):
    model = make_recurrent(lstm_hidden_size=32)
    model.learn(70, callback=AttentionCallback(single_env(SEEK), tmp_path, n_scenes=3, n_pictures=1))
    probe = ProbeRecord.load(tmp_path / "probe.npz")
    assert probe.scalars["attention/replay_error"] <= 1e-6
    assert probe.record.lstm_states.shape == (len(probe.scenes), 4, 1, 32)
    env = single_env(SEEK)
    obs, _ = env.reset(seed=PROBE_SEED)
    state = None
    for step in probe.scenes.episode_states:
        np.testing.assert_allclose(probe.record.lstm_states[step, :2], 0 if state is None else np.stack(state)[:, :, 0])
        action, state = model.predict(obs, state=state, deterministic=True)
        assert action == probe.record.action[step]
        obs, *_ = env.step(action)


def test_watching_changes_no_bit_of_recurrent_training():
    def weights(*callbacks):
        model = make_recurrent(lstm_hidden_size=17)
        model.learn(70, callback=list(callbacks))
        return [weight.detach().clone() for weight in model.policy.state_dict().values()]

    unwatched = weights()
    watched = weights(AttentionCallback(single_env(SEEK), every=1, n_scenes=3, n_pictures=1))
    assert all(torch.equal(a, b) for a, b in zip(unwatched, watched, strict=True))


def test_a_state_is_refused_where_nothing_keeps_one(seek_model, seek_scenes):
    with pytest.raises(ValueError, match="lstm_states are given, but EntityAttentionPolicy has no LSTM"):
        record_attention(seek_model, seek_scenes.batch(), np.zeros((13, 4, 1, 32), np.float32))
    recurrent = make_recurrent(lstm_hidden_size=32)
    with pytest.raises(ValueError, match=r"lstm_states has shape \(13, 4, 1, 8\), expected \(13, 4, 1, 32\)"):
        record_attention(recurrent, seek_scenes.batch(), np.zeros((13, 4, 1, 8), np.float32))


class OwnDistribution(EntityAttentionPolicy):
    """Goes from features to actions in a way of its own."""

    def get_distribution(self, obs):
        return super().get_distribution(obs)


class OwnForward(ActorCriticPolicy):
    def forward(self, obs, deterministic=False):
        return super().forward(obs, deterministic)


class OwnPrediction(SACPolicy):
    def _predict(self, observation, deterministic=False):
        return super()._predict(observation, deterministic)


@pytest.mark.parametrize(
    ("algorithm", "policy", "method"),
    [(PPO, OwnDistribution, "get_distribution"), (PPO, OwnForward, "forward"), (SAC, OwnPrediction, "_predict")],
)
def test_a_path_from_features_to_actions_that_is_not_known_is_refused(algorithm, policy, method):
    from gymnasium import spaces

    env = TypedBandit(spaces.Box(-1, 1, (2,)))
    model = algorithm(policy, env, policy_kwargs={"features_extractor_class": EntityAttentionExtractor})
    with pytest.raises(ValueError, match=rf"{policy.__name__} defines its own {method}\(\)"):
        record_attention(model, env.reset(seed=1)[0])
