"""What must hold with all of it on: absent rows, order, nothing there, nothing allowed."""

import math
import random

import numpy as np
import pytest
import torch

from attn_rl import EntityAttentionPolicy, using
from attn_rl.actions import split_action
from attn_rl.backends.kernels.build import why_not
from attn_rl.sb3.structured.choices import Numbers
from attn_rl.sb3.structured.distribution import inexact
from attn_rl.sb3.structured.head import StructuredHead
from attn_rl.sb3.structured.subsets import AsSet
from tests.sb3.structured.enumeration import D_LATENT, Layout, distribution, random_scene, repeated
from tests.sb3.structured.test_agents import DECLARATIONS, MIXED, Battle, observations

N_CASES = 200


def make_policy(actions, seed=0):
    env = Battle(actions)
    torch.manual_seed(seed)
    policy = EntityAttentionPolicy(
        env.observation_space, env.action_space, lambda _: 1e-3, actions=env.actions, net_arch=[16]
    )
    for head in policy.action_net.heads:
        torch.nn.init.normal_(head.out.weight, std=0.3)
    policy.set_training_mode(False)
    return env, policy


def tensors(obs):
    return {key: torch.as_tensor(block) for key, block in obs.items()}


@pytest.mark.parametrize("actions", DECLARATIONS)
def test_garbage_in_absent_rows_changes_no_bit(actions):
    env, policy = make_policy(actions)
    obs = observations(env, N_CASES)
    with torch.no_grad():
        drawn, values, log_prob = policy(tensors(obs))
    spoilt = {key: block.copy() for key, block in obs.items()}
    rng = np.random.default_rng(0)
    for name in ("units", "enemies"):
        absent = spoilt[f"{name}_present"] == 0
        spoilt[name][absent] = rng.choice([np.nan, np.inf, -1e30, 7.0], (absent.sum(), spoilt[name].shape[-1]))
    with torch.no_grad():
        again, values_again, _ = policy(tensors(spoilt))
        modes = [policy._predict(tensors(each), deterministic=True) for each in (obs, spoilt)]
    assert torch.equal(modes[0], modes[1])
    assert torch.equal(values, values_again)
    told = [policy.evaluate_actions(tensors(each), drawn) for each in (obs, spoilt)]
    torch.testing.assert_close(told[0][1], told[1][1], rtol=0, atol=0)
    torch.testing.assert_close(log_prob, told[0][1].detach(), atol=1e-5, rtol=0)
    policy.zero_grad()
    (told[1][1].sum() + told[1][2].sum() + told[1][0].sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)
    assert env.action_space.contains(again[0].numpy().astype(env.action_space.dtype))


def test_what_absent_units_are_told_to_do_counts_nothing():
    """Entries of rows that are not asked may hold anything."""
    env, policy = make_policy("mixed")
    obs = tensors(observations(env, N_CASES))
    with torch.no_grad():
        drawn, _, log_prob = policy(obs)
        spoilt = drawn.clone()
        absent = obs["units_present"] == 0
        for start, high in ((1, 3), (4, 5), (7, 1), (8, 1)):  # verbs, targets, headings one by one
            columns = [start, start + 1, start + 2] if high > 1 else [start, start + 2, start + 4]
            spoilt[:, columns] = torch.where(absent, torch.full_like(spoilt[:, columns], high - 1), drawn[:, columns])
        _, told, entropy = policy.evaluate_actions(obs, spoilt)
    assert not torch.equal(drawn, spoilt)
    torch.testing.assert_close(told, log_prob, atol=1e-5, rtol=0)
    nobody = (obs["units_present"] == 0).all(-1)
    assert nobody.any()
    assert (entropy[nobody] <= math.log(2) + 1e-6).all()  # of the stance


def shuffled(obs, actions, order):
    """The same scenes with their rows in another order."""
    found = {key: block.copy() for key, block in obs.items()}
    for name in ("units", "enemies"):
        for key in (name, f"{name}_present"):
            found[key] = found[key][:, order[name]]
    for key in ("verbs", "near"):
        if key in found:
            found[key] = found[key][:, order["units"]]
    if "near" in found:
        found["near"] = found["near"][..., order["enemies"]]
    if "guards" in found:
        both = np.concatenate([order["units"], 3 + order["enemies"]])
        found["guards"] = found["guards"][:, order["units"]][..., both]
    return found


