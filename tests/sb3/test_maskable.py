"""MaskablePPO: its masks and presence together, and nothing valid at all."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

pytest.importorskip("sb3_contrib")

from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import record_attention
from attn_rl.sb3.maskable import MaskableEntityAttentionPolicy
from tests.sb3.policies import make_policy, observation_space, observe
from tests.toys import Toy

N = 7


def masked_probabilities(policy, observation, masks):
    distribution = policy.get_distribution(observation, masks)
    found = getattr(distribution, "distributions", None) or [distribution.distribution]
    return [part.probs for part in found], distribution


def test_masks_forbid():
    space = observation_space(N)
    policy = make_policy(space, spaces.Discrete(5), MaskableEntityAttentionPolicy)
    masks = torch.rand(11, 5) < 0.5
    masks[0] = False
    masks[1] = torch.arange(5) == 3
    (probs,), distribution = masked_probabilities(policy, observe(space, 11), masks.numpy())
    some = masks.any(-1)
    assert (probs[some][~masks[some]] == 0).all()
    assert (probs[some][masks[some]] > 0).all()
    assert probs[0].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]  # nothing valid: choice 0, never a uniform draw
    assert float(probs[1, 3]) == 1.0
    assert torch.isfinite(distribution.entropy()).all()


def test_masks_and_presence_both_count_and_neither_lets_the_other_draw_among_the_invalid():
    space = observation_space(N)
    policy = make_policy(space, spaces.Discrete(N), MaskableEntityAttentionPolicy, pointer="items")
    observation = observe(space, 101)
    present, masks = observation["items_present"] > 0.5, torch.rand(101, N) < 0.4
    valid = masks & present
    (probs,), distribution = masked_probabilities(policy, observation, masks.numpy())
    some = valid.any(-1)
    assert (~some & masks.any(-1) & present.any(-1)).any()  # the case that is easily got wrong
    assert (probs[some][~valid[some]] == 0).all()
    assert (probs[some][valid[some]] > 0).all()
    assert (probs[~some] == torch.eye(N)[0]).all()
    assert torch.isfinite(distribution.entropy()).all()
    assert torch.isfinite(distribution.log_prob(probs.argmax(-1))).all()


def test_verbs_and_a_pointer_with_concatenated_masks():
    space = observation_space(N)
    policy = make_policy(space, spaces.MultiDiscrete([3, N]), MaskableEntityAttentionPolicy, pointer="items")
    observation = observe(space, 101)
    present, masks = observation["items_present"] > 0.5, torch.rand(101, 3 + N) < 0.4
    (verb, target), _ = masked_probabilities(policy, observation, masks.numpy())
    for probs, valid in ((verb, masks[:, :3]), (target, masks[:, 3:] & present)):
        some = valid.any(-1)
        assert (probs[some][~valid[some]] == 0).all()
        assert (probs[some][valid[some]] > 0).all()
        assert (probs[~some] == torch.eye(probs.shape[1])[0]).all()


def test_without_masks_it_is_the_unmasked_policy():
    space = observation_space(N)
    policy = make_policy(space, spaces.Discrete(N), MaskableEntityAttentionPolicy, pointer="items")
    observation = observe(space)
    (free,), _ = masked_probabilities(policy, observation, None)
    (full,), _ = masked_probabilities(policy, observation, np.ones((5, N), dtype=bool))
    torch.testing.assert_close(free, full)


@pytest.mark.parametrize(
    ("action_space", "pointer", "masked"),
    [(None, "items", False), (None, "items", True), (None, None, True), (spaces.MultiDiscrete([3, 5]), "items", True)],
)
def test_learns_saves_loads_and_predicts_to_the_bit(action_space, pointer, masked, tmp_path):
    env = DummyVecEnv([lambda: Toy(action_space, masked=masked)] * 3)
    model = MaskablePPO(
        MaskableEntityAttentionPolicy, env, n_steps=4, batch_size=6, n_epochs=2, policy_kwargs={"pointer": pointer}
    )
    model.learn(24)
    model.save(tmp_path / "model")
    loaded = MaskablePPO.load(tmp_path / "model")
    observation = env.reset()
    masks = np.stack(env.env_method("action_masks"))
    for deterministic in (True, False):
        torch.manual_seed(5)
        chosen, _ = model.predict(observation, action_masks=masks, deterministic=deterministic)
        torch.manual_seed(5)
        again, _ = loaded.predict(observation, action_masks=masks, deterministic=deterministic)
        assert np.array_equal(chosen, again)
    if not hasattr(model.action_space, "nvec"):
        record = record_attention(model, observation)  # of the policy before action_masks() has a say
        assert np.array_equal(record.action, model.predict(observation, deterministic=True)[0])
        assert record.layers[0].pattern.shape[0] == 3
    for a, b in zip(model.policy.state_dict().values(), loaded.policy.state_dict().values(), strict=True):
        assert torch.equal(a, b)
