"""The rules of Boxes, on a game laid out by hand."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from attn_rl.envs.boxes import GEM, BoxesVectorEnv


@pytest.fixture
def env() -> BoxesVectorEnv:
    """First key 0. Way: slot 3 (0 -> 1), slot 1 (1 -> gem). Dead ends: slot 0 (0 -> 2), slot 4 (1 -> 3)."""
    env = BoxesVectorEnv(1, min_depth=2, max_depth=2, min_branches=1, max_branches=4, capacity=7)
    env.reset(seed=0)
    state = env.get_state()
    state["game.present"][:] = [[1, 1, 0, 1, 1, 0, 0]]
    state["game.lock"][:] = [[0, 1, 0, 0, 1, 0, 0]]
    state["game.content"][:] = [[2, GEM, 0, 1, 3, 0, 0]]
    state["game.level"][:] = [[-1, 1, -1, 0, -1, -1, -1]]
    env.set_state(state)
    env.shuffle = lambda state, random: None
    return env


def play(env, *slots):
    return [env.play(np.array([slot])) for slot in slots]


def test_the_way_to_the_gem(env):
    assert env.relevant()[0] == 3
    first, second = play(env, 3, 1)
    assert first[1].reward[0] == pytest.approx(0.2 - 0.02)
    assert not first[1].terminated[0]
    assert first[0]["items_present"].tolist() == [[1, 1, 0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(first[0]["ego"][0, :3], first[0]["items"][0, 1, :3])
    assert second[1].reward[0] == pytest.approx(1 - 0.02)
    assert second[1].terminated[0]
    assert second[1].success[0]


@pytest.mark.parametrize("slots", [(0,), (3, 4)])
def test_a_dead_end_is_final(env, slots):
    last = play(env, *slots)[-1]
    assert last[1].terminated[0]
    assert not last[1].success[0]
    assert last[1].reward[0] == pytest.approx(-0.02)
    assert env.relevant()[0] == -1


@pytest.mark.parametrize("slot", [1, 2, 4, 6])
def test_absent_and_locked_boxes_only_cost_a_step(env, slot):
    before = env.observation()
    obs, outcome, _ = play(env, slot)[0]
    assert outcome.reward[0] == pytest.approx(-0.02)
    assert not outcome.terminated[0]
    np.testing.assert_array_equal(obs["items"], before["items"])
    np.testing.assert_array_equal(obs["ego"][0, :3], before["ego"][0, :3])


def test_truncated_after_three_steps_a_box(env):
    *_, before, last = play(env, *[2] * 6)
    assert not before[2][0]
    assert last[2][0]


def test_a_longer_dead_end_goes_on_until_its_key_opens_nothing():
    env = gym.make_vec("AttnRL/Boxes-v0", num_envs=64, branch_length=2, capacity=17)
    obs, _ = env.reset(seed=1)
    rng = np.random.default_rng(0)
    went_on = 0
    for _ in range(20):
        fits = (obs["items"][..., :3] == obs["ego"][:, None, :3]).all(-1) & (obs["items_present"] == 1)
        assert fits.any(axis=1).all()
        obs, _, _, _, _ = env.step(np.argmax(rng.random(fits.shape) * fits, axis=1))
        went_on += (env.relevant() == -1).sum()
    assert went_on > 0


def test_all_colours_of_a_game_differ():
    env = BoxesVectorEnv(50, branch_length=2, capacity=17)
    obs, _ = env.reset(seed=3)
    for items, present, ego in zip(obs["items"], obs["items_present"], obs["ego"], strict=True):
        rows = items[present == 1]
        keys = [tuple(row[3:6]) for row in rows if not row[6]] + [tuple(ego[:3])]
        assert len(set(keys)) == len(keys) == len(rows)
        assert (0, 0, 0) not in keys


def test_no_branches_leave_only_the_chain():
    env = BoxesVectorEnv(20, min_branches=0, max_branches=0, capacity=3)
    obs, _ = env.reset(seed=0)
    counts = obs["items_present"].sum(axis=1)
    assert set(counts.tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"capacity": 7}, "max_entities=9 exceeds capacity=7; pass capacity=9"),
        ({"min_depth": 4}, "min_depth=4, max_depth=3; expected 1 <= min_depth <= max_depth"),
        ({"min_branches": -1}, "min_branches=-1, max_branches=3; expected 0 <="),
        ({"branch_length": 0}, "branch_length=0; expected 1 or more"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BoxesVectorEnv(1, **kwargs)
