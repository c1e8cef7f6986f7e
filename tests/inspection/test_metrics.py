"""Every metric against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from attn_rl.inspection.measure import metrics


def test_entropy_is_one_when_uniform_over_what_is_present_and_zero_on_one_token():
    weights = np.array([[1 / 3, 1 / 3, 1 / 3, 0, 0], [0, 1, 0, 0, 0], [0.5, 0.25, 0.25, 0, 0], [1, 0, 0, 0, 0]])
    present = np.array([[1, 1, 1, 0, 0]] * 3 + [[1, 0, 0, 0, 0]], bool)
    expected = [1, 0, 1.5 * np.log(2) / np.log(3), 0]
    np.testing.assert_allclose(metrics.entropy(weights, present), expected, atol=1e-12)


def test_mass_and_top1_are_unknown_where_nothing_is_relevant():
    weights = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [1.0, 0, 0]])
    slot = np.array([1, 0, -1])
    present = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1]], bool)
    np.testing.assert_array_equal(metrics.mass_on(weights, slot), [0.6, 0.2, np.nan])
    np.testing.assert_array_equal(metrics.mass_on(np.stack([weights] * 2, 1), slot)[:, 1], [0.6, 0.2, np.nan])
    np.testing.assert_array_equal(metrics.top1(weights, slot, present), [1, 1, np.nan])  # an absent slot cannot win
    assert metrics.mean(metrics.top1(weights, slot, present)) == 1


def test_top_slot_ignores_unknown_scores_and_empty_states():
    scores = np.array([[np.nan, 0.1, 0.9], [np.nan] * 3, [-3, -2, -1]])
    present = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
    np.testing.assert_array_equal(metrics.top_slot(scores, present), [1, -1, 2])


def test_ranks_put_absent_slots_last():
    scores = np.array([[0.2, 9.0, 0.5, 0.3]])
    np.testing.assert_array_equal(metrics.ranks(scores, np.array([[1, 0, 1, 1]], bool)), [[2, 4, 0, 1]])


def test_curve_area_stops_at_the_number_of_entities():
    similarity = np.array([[1, 0.5, 0.0, 7.0], [1, 1, 1, 0.2]])
    present = np.array([[1, 1, 0], [1, 1, 1]], bool)
    np.testing.assert_allclose(metrics.curve_area(similarity, present), [0.5, 0.8])


def test_scaled_is_zero_at_random_and_one_at_the_oracle():
    assert metrics.scaled(3, 2, 4) == 0.5
    assert metrics.scaled(-0.2, -0.4, -0.2) == pytest.approx(1)
    assert np.isnan(metrics.scaled(1, 2, 2))


@pytest.fixture
def two_layers():
    random = np.random.default_rng(7)
    first = random.dirichlet(np.ones(5), (3, 2, 5))
    last = random.dirichlet(np.ones(5), (3, 2, 1))
    return first, last


def test_rollout_multiplies_half_identity_matrices(two_layers):
    first, last = two_layers
    matrix = 0.5 * first.mean(1) + 0.5 * np.eye(5)
    row = 0.5 * last.mean(1)[:, 0] + 0.5 * np.eye(5)[0]
    expected = np.einsum("sk,skj->sj", row, matrix)
    rolled = metrics.rollout([first, last], np.ones((3, 1)))
    np.testing.assert_allclose(rolled, expected)
    np.testing.assert_allclose(rolled.sum(-1), 1)


def test_gradient_attention_follows_the_recursion(two_layers):
    first, last = two_layers
    random = np.random.default_rng(8)
    gradients = [random.normal(size=first.shape), random.normal(size=last.shape)]
    relevance = np.eye(5)[None] + np.maximum(first * gradients[0], 0).mean(1)  # R = I + A1 I
    row = relevance[:, 0] + np.einsum("sqk,skj->sj", np.maximum(last * gradients[1], 0).mean(1), relevance)
    expected = row - np.eye(5)[0]  # what the residual stream alone carries is no attention
    np.testing.assert_allclose(metrics.gradient_attention([first, last], gradients, np.ones((3, 1))), expected)
