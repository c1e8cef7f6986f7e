"""Structured actions in PPO, EntityPPO and A2C: learning, files, more slots, resuming, and what is refused."""

import json
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionPolicy, explain, load, make_agent, make_vec_env, record_attention
from attn_rl.actions import action_space, split_action
from attn_rl.deployment.exportable import refuse_unknown
from attn_rl.inspection.measure.effects import absence
from attn_rl.inspection.measure.invariants import absent_leak, replay_error
from attn_rl.inspection.record.actor import Actor
from attn_rl.sb3.extractor import DeepSetsExtractor, FlatExtractor
from attn_rl.sb3.maskable import MaskableEntityAttentionPolicy
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.loading import adapt
from attn_rl.training.resizing import with_capacity

MIXED = {
    "stance": {"choices": ("calm", "angry")},
    "verb": {"each": "units", "choices": ("wait", "turn", "attack"), "mask": "verbs"},
    "target": {
        "each": "units",
        "points_at": "enemies",
        "when": {"verb": "attack"},
        "mask": "near",
        "mask_by": "verb",
    },
    "heading": {"each": "units", "continuous": 2, "when": {"verb": "turn"}},
}
SETS = {
    "leader": {"points_at": "units"},
    "guards": {"points_at": ("units", "enemies"), "take": 2, "mask": "guards", "mask_by": "leader"},
    "route": {"points_at": "enemies", "take": 3, "draw": "in_turn"},
    "order": {"points_at": "enemies", "take": 2, "draw": "ranking"},
}
DECLARATIONS = {"mixed": MIXED, "sets": SETS}
SMALL = {"n_steps": 6, "batch_size": 9, "n_epochs": 2, "seed": 0, "device": "cpu"}


class Battle(gym.Env):
    """Random observations; some rows are there; ``actions`` says what is asked."""

    def __init__(self, actions: str = "mixed", n_units: int = 3, n_enemies: int = 5) -> None:
        self.actions = DECLARATIONS[actions]
        self.counts = {"units": n_units, "enemies": n_enemies}
        self.metadata = {"render_modes": [], "actions": self.actions}
        blocks = {name: spaces.Box(-1, 1, (n, 2 + len(name)), np.float32) for name, n in self.counts.items()}
        blocks |= {f"{name}_present": spaces.MultiBinary(n) for name, n in self.counts.items()}
        masks = {
            "verbs": (n_units, 3),
            "near": (n_units, 3, n_enemies),
            "guards": (n_units, n_units + n_enemies),
        }
        wanted = {fields.get("mask") for fields in self.actions.values()}
        blocks |= {key: spaces.MultiBinary(shape) for key, shape in masks.items() if key in wanted}
        self.observation_space = spaces.Dict(blocks | {"ego": spaces.Box(-1, 1, (2,), np.float32)})
        self.action_space = action_space(self.actions, self.counts)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        reward = float(np.mean(action))
        return self.observation_space.sample(), reward, self.np_random.random() < 0.2, False, {}


def make_model(algorithm=PPO, actions="mixed", extractor=None, **settings):
    env = DummyVecEnv([lambda: Battle(actions)] * 3)
    kwargs = {"actions": DECLARATIONS[actions], "net_arch": [16]}
    if extractor is not None:
        kwargs["features_extractor_class"] = extractor
    wanted = {"n_steps": 6, "seed": 0, "device": "cpu"} if algorithm is A2C else SMALL
    return algorithm(EntityAttentionPolicy, env, policy_kwargs=kwargs, **{**wanted, **settings})


def observations(env, n, seed=0):
    env.observation_space.seed(seed)
    found = [env.observation_space.sample() for _ in range(n)]
    return {key: np.stack([one[key] for one in found]) for key in found[0]}


@pytest.mark.parametrize("actions", DECLARATIONS)
@pytest.mark.parametrize("algorithm", [PPO, EntityPPO, A2C])
def test_every_algorithm_learns_saves_and_loads(algorithm, actions, tmp_path):
    model = make_model(algorithm, actions).learn(36)
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())
    model.save(tmp_path / "model")
    again = algorithm.load(tmp_path / "model", device="cpu")
    obs = observations(Battle(actions), 7)
    np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], again.predict(obs, deterministic=True)[0])
    drawn = again.predict(obs)[0]
    assert all(Battle(actions).action_space.contains(action) for action in drawn)


@pytest.mark.parametrize("actions", DECLARATIONS)
def test_the_same_heads_stand_on_deep_sets(actions):
    make_model(EntityPPO, actions, DeepSetsExtractor).learn(18)


def test_the_probability_ratio_of_the_first_minibatch_is_exactly_one():
    for actions in DECLARATIONS:
        model = make_model(PPO, actions, n_steps=16, batch_size=48)
        found = []
        own = model.policy.evaluate_actions

        def evaluate(obs, actions, own=own, found=found):
            out = own(obs, actions)
            found.append(out[1].detach())
            return out

        model.policy.evaluate_actions = evaluate
        np.random.seed(3)
        model.learn(48)
        np.random.seed(3)
        order = np.random.permutation(48)
        old = model.rollout_buffer.log_probs.flatten()[order]
        np.testing.assert_allclose(found[0].numpy(), old, atol=2e-6)


