"""The rules of Dodge, on games laid out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from attn_rl.envs.dodge import EGO_RADIUS, STRIDE, DodgeVectorEnv

NORTH = 3


def scene(disc, velocity=(0.0, 0.0), ego=(0.0, 0.0), goal=(0.0, 0.9), radius=0.1, **kwargs) -> DodgeVectorEnv:
    env = DodgeVectorEnv(1, min_entities=1, max_entities=1, **kwargs)
    env.reset(seed=0)
    state = env.get_state()
    state["game.ego"][0], state["game.goal"][0] = ego, goal
    state["game.position"][0, 0], state["game.velocity"][0, 0], state["game.radius"][0, 0] = disc, velocity, radius
    env.set_state(state)
    return env


def play(env, action):
    return env.play(np.array([action]))


def test_walking_north_moves_a_stride_and_pays_for_getting_closer():
    obs, outcome, _ = play(scene((0.9, 0.0)), NORTH)
    np.testing.assert_allclose(obs["ego"][0, :2], [0, STRIDE], atol=1e-7)
    assert outcome.reward[0] == pytest.approx(0.5 * STRIDE - 0.005)


def test_walls_stop_the_walker():
    obs, _, _ = play(scene((0.9, 0.0), ego=(0.0, 0.99)), NORTH)
    assert obs["ego"][0, 1] == 1


def test_touching_a_disc_ends_the_game():
    _, outcome, _ = play(scene((0.0, 0.1 + EGO_RADIUS + STRIDE / 2), penalty=0.5), NORTH)
    assert outcome.terminated[0]
    assert not outcome.success[0]
    assert outcome.reward[0] == pytest.approx(-0.5 + 0.5 * STRIDE - 0.005)


def test_passing_through_a_disc_within_a_step_is_touching_it():
    """The two swap sides: before and after the step they are apart."""
    env = scene((0.0, 0.1), velocity=(0.0, -0.2), radius=0.05)
    assert play(env, NORTH)[1].terminated[0]


def test_a_near_miss_is_none():
    _, outcome, _ = play(scene((0.1 + EGO_RADIUS + 0.001, 0.0)), NORTH)
    assert not outcome.terminated[0]


def test_the_goal_ends_the_game_with_success():
    _, outcome, _ = play(scene((0.9, 0.0), goal=(0.0, STRIDE + 0.09)), NORTH)
    assert outcome.terminated[0]
    assert outcome.success[0]
    assert outcome.reward[0] == pytest.approx(1 + 0.5 * STRIDE - 0.005)


def test_a_disc_bounces_off_the_wall():
    env = scene((0.88, 0.5), velocity=(0.05, 0.01), ego=(0.0, -0.9))
    obs, _, _ = play(env, 0)
    np.testing.assert_allclose(obs["items"][0, 0, :2], [0.87, 0.51 + 0.9], atol=1e-6)
    np.testing.assert_allclose(obs["items"][0, 0, 3:5], [-5 / 3, 1 / 3], atol=1e-6)


def test_a_disc_in_the_way_is_relevant_and_one_beside_is_not():
    assert scene((0.0, 0.4)).relevant()[0] == 0
    assert scene((0.5, 0.4)).relevant()[0] == -1
    assert scene((0.0, -0.4)).relevant()[0] == -1
    assert scene((0.3, 0.6), velocity=(-0.05, 0.0)).relevant()[0] == 0


def test_a_continuous_step_is_cut_to_a_stride():
    for action, moved in [((0.0, 1.0), (0, STRIDE)), ((0.5, 0.0), (STRIDE / 2, 0)), ((1.0, 1.0), (0.8**0.5 * 0, 0))]:
        obs, _, _ = play(scene((0.9, -0.9), continuous=True), action)
        if action == (1.0, 1.0):
            moved = (STRIDE / 2**0.5, STRIDE / 2**0.5)
        np.testing.assert_allclose(obs["ego"][0, :2], moved, atol=1e-6)


def test_the_scripted_policy_is_the_same_walk_in_both_action_spaces():
    discrete, continuous = DodgeVectorEnv(16), DodgeVectorEnv(16, continuous=True)
    one, _ = discrete.reset(seed=1)
    two, _ = continuous.reset(seed=1)
    for _ in range(30):
        one = discrete.step(discrete.oracle(one))[0]
        two = continuous.step(continuous.oracle(two))[0]
    np.testing.assert_allclose(one["ego"], two["ego"], atol=1e-5)


def test_the_crowd_gets_harder_with_its_size():
    from tests.envs.catalogue import play as score

    crowded = DodgeVectorEnv(128, min_entities=32, max_entities=32)
    assert 0.3 < score(crowded, "oracle", 256)[0] < 0.65