@pytest.mark.parametrize("actions", DECLARATIONS)
def test_another_order_of_the_rows_gives_the_same_actions_in_that_order(actions):
    env, policy = make_policy(actions)
    obs = observations(env, N_CASES)
    draw = np.random.default_rng(1)
    order = {name: draw.permutation(n) for name, n in env.counts.items()}
    obs["units_present"][:, 0] = obs["enemies_present"][:, 0] = 1
    if "near" in obs:  # where nothing can be chosen choice 0 is certain, which is another row then
        obs["near"][:] |= ~obs["near"].any(-1, keepdims=True)
        obs["near"] &= obs["enemies_present"][:, None, None]
        obs["near"][..., 0] |= ~obs["near"].any(-1)
        obs["verbs"][..., 0] = 1
    with torch.no_grad():
        first = policy._predict(tensors(obs), deterministic=True).numpy()
        second = policy._predict(tensors(shuffled(obs, actions, order)), deterministic=True).numpy()
    one, other = (split_action(env.actions, env.counts, found) for found in (first, second))
    back = {name: np.concatenate([p, [len(p)]]) for name, p in order.items()}  # new slot -> old slot; nothing stays
    both = np.concatenate([order["units"], 3 + order["enemies"], [8]])
    for name, fields in env.actions.items():
        expected, found = one[name], other[name]
        if "points_at" in fields:
            places = both if not isinstance(fields["points_at"], str) else back[fields["points_at"]]
            asked = (found != 0) | (expected[:, order["units"]] != 0) if fields.get("each") else np.ones(1, bool)
            found = np.where(asked, places[found], 0)
        if fields.get("each"):
            expected = expected[:, order["units"]]
        if fields.get("draw", "set") == "set" and fields.get("take"):
            expected, found = np.sort(expected), np.sort(found)
        agree = np.isclose(expected, found, atol=1e-4)
        if name == "target":  # slot 0 stands for "not asked" as well
            agree |= (other["verb"] != 2) & (other[name] == 0)
        assert agree.reshape(len(agree), -1).all(-1).mean() == 1, name


@pytest.mark.parametrize("actions", DECLARATIONS)
@pytest.mark.parametrize("nothing", ["rows", "masks", "both"])
def test_nobody_there_and_nothing_allowed_are_finite_and_certain(actions, nothing):
    env, policy = make_policy(actions)
    obs = observations(env, 5)
    for key, block in obs.items():
        is_mask = key in ("verbs", "near", "guards")
        if (is_mask and nothing != "rows") or (key.endswith("_present") and nothing != "masks"):
            block[:] = 0
    values, log_prob, entropy = policy.evaluate_actions(tensors(obs), policy(tensors(obs))[0])
    (values.sum() + log_prob.sum() + entropy.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)
    if nothing != "masks":
        found = split_action(env.actions, env.counts, policy.predict(obs)[0])
        for name, fields in env.actions.items():
            if name != "stance":
                free = fields.get("take") and 8 if name == "guards" else 5 if fields.get("take") else 0
                assert (found[name] == free).all()
        least = log_prob.detach()
        assert (least >= -10).all() if actions == "mixed" else (least == 0).all()
        assert (entropy == 0).all() or actions == "mixed"


def test_a_set_by_hand():
    """Weights 1, 2, 4: pairs weigh 2, 4 and 8."""
    scores = torch.tensor([1.0, 2.0, 4.0]).log().expand(1, 1, 3)
    found = AsSet(scores, torch.ones(1, 1, 3, dtype=torch.bool), 2)
    pairs = torch.tensor([[[0, 1]], [[0, 2]], [[1, 2]]])
    log_probs = torch.stack([found.log_prob(pair[None]).squeeze() for pair in pairs])
    torch.testing.assert_close(log_probs.exp(), torch.tensor([2.0, 4.0, 8.0]) / 14)
    assert found.entropy().item() == pytest.approx(-(log_probs.exp() * log_probs).sum().item(), abs=1e-6)
    torch.testing.assert_close(found.inclusion()[0, 0], torch.tensor([6.0, 10.0, 12.0]) / 14)
    assert found.draw(True)[0].tolist() == [[[1, 2]]]