def test_kernels_serve_the_network_and_the_heads_say_why_not():
    told = explain(make_model(EntityPPO))
    assert "acting: actor and critic by plain, because actions are structured: stance, verb, target, heading" in told
    assert "losses by plain, because actions are structured" in told
    if "no C++ compiler" not in told:
        assert "acting: network by kernels" in told
        assert "learning: network by kernels" in told


def test_make_agent_reads_the_declaration_off_the_environment(tmp_path):
    settings = {"n_steps": 8, "batch_size": 16, "n_epochs": 1}
    agent = make_agent(make_vec_env(Battle, 2, seed=0), seed=0, **settings)
    assert agent.policy.actions == MIXED
    agent.learn(16)
    assert "by plain, because actions are structured" in explain(agent)
    agent.save(tmp_path / "model.zip")
    again = load(tmp_path / "model.zip", trust=True)
    assert again.policy.actions == MIXED
    other = {"stance": {"choices": 2}, "leader": {"points_at": "units"}}
    env = make_vec_env(Toyless, 2, seed=0)
    assert make_agent(env, actions=other, **settings).policy.actions == other


class Toyless(Battle):
    """Declares nothing."""

    def __init__(self):
        super().__init__("sets")
        self.metadata = {"render_modes": []}
        self.observation_space = spaces.Dict({k: v for k, v in self.observation_space.items() if k != "guards"})
        self.action_space = spaces.MultiDiscrete([2, 3])


@pytest.mark.parametrize("actions", DECLARATIONS)
def test_more_slots_than_trained_with_change_nothing_about_those_that_were(actions):
    """The rows beyond the old ones are absent: choices, and how likely they are, stay what they were."""
    model = make_model(EntityPPO, actions)
    larger = adapt(model, with_capacity(model, {"units": 5, "enemies": 11}))
    small, large = Battle(actions), Battle(actions, 5, 11)
    obs = observations(small, 9)
    wide = {key: np.zeros((9, *space.shape), space.dtype) for key, space in large.observation_space.items()}
    for key, block in obs.items():
        if key != "guards":
            wide[key][tuple(slice(0, n) for n in block.shape)] = block
    if "guards" in obs:  # of several types: one after another
        wide["guards"][:, :3, :3], wide["guards"][:, :3, 5:10] = obs["guards"][..., :3], obs["guards"][..., 3:]
    found = split_action(small.actions, small.counts, model.predict(obs, deterministic=True)[0])
    expected = split_action(large.actions, large.counts, larger.predict(wide, deterministic=True)[0])
    for name, values in found.items():
        other = expected[name][:, :3] if small.actions[name].get("each") else expected[name]
        if name == "guards":
            other = np.where(other >= 16, 8, np.where(other >= 5, other - 2, other))
        elif small.actions[name].get("take"):
            other = np.minimum(other, 5)
        np.testing.assert_allclose(values, other, atol=1e-5)


