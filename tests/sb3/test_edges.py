"""Edges through Stable-Baselines3: training, saving, more slots, guards, recording, resuming."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize

import benchmarks.graphs
from attn_rl import check, explain, load, make_agent, make_vec_env, record_attention
from attn_rl.backends.kernels import build
from attn_rl.deployment.exportable import ExportablePolicy, exportable_copy
from attn_rl.inspection.measure.invariants import absent_leak, replay_error
from attn_rl.inspection.measure.probe import make_probe
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.summary import compared
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.scenes import probe_scenes
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training import train
from attn_rl.vec_envs.guarded import GuardError
from tests.sb3.policies import make_policy, observe
from tests.training.run.test_resume import Unwatched, assert_same_run, killed, resume, run

NEXT_HOP = "benchmarks.graphs:Benchmarks/NextHop-v0"
SMALL = {"seed": 0, "n_steps": 8, "batch_size": 16, "n_epochs": 2, "n_layers": 2, "pointer": "nodes"}


def trained(**settings):
    return make_agent(make_vec_env(NEXT_HOP, 4, seed=0), **(SMALL | settings)).learn(64)


@pytest.fixture(scope="module")
def agent():
    return trained()


def test_it_trains_by_kernels(agent):
    if build.why_not() is None:
        said = explain(agent)
        assert "acting: network by kernels" in said
        assert "learning: network by kernels" in said
    weights = [layer.scores.weight for layer in agent.policy.features_extractor.network.edges.layers]
    fresh = make_agent(make_vec_env(NEXT_HOP, 4, seed=0), **SMALL).policy.features_extractor.network.edges.layers
    assert all(not torch.equal(weight, layer.scores.weight) for weight, layer in zip(weights, fresh, strict=True))


@pytest.mark.parametrize("settings", [{"edge_attention": "only"}, {"edge_attention": "off"}, {"edge_values": True}])
def test_every_mode_trains(settings):
    network = trained(**settings).policy.features_extractor.network
    assert (network.edges is not None) == (settings.get("edge_attention") != "off")


@pytest.mark.parametrize("policy", ["deepsets", "flat"])
def test_baselines_do_not_see_edges(policy):
    settings = {k: v for k, v in SMALL.items() if k not in ("n_layers", *["pointer"] * (policy == "flat"))}
    make_agent(make_vec_env(NEXT_HOP, 4, seed=0), policy, **settings).learn(32)


def test_saves_loads_and_predicts_to_the_bit(agent, tmp_path):
    agent.save(tmp_path / "model")
    loaded = load(tmp_path / "model.zip", env=make_vec_env(NEXT_HOP, 4, seed=0), trust=True)
    obs = make_vec_env(NEXT_HOP, 4, seed=7).reset()
    tensors, _ = agent.policy.obs_to_tensor(obs)
    with torch.no_grad():
        ours, theirs = (m.policy.get_distribution(tensors).distribution.logits for m in (agent, loaded))
    assert torch.equal(ours, theirs)


def test_the_same_graph_gets_the_same_answer_in_more_slots(agent, tmp_path):
    agent.save(tmp_path / "model")
    large = load(tmp_path / "model.zip", capacity={"nodes": 23, "edge": 69}, trust=True)
    env = make_vec_env(NEXT_HOP, 4, seed=7, env_kwargs={"capacity": 23})
    assert large.observation_space == env.observation_space
    obs, wide = make_vec_env(NEXT_HOP, 4, seed=7).reset(), {}
    for key, part in large.observation_space.spaces.items():
        wide[key] = np.full((4, *part.shape), -1 if key == "edge_index" else 0, part.dtype)
        wide[key][tuple(slice(n) for n in obs[key].shape)] = obs[key]
    np.testing.assert_array_equal(agent.predict(obs, deterministic=True)[0], large.predict(wide, deterministic=True)[0])


def test_an_edge_to_a_slot_that_there_is_not_is_refused(agent):
    env = agent.get_env()
    obs = env.reset()
    edge = int(np.flatnonzero(obs["edge_mask"][2])[0])
    obs["edge_index"][2, 1, edge] = 16
    with pytest.raises(
        GuardError, match=rf"environment 2, reset: observation 'edge_index'\[1, {edge}\] is 16, outside"
    ):
        env.check_observation(obs, "reset", range(4))
    with pytest.raises(GuardError, match=f"edge {edge} of 'edge' ends at slot 16 of 'nodes', which has 16"):
        agent.predict(obs)
    obs["edge_mask"][2, edge] = 0
    env.check_observation(obs, "reset", range(4))
    agent.predict(obs)


def test_edges_are_not_normalised_like_vectors():
    with pytest.raises(ValueError, match=r"VecNormalize scales \['edge_index'\]"):
        make_agent(VecNormalize(make_vec_env(NEXT_HOP, 4), norm_obs_keys=["edge_index"]), **SMALL)


def test_check_finds_nothing_to_repair():
    report = check(NEXT_HOP, steps=100)
    assert report.fits(), str(report)
    assert "48 edges from nodes to nodes" in str(report)


def test_a_record_names_the_edges_that_a_head_follows_with_the_weight_on_them(agent, tmp_path):
    obs = make_vec_env(NEXT_HOP, 5, seed=3).reset()
    record = record_attention(agent, obs)
    assert record.edge_types == ("edge", "edge reversed")
    pattern = record.layers[1].pattern  # the learned query first
    shares = []
    for s in range(5):
        ends = obs["edge_index"][s][:, obs["edge_mask"][s] > 0] + 1
        joined = np.zeros(pattern.shape[2:], bool)
        joined[ends[0], ends[1]] = True
        rows = joined.any(1)
        shares.append((pattern[s, 2] * joined).sum(1)[rows].mean())
    np.testing.assert_allclose(record.followed[:, 1, 2, 0], shares, rtol=1e-5)
    follows = record.follows()
    assert {(layer, head) for layer, head in follows} == {(i, h) for i in range(2) for h in range(4)}
    assert follows[0, 0].weight > follows[0, 0].equal  # as it started
    assert "follows most: layer 1, head 1: edge" in compared(record)
    assert record.compared() == {}  # edges are no comparison


def test_features_are_compared_beside_edges_only_where_asked():
    """Auto: edges say how entities are related, so that nothing is guessed from their features."""
    asked = trained(relations="features")
    found = record_attention(asked, make_vec_env(NEXT_HOP, 5, seed=3).reset()).compared()
    assert {strength.name.partition(".")[0] for strength in found.values()} == {"nodes"}  # not the edges
    assert trained(edge_attention="off").policy.features_extractor.network.relations is not None


def test_replay_and_leak_are_zero_and_the_record_survives_the_disk(agent, tmp_path):
    actor = Actor(agent, detached=True)
    record = record_attention(actor, make_vec_env(NEXT_HOP, 5, seed=3).reset())
    assert replay_error(actor, record) < 1e-5
    assert absent_leak(actor, record) == 0
    env = benchmarks.graphs.NextHopEnv()
    probe = make_probe(actor, probe_scenes(env, 16, 3, 0), env, 64, episode=False)
    assert any(tag.startswith("attention_edges/edge reversed/") for tag in probe.scalars)
    probe.save(tmp_path / "000000000064.npz")
    again = ProbeRecord.load(tmp_path / "000000000064.npz").record
    assert again.edge_types == probe.record.edge_types
    np.testing.assert_array_equal(again.followed, probe.record.followed)


def test_killed_and_resumed_is_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "AttentionCallback", Unwatched)
    graphs = ["--env", NEXT_HOP, "--pointer", "nodes", "--n-layers", "2"]
    run(tmp_path, "whole", *graphs)
    killed(4, lambda: run(tmp_path, "killed", *graphs), EntityPPO)
    resume(tmp_path / "killed", "--env", NEXT_HOP)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_a_policy_with_edges_can_be_exported():
    space = spaces.Dict(
        {
            "nodes": spaces.Box(-1, 1, (5, 3), np.float32),
            "nodes_present": spaces.MultiBinary(5),
            "edge_index": spaces.Box(-1, 4, (2, 9), np.int64),
            "edge_attr": spaces.Box(-1, 1, (9, 2), np.float32),
            "edge_mask": spaces.MultiBinary(9),
        }
    )
    policy = make_policy(space, spaces.Discrete(5), pointer="nodes", features_extractor_kwargs={"n_layers": 2})
    assert isinstance(exportable_copy(policy), ExportablePolicy)


def test_stock_policies_take_edges_through_the_extractor():
    from attn_rl import EntityAttentionExtractor

    policy = {
        "features_extractor_class": EntityAttentionExtractor,
        "features_extractor_kwargs": {"n_layers": 2, "edge_attention": "only"},
    }
    PPO("MultiInputPolicy", make_vec_env(NEXT_HOP, 4), n_steps=8, batch_size=16, policy_kwargs=policy).learn(32)


def test_ignored_keys_may_hold_anything():
    space = spaces.Dict(
        {"nodes": spaces.Box(-1, 1, (5, 3), np.float32), "removed_nodes": spaces.Box(0, 1, (2, 2, 2), np.float32)}
    )
    policy = make_policy(space, spaces.Discrete(5), features_extractor_kwargs={"ignore": ["removed_nodes"]})
    obs = observe(space)
    before = policy.predict_values(obs)
    obs["removed_nodes"].fill_(torch.nan)
    assert torch.equal(before, policy.predict_values(obs))
