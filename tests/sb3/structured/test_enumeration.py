"""Probabilities are exact: on random declarations, all legal actions are gone through."""

import numpy as np
import pytest
import torch

from attn_rl.sb3.structured.distribution import inexact
from tests.sb3.structured.enumeration import distribution, in_double, random_case, repeated

N_CASES, N_DRAWS = 220, 1000
SEEDS = range(N_CASES)


def table(head, scene, actions):
    """Log-probabilities of the legal actions."""
    return distribution(head, repeated(scene, len(actions))).log_prob(torch.tensor(actions))


def test_probabilities_sum_to_one_and_draws_come_as_often_as_they_are_likely():
    for seed in SEEDS:
        head, scene, actions = random_case(seed)
        assert len(set(actions)) == len(actions)
        torch.manual_seed(1000 + seed)
        with torch.no_grad():
            log_probs = table(head, scene, actions)
            many = distribution(head, repeated(scene, N_DRAWS))
            drawn = many.sample()
            told, again = many.log_prob(drawn), distribution(head, repeated(scene, N_DRAWS)).log_prob(drawn)
        with torch.no_grad():
            assert table(*in_double(head, scene), actions).exp().sum().item() == pytest.approx(1, abs=1e-9), seed
        place = {action: i for i, action in enumerate(actions)}
        index = torch.tensor([place[tuple(action)] for action in drawn.tolist()])
        assert (told - log_probs[index]).abs().max().item() < 1e-5, seed
        assert (again - log_probs[index]).abs().max().item() < 1e-5, seed
        assert tuple(many.mode()[0].tolist()) in place, seed
        check_frequencies(seed, index, N_DRAWS * log_probs.exp().double().numpy())


def check_frequencies(seed, index, expected):
    """Chi-square, rare actions together; by chance it fails about once in a million cases."""
    found = np.bincount(index, minlength=len(expected)).astype(float)
    rare = expected < 5
    cells = [*zip(found[~rare], expected[~rare], strict=True), (found[rare].sum(), expected[rare].sum())]
    chi2 = sum((a - b) ** 2 / b for a, b in cells if b > 0.5)
    freedom = max(len(cells) - 1, 1)
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5 + 8, (seed, chi2, freedom)


def entropy(log_probs):
    return -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum()


def gradients(head, value):
    weights = list(head.parameters())
    found = torch.autograd.grad(value, weights, allow_unused=True, retain_graph=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, weights, strict=True)])


def test_gradients_are_those_of_the_enumeration_and_so_is_the_entropy_where_it_is_exact():
    exact = 0
    for seed in SEEDS:
        head, scene, actions = random_case(seed)
        log_probs = table(head, scene, actions)
        if log_probs.requires_grad:  # the mean of the score is zero
            score = gradients(head, (log_probs.exp().detach() * log_probs).sum())
            assert score.abs().max().item() < 2e-5, seed
        if inexact(head.layout.arguments, head.layout.capacities):
            continue
        exact += 1
        found, expected = distribution(head, scene).entropy().sum(), entropy(log_probs)
        assert found.item() == pytest.approx(expected.item(), abs=2e-5), seed
        if expected.requires_grad and found.requires_grad:
            assert (gradients(head, found) - gradients(head, expected)).abs().max().item() < 2e-5, seed
    assert exact >= 150


def test_an_estimated_entropy_and_its_gradient_are_right_in_the_mean():
    torch.manual_seed(1)
    estimated, n = 0, 5_000
    for seed in SEEDS:
        head, scene, actions = random_case(seed, most=60)
        if not inexact(head.layout.arguments, head.layout.capacities) or estimated == 6:
            continue
        estimated += 1
        found = distribution(head, repeated(scene, n)).entropy()
        expected = entropy(table(head, scene, actions))
        error = 5 * found.std().item() / n**0.5 + 1e-4
        assert found.mean().item() == pytest.approx(expected.item(), abs=error), seed
        if found.requires_grad:
            found, expected = gradients(head, found.mean()), gradients(head, expected)
            assert float((found - expected).norm()) < 0.05 * float(expected.norm()) + 0.02, seed
    assert estimated == 6
