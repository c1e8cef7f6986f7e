from dataclasses import replace

import numpy as np
import pytest
import torch

from attn_rl import load, make_agent, make_vec_env
from attn_rl.training.loading import DoesNotFit, adapt
from attn_rl.training.run.agent_state import capture, restore_weights


def seek(capacity: int):
    return make_vec_env("AttnRL/Seek-v0", 5, seed=0, env_kwargs={"capacity": capacity})


@pytest.mark.parametrize("policy", ["attention", "deepsets"])
def test_adapt_keeps_every_weight_and_the_agent_goes_on_learning(policy: str, tmp_path):
    small = make_agent(seek(8), policy, seed=0, n_steps=16, batch_size=40)
    small.learn(80)
    large = adapt(small, seek(64))
    before = {name: value.clone() for name, value in large.policy.state_dict().items()}
    assert all(torch.equal(value, small.policy.state_dict()[name]) for name, value in before.items())
    large.learn(80)
    assert any(not torch.equal(value, large.policy.state_dict()[name]) for name, value in before.items())
    large.save(tmp_path / "large.zip")
    obs = seek(64).reset()
    again = load(tmp_path / "large.zip", trust=True)
    assert np.array_equal(large.predict(obs, deterministic=True)[0], again.predict(obs, deterministic=True)[0])


def test_adapted_to_more_slots_the_same_scene_gets_the_same_action_probabilities():
    small = make_agent(seek(8), seed=0)
    large = adapt(small, seek(23))
    obs = seek(8).reset()
    wide = {key: np.zeros((5, 23, *block.shape[2:]), block.dtype) for key, block in obs.items() if key != "ego"}
    for key, block in wide.items():
        block[:, :8] = obs[key]
    wide["ego"] = obs["ego"]
    probabilities = [
        agent.policy.get_distribution(agent.policy.obs_to_tensor(o)[0]).distribution.probs
        for agent, o in ((small, obs), (large, wide))
    ]
    assert torch.allclose(*probabilities, atol=1e-6)


def test_adapting_does_not_reseed_the_process():
    small = make_agent(seek(8), seed=0)
    draws = []
    for seed in (1, 2):  # seeded by the agent, both draws would be the same
        torch.manual_seed(seed)
        adapt(small, seek(9))
        draws.append(torch.rand(3))
    assert not torch.equal(*draws)


def test_a_flat_policy_cannot_take_more_slots():
    with pytest.raises(DoesNotFit, match="depend on the number of slots"):
        adapt(make_agent(seek(8), "flat"), seek(9))


def test_kinds_in_another_order_are_refused_though_every_shape_fits():
    env = make_vec_env("AttnRL/Seek-v0", 2, seed=0)
    agent, other = make_agent(env, seed=0, n_steps=8), make_agent(env, seed=1, n_steps=8)
    agent.learn(16)
    checkpoint = capture(agent)
    restore_weights(other, checkpoint)
    extractor = other.policy.features_extractor
    extractor.spec = replace(extractor.spec, kinds=dict(reversed(extractor.spec.kinds.items())))
    with pytest.raises(DoesNotFit, match="declares other features or kinds, or in another order"):
        restore_weights(other, checkpoint)


def test_a_bare_zip_needs_trust(tmp_path):
    make_agent(seek(8)).save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="trust=True"):
        load(tmp_path / "model.zip")


def test_a_wrong_path_says_so(tmp_path):
    with pytest.raises(ValueError, match="neither a run folder"):
        load(tmp_path / "nothing")
