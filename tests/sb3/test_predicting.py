"""``predict`` in one call: the actions of Stable-Baselines3's, and out of the way where a part of it was changed."""

import numpy as np
import pytest
import torch

from attn_rl import EntityAttentionPolicy, using
from attn_rl.backends.kernels import build
from tests.sb3.test_acting import CHANGES, SPACES, policy
from tests.sb3.test_ppo import DICT, ROWS

needs_compiler = pytest.mark.skipif(build.why_not() is not None, reason="no C++ compiler")


def observe(space, n: int | None, seed: int = 0):
    """One observation, or a batch of n."""
    space.seed(seed)
    drawn = [space.sample() for _ in range(n or 1)]
    if n is None:
        return drawn[0]
    return {k: np.stack([x[k] for x in drawn]) for k in drawn[0]} if isinstance(drawn[0], dict) else np.stack(drawn)


def predict(made, obs, deterministic=True):
    torch.manual_seed(5)
    return made.predict(obs, deterministic=deterministic)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("n", [None, 1, 13])
@pytest.mark.parametrize("deterministic", [False, True])
def test_actions_draws_and_shapes_are_stable_baselines3s(name, n, deterministic):
    made, obs = policy(name), observe(SPACES[name][0], n)
    state = (np.ones(3),)
    found, kept = made.predict(obs, state, deterministic=deterministic)
    assert kept is state
    found, _ = predict(made, obs, deterministic)
    after = torch.get_rng_state()
    assert (made._predict_at_once(obs, True) is None) == (build.why_not() is not None)
    with using(made, "plain"):
        expected, _ = predict(made, obs, deterministic)
    assert torch.equal(after, torch.get_rng_state())
    assert (type(found), found.dtype, found.shape) == (type(expected), expected.dtype, expected.shape)
    assert np.array_equal(found, expected)


@needs_compiler
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_after_predicting_is_obeyed(change, monkeypatch):
    from attn_rl.nn.encoder import FeedForward

    monkeypatch.setattr(FeedForward, "forward", FeedForward.forward)
    made, obs = policy(), observe(DICT, 200)
    predict(made, obs)
    change(made)
    found, _ = predict(made, obs, deterministic=False)
    with using(made, "plain"):
        assert np.array_equal(found, predict(made, obs, deterministic=False)[0])


@needs_compiler
@pytest.mark.parametrize("name", ["_predict", "get_distribution", "obs_to_tensor", "set_training_mode", "train"])
@pytest.mark.parametrize("whose", ["object", "class", "subclass"])
def test_a_replaced_method_is_called(name, whose, monkeypatch):
    made, obs, called = policy(), observe(DICT, None), []
    predict(made, obs)
    own = getattr(EntityAttentionPolicy, name)

    def replaced(self, *args, **kwargs):
        called.append(name)
        return own(self, *args, **kwargs)

    if whose == "object":
        monkeypatch.setattr(made, name, replaced.__get__(made))
    elif whose == "class":
        monkeypatch.setattr(EntityAttentionPolicy, name, replaced)
    else:
        made.__class__ = type("Sub", (EntityAttentionPolicy,), {name: replaced})
    predict(made, obs)
    assert called


@needs_compiler
def test_what_was_collected_is_adopted_before_the_first_action():
    """As ``set_training_mode(False)`` does, even where statistics came with weights just loaded."""
    made, obs = policy(), observe(DICT, None)
    predict(made, obs)
    normalizer = made.features_extractor.network.normalizer.types[0]
    before = normalizer.running_mean.clone()
    normalizer.pending_sum += 30.0
    normalizer.pending_square += 300.0
    normalizer.pending_count += 10
    predict(made, obs)
    assert not torch.equal(normalizer.running_mean, before)
    assert normalizer.pending_count == 0
    made.set_training_mode(True)
    predict(made, obs)
    assert not made.training


@needs_compiler
def test_arrays_of_another_form_are_taken_as_stable_baselines3_takes_them():
    made, obs = policy("plain"), observe(ROWS, 3)
    expected, _ = predict(made, obs)
    read_only = obs.copy()
    read_only.flags.writeable = False
    for other in (read_only, np.asfortranarray(obs), obs[::-1].copy()[::-1], obs.astype(np.float64)):
        assert np.array_equal(predict(made, other)[0], expected)
    assert predict(made, obs.tolist()[0])[0] == expected[0]
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        predict(made, obs[:, :4])
    with pytest.raises(ValueError, match="an action probability is NaN"):
        predict(made, np.full_like(obs, np.nan), deterministic=False)


@needs_compiler
def test_observations_are_left_as_they_are_and_actions_are_the_callers():
    made, obs = policy("plain"), observe(ROWS, 3)
    kept = obs.copy()
    first, _ = predict(made, obs)
    copied = first.copy()
    predict(made, obs[::-1].copy())
    assert np.array_equal(obs, kept)
    assert np.array_equal(first, copied)
