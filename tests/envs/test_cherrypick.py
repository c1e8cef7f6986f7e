"""CherryPick: the better half sums to one, and what cannot be picked is replaced by the worst."""

import gymnasium as gym
import numpy as np
import pytest

ID = "AttnRL/CherryPick-v0"


@pytest.mark.parametrize("count", [2, 3, 7, 32])
def test_the_better_half_sums_to_one(count):
    env = gym.make_vec(ID, num_envs=50, min_entities=count, max_entities=count, capacity=count + 3)
    obs, _ = env.reset(seed=0)
    best_first = -np.sort(-obs["cherries"][:, :count, 0], axis=1)
    np.testing.assert_allclose(best_first[:, : count // 2].sum(axis=1), 1, atol=1e-5)


def test_no_choice_of_cherries_beats_one():
    env = gym.make(ID, min_entities=5, max_entities=9, capacity=11)
    env.action_space.seed(0)
    for seed in range(50):
        env.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            _, reward, done, _, info = env.step(env.action_space.sample())
            total += reward
        assert total <= 1 + 1e-9
        assert info["is_success"] == (total >= 0.99)


def test_an_empty_slot_hands_out_the_worst():
    env = gym.make(ID, min_entities=6, max_entities=6, capacity=7)
    obs, _ = env.reset(seed=0)
    after, reward, *_ = env.step(6)
    assert reward == pytest.approx(obs["cherries"][:6, 0].min())
    assert after["cherries_present"].sum() == 5