def test_what_does_not_fit_is_refused_in_words():
    env = DummyVecEnv([Battle])

    def refused(message, actions=MIXED, **kwargs):
        with pytest.raises(ValueError, match=re.escape(message)):
            PPO(EntityAttentionPolicy, env, policy_kwargs={"actions": actions, **kwargs}, **SMALL)

    refused("leave one", pointer="units")
    refused("share_features_extractor=False does not go with structured actions", share_features_extractor=False)
    refused("no entity tokens to point at", features_extractor_class=FlatExtractor)
    refused("which are no entity types", {"tower": {"points_at": "towers"}, **MIXED})
    refused("the action space is Box", {**MIXED, "extra": {"each": "units", "choices": 2}})
    refused(
        "expected flags of shape (3, 5)", {**MIXED, "aim": {"each": "units", "points_at": "enemies", "mask": "verbs"}}
    )
    with pytest.raises(ValueError, match="does not go with structured actions"):
        PPO(EntityAttentionPolicy, env, policy_kwargs={"actions": MIXED}, use_sde=True, **SMALL)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({}, "expected a mapping of mappings"),
        ({"a": {"choice": 3}}, "has ['choice']; expected some of"),
        ({"a": {}}, "give one of choices, points_at and continuous"),
        ({"a": {"choices": 2, "points_at": "x"}}, "give one of choices, points_at and continuous"),
        ({"a": {"choices": ("x", "x")}}, "are not distinct"),
        ({"a": {"choices": 2}, "b": {"choices": 2, "when": {"a": (2,)}}}, "expected choices of an earlier argument"),
        ({"a": {"choices": 2, "when": {"b": (0,)}}}, "expected choices of an earlier argument"),
        ({"a": {"each": "x", "choices": 2}, "b": {"each": "y", "choices": 2, "sees": ("a",)}}, "depends on 'a'"),
        ({"a": {"each": "x", "choices": 2}, "b": {"choices": 2}}, "come before those of each entity"),
        ({"a": {"choices": 2, "take": 2}}, "expected points_at"),
        ({"a": {"points_at": "x", "take": 2, "draw": "often"}}, "draw='often'"),
        ({"a": {"points_at": "x", "take": 65}}, "expected at most 64"),
        ({"a": {"continuous": 2, "low": 1.0}}, "low < high"),
        ({"a": {"points_at": "x", "take": 2}, "b": {"choices": 2, "mask": "m", "mask_by": "a"}}, "is one choice"),
    ],
)
def test_a_wrong_declaration_is_refused_in_words(actions, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        action_space(actions, {"x": 3, "y": 2})


def test_spaces_and_parts_of_an_action_by_hand():
    counts = {"units": 2, "enemies": 3}
    assert action_space({"a": {"points_at": "enemies"}}, counts) == spaces.Discrete(3)
    assert action_space({"a": {"points_at": ("enemies", "units"), "take": 2}}, counts) == spaces.MultiDiscrete([6, 6])
    assert action_space({"a": {"choices": 4}, "b": {"each": "units", "choices": 5}}, counts) == spaces.MultiDiscrete(
        [4, 5, 5]
    )
    mixed = action_space({"a": {"choices": 4}, "b": {"each": "units", "continuous": 2, "high": 3.0}}, counts)
    np.testing.assert_array_equal(mixed.low, [0, -1, -1, -1, -1])
    np.testing.assert_array_equal(mixed.high, [3, 3, 3, 3, 3])
    found = split_action(
        {"a": {"choices": 4}, "b": {"each": "units", "continuous": 2}, "c": {"each": "units", "points_at": "enemies"}},
        counts,
        np.array([[3, 0.1, 0.2, 0.3, 0.4, 1, 2]], np.float32),
    )
    assert found["a"].tolist() == [3]
    np.testing.assert_allclose(found["b"], [[[0.1, 0.2], [0.3, 0.4]]])
    assert found["c"].tolist() == [[1, 2]]


def test_a_declaration_is_plain_data_and_survives_json():
    again = json.loads(json.dumps(MIXED))
    assert action_space(again, {"units": 2, "enemies": 3}) == action_space(MIXED, {"units": 2, "enemies": 3})


def test_what_structured_actions_do_not_go_into_says_so():
    agent = make_model()
    with pytest.raises(ValueError, match="drawn from a StructuredDistribution"):
        refuse_unknown(agent.policy)
    with pytest.raises(AttributeError, match="use PPO or A2C"):
        _ = agent.policy.action_dist.distribution
    env = DummyVecEnv([Battle])
    with pytest.raises(ValueError, match="knows no structured actions; use EntityAttentionPolicy"):
        MaskablePPO(
            MaskableEntityAttentionPolicy, DummyVecEnv([lambda: Battle("sets")]), policy_kwargs={"actions": SETS}
        )
    env.close()


def test_records_tell_who_points_at_whom():
    for actions in DECLARATIONS:
        model, obs = make_model(EntityPPO, actions).learn(18), observations(Battle(actions), 6)
        actor = Actor(model)
        record = record_attention(actor, obs)
        np.testing.assert_allclose(record.action, model.predict(obs, deterministic=True)[0], atol=1e-5)
        assert replay_error(actor, record) < 1e-5
        assert absent_leak(actor, record) == 0
        aims = record.pointing.sum(-1)
        if actions == "mixed":
            assert record.pointing_labels == ("units 0 target", "units 1 target", "units 2 target")
            parts = split_action(MIXED, {"units": 3, "enemies": 5}, record.action)
            asked = (parts["verb"] == 2) & (obs["units_present"] == 1)
            np.testing.assert_allclose(aims, asked, atol=1e-5)
            assert not record.pointing[..., 5:].any()  # slots of units
        else:
            route, order = ("route 1", "route 2", "route 3"), ("order 1", "order 2")
            assert record.pointing_labels == ("leader", "guards", *route, *order)
            turns = np.arange(3) < obs["enemies_present"].sum(-1, keepdims=True)
            np.testing.assert_allclose(aims[:, 2:5], turns, atol=1e-5)
        assert record.pointing.min() >= 0
        assert record.pointing.max() <= 1 + 1e-5
        found = absence(actor, record)["absence_kl"]
        assert np.isfinite(found[record.slot_present]).all()
        assert "target" in record._repr_html_() or actions == "sets"


def test_removing_a_target_changes_the_orders_of_those_who_point_at_it():
    model = make_model(EntityPPO)
    torch.manual_seed(0)
    for head in model.policy.action_net.heads:
        torch.nn.init.normal_(head.out.weight, std=2.0)
    obs = observations(Battle(), 32)
    obs["verbs"][:], obs["units_present"][:], obs["near"][:] = [0, 0, 1], 1, 1
    actor = Actor(model)
    record = record_attention(actor, obs)
    found = absence(actor, record)["absence_kl"][:, :5]
    aimed, there = record.pointing[..., :5].sum(1), record.slot_present[:, :5]
    alone = there.sum(-1) > 1
    assert found[alone][(aimed > 0.9)[alone]].min() > 1.0