def test_sets_of_many_keep_their_precision():
    torch.manual_seed(0)
    scores = (20 * torch.randn(3, 1, 100)).requires_grad_()
    found = AsSet(scores, torch.ones(3, 1, 100, dtype=torch.bool), 64)
    exact = AsSet(scores.double(), torch.ones(3, 1, 100, dtype=torch.bool), 64)
    values, log_prob = found.draw()
    assert [len(set(row)) for row in values[:, 0].tolist()] == [64] * 3
    torch.testing.assert_close(log_prob.double(), exact.log_prob(values), atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(found.entropy().double(), exact.entropy(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.inclusion().sum(-1), torch.full((3, 1), 64.0), atol=1e-2, rtol=0)


def test_numbers_are_a_gaussian_of_pytorch():
    torch.manual_seed(0)
    mean, log_std, values = torch.randn(5, 3, 2), torch.randn(2), torch.randn(5, 3, 2)
    expected = torch.distributions.Normal(mean, log_std.exp())
    found = Numbers(mean, log_std)
    torch.testing.assert_close(found.log_prob(values), expected.log_prob(values).sum(-1))
    torch.testing.assert_close(found.entropy(), expected.entropy().sum(-1))


def test_which_entropies_are_estimates_is_told():
    policy = make_policy("mixed")[1]
    assert inexact(policy.action_net.layout.arguments, {"units": 3, "enemies": 5}) == ()
    policy = make_policy("sets")[1]
    assert inexact(policy.action_net.layout.arguments, {"units": 3, "enemies": 5}) == ("route", "order")


def test_nan_in_a_row_that_is_there_is_an_error_not_an_action():
    env, policy = make_policy("mixed")
    obs = observations(env, 3)
    obs["units_present"][:], obs["units"][1, 0, 0] = 1, math.nan
    with pytest.raises(ValueError, match="an action probability is NaN"), torch.no_grad():
        policy(tensors(obs))


def test_more_capacity_only_pads():
    """Scenes in spaces of their own size and of a larger one: the same values, log-probabilities and entropies."""
    small = make_policy("mixed")[1]
    large_env = Battle("mixed", 7, 11)
    torch.manual_seed(0)
    large = EntityAttentionPolicy(
        large_env.observation_space, large_env.action_space, lambda _: 1e-3, actions=MIXED, net_arch=[16]
    )
    large.load_state_dict(small.state_dict())
    large.set_training_mode(False)
    env = Battle("mixed")
    obs = observations(env, N_CASES, seed=7)
    wide = {key: np.zeros((N_CASES, *part.shape), part.dtype) for key, part in large_env.observation_space.items()}
    for key, block in obs.items():
        wide[key][tuple(slice(0, n) for n in block.shape)] = block
    with torch.no_grad():
        drawn = small(tensors(obs))[0]
        parts = split_action(env.actions, env.counts, drawn.numpy())
        padded = [parts["stance"][:, None]]
        for name in ("verb", "target", "heading"):
            values = parts[name]
            full = np.zeros((N_CASES, 7, *values.shape[2:]), np.float32)
            full[:, :3] = values
            padded.append(full.reshape(N_CASES, -1))
        wider = torch.as_tensor(np.concatenate(padded, -1)).float()
        one, other = small.evaluate_actions(tensors(obs), drawn), large.evaluate_actions(tensors(wide), wider)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_target_sees_the_verb_unless_it_is_told_not_to():
    for sees, differ in ((None, True), ((), False)):
        target = {"points_at": "enemies"} | ({} if sees is None else {"sees": sees})
        layout = Layout({"verb": {"choices": 3}, "target": target}, {"units": 1, "enemies": 4})
        torch.manual_seed(0)
        head = StructuredHead(layout, D_LATENT)
        for part in head.heads:
            torch.nn.init.normal_(part.out.weight)
        scene = random_scene(layout, random.Random(3))
        scene.present["enemies"][:] = True
        found = distribution(head, repeated(scene, 12))
        pairs = torch.cartesian_prod(torch.arange(3), torch.arange(4))
        of_target = found.log_prob(pairs).view(3, 4).log_softmax(-1)
        assert (of_target.std(0).max().item() > 0.01) == differ


@pytest.mark.skipif(why_not() is not None, reason="no C++ compiler")
def test_kernels_and_modules_agree_where_nobody_is_there_to_point_at():
    env, policy = make_policy("sets")
    obs = observations(env, 64)
    obs["units_present"][:] = 0
    with torch.no_grad():
        drawn, _, log_prob = policy(tensors(obs))
        with using(policy, "plain"):
            told = policy.evaluate_actions(tensors(obs), drawn)[1]
    torch.testing.assert_close(told, log_prob, atol=1e-5, rtol=0)
