"""Several starts and beam search: as good as trying everything where there is room for it, and played again alike."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import make_agent, make_vec_env, solve
from attn_rl.training.beam import Beams, nth_likeliest

ROUTE = "AttnRL/Route-v0"
SMALL = {"min_entities": 3, "max_entities": 4}  # at most 3 x 2 x 1 ways


@pytest.fixture(scope="module")
def agent():
    return make_agent(make_vec_env(ROUTE, 2, env_kwargs=SMALL), seed=0)


def test_a_beam_with_room_for_every_way_finds_the_shortest(agent):
    """23 instances, three at a time: the last group is filled up, and short games end before long ones."""
    env = make_vec_env(ROUTE, 23, env_kwargs=SMALL)
    solved = solve(agent, env, 0, beam=6, seed=17)
    np.testing.assert_allclose(solved.beam.returns, solved.scripted.returns, rtol=1e-5)
    np.testing.assert_allclose(solved.beam.scores["tour_length"], solved.scripted.scores["tour_length"], rtol=1e-5)
    assert (solved.greedy.returns < solved.beam.returns - 1e-4).any()


def test_a_beam_of_one_is_greedy(agent):
    solved = solve(agent, make_vec_env(ROUTE, 11, env_kwargs=SMALL), 0, beam=1)
    np.testing.assert_allclose(solved.beam.returns, solved.greedy.returns, rtol=1e-6)
    assert [a.tolist() for a in solved.beam.actions] == [a.tolist() for a in solved.greedy.actions]


def test_a_start_from_everywhere_holds_the_greedy_one_and_finds_better(agent):
    env = make_vec_env(ROUTE, 11, env_kwargs=SMALL)
    one, all_ = (solve(agent, env, 0, starts=starts) for starts in (1, 3))
    np.testing.assert_array_equal(one.started.returns, one.greedy.returns)
    assert (all_.started.returns >= one.greedy.returns).all()
    assert (all_.started.returns > one.greedy.returns).any()
    assert one.beam is None


def test_actions_played_again_from_the_seed_end_the_same(agent):
    solved = solve(agent, make_vec_env(ROUTE, 5, env_kwargs=SMALL), 0, starts=2, beam=2, seed=17)
    for row in (solved.started, solved.beam):
        for i, actions in enumerate(row.actions):
            single = gym.make(ROUTE, **SMALL)
            single.reset(seed=17 + i)
            results = [single.step(action) for action in actions]
            assert results[-1][2]
            assert sum(result[1] for result in results) == pytest.approx(row.returns[i], rel=1e-5)


def test_the_likeliest_sequences_are_kept_and_those_that_ended_stay():
    """By hand: one instance, two beams, three actions, the last of them impossible."""
    beams = Beams(1, 2)
    first = np.log([[0.6, 0.4, 1e-300]] * 2)
    first[:, 2] = -np.inf
    assert [x.tolist() for x in beams.extend(first)] == [[0, 0], [0, 1]]
    beams.ended[0, 1] = True  # .4 stays
    rows, actions = beams.extend(np.log([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    np.testing.assert_allclose(np.exp(beams.score), [[0.42, 0.4]])
    assert (rows.tolist(), actions.tolist(), beams.ended.tolist()) == ([0, 1], [0, 0], [[False, True]])


def test_ranks_beyond_the_possible_actions_are_the_likeliest_one():
    log_probability = np.array([[-1.0, -np.inf, -0.5]])
    assert [int(nth_likeliest(log_probability, rank)[0]) for rank in range(5)] == [2, 0, 2, 2, 2]


def test_what_cannot_be_searched_is_refused(agent):
    env = make_vec_env(ROUTE, 3, env_kwargs=SMALL)
    for wrong in ({"beam": -1}, {"starts": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            solve(agent, env, 0, **wrong)
    with pytest.raises(ValueError, match="beam=4 needs as many sub-environments, got 3"):
        solve(agent, env, 0, beam=4)
    with pytest.raises(ValueError, match=r"beam=2 copies games.*native batch"):
        solve(agent, make_vec_env(ROUTE, 2, env_kwargs=SMALL, vec_env_cls=DummyVecEnv), 0, beam=2)
    continuous = make_vec_env("AttnRL/Dodge-v0", 2, env_kwargs={"continuous": True})
    with pytest.raises(ValueError, match="starts and beam need the probabilities of Discrete actions"):
        solve(make_agent(continuous, n_steps=2), continuous, 0, starts=1)
