"""Squad: what a shot takes, what is wasted, who is hurt, and what the masks say."""

import gymnasium as gym
import numpy as np
import pytest

ID = "AttnRL/Squad-v0"
MOVE, ATTACK = 0, 1


def duel(hit_points, shots, damage=0.0, distance=0.5):
    """Units in a row at x = 0, enemies ``distance`` to the right; rows keep their slots."""
    counts = {"units": len(shots), "enemies": len(hit_points)}
    env = gym.make_vec(ID, num_envs=1, min_entities=counts, max_entities=counts)
    env.reset(seed=0)
    env.shuffle = lambda state, random: None
    state = env._state
    state.unit_place[:], state.enemy_place[:] = 0, (distance, 0)
    state.unit_place[..., 1] = state.enemy_place[..., 1] = 0
    state.hit_points[:], state.shot[:], state.damage[:], state.reach[:] = hit_points, shots, damage, 1.0
    state.first_hit_points[:] = sum(hit_points)
    return env


def step(env, verbs, targets):
    return env.step(np.array([[*verbs, *targets]]))


def test_what_is_shot_beyond_the_last_hit_point_is_lost():
    env = duel([4, 6], [3, 3])
    obs, reward, *_ = step(env, [ATTACK, ATTACK], [0, 0])
    assert reward[0] == pytest.approx(4 / 10)
    assert obs["enemies_present"].tolist() == [[0, 1]]
    env = duel([4, 6], [3, 3])
    obs, reward, *_ = step(env, [ATTACK, ATTACK], [0, 1])
    assert reward[0] == pytest.approx(6 / 10)
    np.testing.assert_allclose(obs["enemies"][0, :, 2] * 8, [1, 3], atol=1e-6)


def test_an_attack_out_of_reach_hits_nothing_and_the_mask_says_so():
    env = duel([4], [3, 2], distance=0.95)
    env._state.reach[:] = [[0.9, 1.2]]
    assert env.observation()["valid_targets"][0, :, :, 0].tolist() == [[1, 0], [1, 1]]
    assert step(env, [ATTACK, ATTACK], [0, 0])[1][0] == pytest.approx(2 / 4)


def test_a_move_goes_towards_the_target_and_stops_there():
    env = duel([4], [1, 1], distance=0.95)
    env._state.unit_place[0, 1] = (0.9, 0)
    obs, *_ = step(env, [MOVE, MOVE], [0, 0])
    np.testing.assert_allclose(obs["units"][0, :, :2], [[0.16, 0], [0.95, 0]], atol=1e-6)


def test_enemies_hurt_the_nearest_unit_that_they_reach_or_follow_it():
    env = duel([8], [1, 1], damage=0.75, distance=0.5)
    env._state.unit_place[0, 1] = (-0.3, 0)
    obs, reward, *_ = step(env, [ATTACK, ATTACK], [0, 0])
    np.testing.assert_allclose(obs["units"][0, :, 2], [0.25, 1], atol=1e-6)
    assert reward[0] == pytest.approx(2 / 8 - 0.75 / 2)
    obs, *_ = step(env, [ATTACK, ATTACK], [0, 0])
    assert obs["units_present"].tolist() == [[0, 1]]
    np.testing.assert_allclose(obs["enemies"][0, 0, :2], [0.5, 0], atol=1e-6)
    obs, *_ = step(env, [ATTACK, ATTACK], [0, 0])
    np.testing.assert_allclose(obs["enemies"][0, 0, :2], [0.42, 0], atol=1e-6)


def test_the_script_spreads_its_shots_where_one_would_do():
    env = duel([3, 3], [3, 3], damage=[0.2, 0.1])
    verbs, targets = np.split(env.oracle(env.observation())[0], 2)
    assert verbs.tolist() == [ATTACK, ATTACK]
    assert sorted(targets.tolist()) == [0, 1]
