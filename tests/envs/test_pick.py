"""Pick: the optimum is the best of all subsets, and nothing is worth more."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

ID = "AttnRL/Pick-v0"


def worth(obs, slots):
    rows = obs["items"][list(slots)].astype(float)
    counts = rows[:, 1:].sum(0)
    return rows[:, 0].sum() + float(obs["ego"][0]) * (counts * (counts - 1) / 2).sum()


@pytest.mark.parametrize("take", [1, 2, 4])
def test_the_optimum_is_the_best_of_all_subsets(take):
    env = gym.make(ID, min_entities=take, max_entities=7, capacity=9, take=take)
    for seed in range(25):
        obs, _ = env.reset(seed=seed)
        subsets = list(itertools.combinations(np.flatnonzero(obs["items_present"]), take))
        values = [worth(obs, slots) for slots in subsets]
        best = subsets[int(np.argmax(values))]
        _, reward, terminated, _, info = env.step(np.array(best))
        assert reward == pytest.approx(1, abs=1e-5)
        assert terminated
        assert info["is_success"]
        env.reset(seed=seed)
        other = subsets[int(np.argmin(values))]
        assert env.step(np.array(other))[1] == pytest.approx(min(values) / max(values), abs=1e-5)


def test_nothing_an_empty_slot_and_a_repetition_are_worth_nothing():
    env = gym.make(ID, min_entities=5, max_entities=5, capacity=7)
    obs, _ = env.reset(seed=0)
    reward = env.step(np.array([2, 2, 6, 7]))[1]
    env.reset(seed=0)
    assert reward == pytest.approx(env.step(np.array([2, 7, 7, 7]))[1])
    assert reward * worth(obs, []) == 0
    env.reset(seed=0)
    assert env.step(np.array([7, 7, 7, 7]))[1] == 0


def test_takes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="take=9; expected 1 to 8"):
        gym.make(ID, take=9)
