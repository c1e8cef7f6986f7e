"""The module of RLlib computes what SB3's policy computes, and its statistics move once per train batch."""

import numpy as np
import pytest
import torch

pytest.importorskip("ray.rllib")

from ray.rllib.core.columns import Columns

from attn_rl import make_agent, make_vec_env
from attn_rl.ray import EntityRLModule, ppo_config
from attn_rl.ray.advantages import EntityAdvantages
from attn_rl.ray.round_trip import module_state
from attn_rl.sb3.reward_scale import FIELDS, RewardScale, no_statistics

ENVS = ("AttnRL/JobShop-v0", "AttnRL/Boxes-v0", "AttnRL/Seek-v0", "AttnRL/Triage-v0")
"""A pointer and a mask; a pointer; neither; a pointer among several dimensions."""


def module_of(env_id: str, **settings) -> EntityRLModule:
    return ppo_config(env_id, **settings).rl_module_spec.build()


def observations(env_id: str, n: int) -> dict[str, torch.Tensor]:
    """Observations (n,...) of n environments after some random steps."""
    env = make_vec_env(env_id, n, seed=3)
    obs = env.reset()
    for _ in range(3):
        if "action_mask" in obs:
            n_first = int(np.atleast_1d(getattr(env.action_space, "nvec", env.action_space.n))[0])
            actions = obs["action_mask"][:, :n_first].argmax(1)
        else:
            actions = np.array([env.action_space.sample() for _ in range(n)])
        obs = env.step(actions)[0]
    env.close()
    return {key: torch.as_tensor(block) for key, block in obs.items()}


@pytest.mark.parametrize("env_id", ENVS)
def test_logits_and_values_are_those_of_the_policy_of_sb3_and_the_tensors_the_same(env_id: str):
    agent = make_agent(make_vec_env(env_id, 2, seed=0), seed=5)
    module = module_of(env_id)
    module.set_state(module_state(agent))
    state = agent.policy.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.policy.state_dict().items())
    obs = observations(env_id, 1000)
    found = module.forward_train({Columns.OBS: obs})
    with torch.no_grad():
        distribution = agent.policy.get_distribution(obs)
        values = agent.policy.predict_values(obs).flatten()
    parts = getattr(distribution, "distribution", None)
    parts = parts if isinstance(parts, list) else [parts]
    expected = torch.cat([part.logits.log_softmax(-1) for part in parts], -1)
    sizes = [part.logits.shape[-1] for part in parts]
    logits = torch.cat([x.log_softmax(-1) for x in found[Columns.ACTION_DIST_INPUTS].split(sizes, -1)], -1)
    possible = expected > -1e30
    assert torch.equal(possible, logits > -1e30)
    assert (expected - logits)[possible].abs().max() <= 1e-6
    assert (values - module.compute_values({Columns.OBS: obs}, found[Columns.EMBEDDINGS])).abs().max() <= 1e-6


def test_forbidden_choices_are_never_drawn_and_divergence_and_entropy_stay_finite():
    module, obs = module_of("AttnRL/JobShop-v0"), observations("AttnRL/JobShop-v0", 64)
    inputs = module.forward_train({Columns.OBS: obs})[Columns.ACTION_DIST_INPUTS]
    assert torch.isfinite(inputs).all()
    assert (inputs < -1e38).any()
    cls = module.get_train_action_dist_cls()
    ours, other = cls.from_logits(inputs), cls.from_logits(inputs.detach() * 0.5)
    drawn = torch.stack([ours.sample() for _ in range(50)])
    assert (inputs.gather(1, drawn.T) > -1e38).all()
    total = (ours.kl(other) + ours.entropy()).sum()
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_no_forward_pass_moves_statistics_and_what_was_collected_counts_once_adopted():
    module, obs = module_of("AttnRL/Seek-v0"), observations("AttnRL/Seek-v0", 37)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    batch = {Columns.OBS: obs}
    for forward in (module.forward_train, module.forward_exploration, module.forward_inference, module.compute_values):
        forward(batch)
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
    module.collect(obs)
    running = [name for name in before if "running_" in name]
    assert all(torch.equal(dict(module.named_buffers())[name], before[name]) for name in running)
    module.adopt_statistics()

    policy = make_agent(make_vec_env("AttnRL/Seek-v0", 1, seed=0)).policy
    policy.set_training_mode(True)
    policy.evaluate_actions(obs, torch.zeros(37, dtype=torch.long))
    policy.set_training_mode(False)
    expected = dict(policy.named_buffers())
    for name, buffer in module.policy.named_buffers():
        torch.testing.assert_close(buffer, expected[name])
    assert not all(torch.equal(buffer, before[f"policy.{name}"]) for name, buffer in module.policy.named_buffers())


def test_weights_travel_once_under_one_name_and_a_missing_one_is_refused():
    module = module_of("AttnRL/Seek-v0")
    state = module.get_state()
    assert not any("pi_features_extractor" in name or "vf_features_extractor" in name for name in state)
    other = module_of("AttnRL/Seek-v0")
    other.set_state(state)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in module.state_dict().items())
    del state["policy.value_net.weight"]
    with pytest.raises(RuntimeError, match=r"value_net\.weight"):
        other.set_state(state)


class Chunk:
    """What the scale asks of an episode."""

    def __init__(self, id_: str, length: int) -> None:
        self.id_, self.length = id_, length

    def __len__(self) -> int:
        return self.length


def test_rewards_of_train_batches_are_counted_as_step_by_step():
    module = module_of("AttnRL/Seek-v0")
    connector = EntityAdvantages(gamma=0.9, gae_lambda=0.95, normalize_advantage=False, normalize_reward=True)
    random = np.random.default_rng(7)
    brought = random.normal(size=11)  # one episode of 5 steps, one of 6 whose last 3 come in the next batch
    first = np.concatenate([brought[:5], [0.0], brought[5:8], [0.0]])
    connector._scaled(module, "m", [Chunk("a_0", 6), Chunk("b_1", 4)], first)
    scaled = connector._scaled(module, "m", [Chunk("b_0", 4)], np.concatenate([brought[8:], [0.0]]))
    expected = RewardScale(1, 0.9, no_statistics())
    for reward, over in zip(brought, [t == 4 for t in range(11)], strict=True):
        expected(np.array([reward]), np.array([over]))
    found = dict(zip(FIELDS, module.reward_statistics.tolist(), strict=True))
    assert found == pytest.approx(expected.statistics, abs=1e-6)  # one rounds rewards to float32
    np.testing.assert_allclose(scaled[:3], brought[8:] / expected.scale, rtol=1e-5)
