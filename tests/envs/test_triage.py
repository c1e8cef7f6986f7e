"""Triage: Smith's rule is optimal, and the regret is what it says."""

from itertools import permutations

import gymnasium as gym
import numpy as np
import pytest
from attn_rl.envs.triage import least_damage

ID = "AttnRL/Triage-v0"


def damage_in_order(order, hit_points, damage) -> float:
    tick, total = 0, 0.0
    for enemy in order:
        tick += hit_points[enemy]
        total += tick * damage[enemy]
    return total


def test_least_damage_is_the_best_of_all_orders():
    rng = np.random.default_rng(0)
    hit_points = rng.integers(1, 6, (7, 5))
    damage = rng.uniform(0.1, 1, (7, 5))
    hit_points[3, 2] = 0
    best = [
        min(damage_in_order(o, h, d) for o in permutations(np.flatnonzero(h)))
        for h, d in zip(hit_points, damage, strict=True)
    ]
    np.testing.assert_allclose(least_damage(hit_points, damage), best, rtol=1e-12)


def test_no_sequence_of_hits_beats_the_optimum_and_return_tells_regret():
    env = gym.make(ID)
    rng = np.random.default_rng(1)
    for episode in range(50):
        obs, _ = env.reset(seed=episode)
        total, done = 0.0, False
        while not done:
            action = env.unwrapped.oracle(obs) if rng.random() < 0.7 else env.action_space.sample()
            obs, reward, terminated, truncated, info = env.step(action)
            total += reward
            done = terminated or truncated
        assert terminated
        assert info["regret"] >= -1e-12
        assert info["regret"] == pytest.approx(-total - 1)
        assert info["is_success"] == (info["regret"] <= 0.02)


def test_a_blow_into_an_empty_slot_only_costs_a_tick():
    env = gym.make(ID, min_entities=2, max_entities=2, capacity=5)
    obs, _ = env.reset(seed=0)
    after, reward, *_ = env.step(4)
    assert reward < 0
    np.testing.assert_array_equal(np.sort(after["enemies"][:2], axis=0), np.sort(obs["enemies"][:2], axis=0))
    assert after["ego"][0] == pytest.approx(-reward)


def test_truncation_counts_the_rest_as_in_the_best_case():
    env = gym.make(ID, min_entities=3, max_entities=3, capacity=4)
    env.reset(seed=0)
    total, truncated = 0.0, False
    while not truncated:
        _, reward, terminated, truncated, info = env.step(3)
        assert not terminated
        total += reward
    # Nobody was ever hit, so what is still to come is the whole optimum.
    assert info["regret"] == pytest.approx(-total)
    assert not info["is_success"]


def test_batch_reports_regret_where_episodes_end():
    env = gym.make_vec(ID, num_envs=8)
    obs, _ = env.reset(seed=0)
    ended = np.zeros(8, bool)
    while not ended.any():
        obs, _, terminated, truncated, infos = env.step(env.oracle(obs))
        ended = terminated | truncated
    np.testing.assert_array_equal(infos["final_info"]["_regret"], ended)
    assert np.abs(infos["final_info"]["regret"][ended]).max() < 1e-12
