"""solve: every instance is met again, the best of its episodes counts, and its actions can be played again."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from attn_rl.envs.core.state import State
from attn_rl.envs.job_shop_instances import l2d_instances
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import make_agent, make_vec_env, solve
from attn_rl.training.evaluation import evaluate
from attn_rl.training.solve import Solved
from attn_rl.training.symmetries import find_views

ROUTE, SHOP = "AttnRL/Route-v0", "AttnRL/JobShop-v0"
SMALL = {"min_entities": 3, "max_entities": 5}


@pytest.fixture(scope="module")
def agent():
    return make_agent(make_vec_env(ROUTE, 2, env_kwargs=SMALL), seed=0)


def test_greedy_is_what_evaluate_plays(agent):
    solved = solve(agent, make_vec_env(ROUTE, 11, env_kwargs=SMALL), 0)
    row = evaluate(agent, ROUTE, SMALL, episodes=11, n_envs=11)
    assert solved.greedy.returns.mean() == pytest.approx(row.mean_return)
    assert solved.greedy.scores["is_success"].mean() == pytest.approx(row.success_rate)
    assert solved.best is None


def test_more_samples_find_no_worse_and_somewhere_something_better(agent):
    env, found = make_vec_env(ROUTE, 23, env_kwargs=SMALL), []
    for samples in (1, 6):
        torch.manual_seed(3)
        found.append(solve(agent, env, samples).best.returns)
    assert (found[1] >= found[0]).all()
    assert (found[1] > found[0]).any()


def test_the_better_is_kept_instance_by_instance():
    one = Solved(np.array([1.0, 2, 5]), {"gap": np.array([7, 6, 5])}, [np.array([0])] * 3, 2.0)
    other = Solved(np.array([3.0, 0, 5]), {"gap": np.array([4, 3, 2])}, [np.array([1])] * 3, 3.0)
    one.keep_better(other)
    assert one.returns.tolist() == [3, 2, 5]
    assert one.scores["gap"].tolist() == [4, 6, 5]
    assert [actions.tolist() for actions in one.actions] == [[1], [0], [0]]
    assert one.means() == {"mean_return": 10 / 3, "gap": 5, "seconds": 5}


@pytest.mark.parametrize("cls", [None, DummyVecEnv])
def test_actions_played_again_from_the_seed_end_the_same(agent, cls):
    env = make_vec_env(ROUTE, 3, env_kwargs=SMALL, vec_env_cls=cls)
    solved = solve(agent, env, 4, seed=17)
    for row in (solved.greedy, solved.best, solved.scripted):
        for i, actions in enumerate(row.actions):
            single = gym.make(ROUTE, **SMALL)
            single.reset(seed=17 + i)
            results = [single.step(action) for action in actions]
            assert results[-1][2]
            assert sum(result[1] for result in results) == pytest.approx(row.returns[i], rel=1e-5)


def test_separate_copies_give_what_a_batch_gives(agent):
    found = []
    for cls in (None, DummyVecEnv):
        torch.manual_seed(0)
        found.append(solve(agent, make_vec_env(ROUTE, 3, env_kwargs=SMALL, vec_env_cls=cls), 2))
    for name in ("greedy", "best", "scripted"):
        np.testing.assert_allclose(getattr(found[0], name).returns, getattr(found[1], name).returns, rtol=1e-5)
    assert found[0].greedy.scores.keys() == {"is_success", "tour_length"}


def test_the_scripted_policy_solves_given_instances():
    """Non-delay, most work remaining on L2D's 6 x 6: 543.54 with ties by index."""
    env = make_vec_env(SHOP, 100)
    solved = solve(make_agent(env, seed=0), env, 1, options={"instances": l2d_instances(6, 6)})
    assert solved.scripted.scores["makespan"].mean() == pytest.approx(543.54, abs=1.5)
    assert solved.best.scores["rule_makespan"].mean() == pytest.approx(543.54)
    assert set(solved.means()) == {"greedy", "best", "scripted"}
    assert {"mean_return", "makespan", "gap", "seconds"} <= set(solved.means()["best"])


def test_eight_views_are_the_observations_of_turned_and_mirrored_cities():
    env = make_vec_env(ROUTE, 3, seed=0, env_kwargs=SMALL)
    batch = env.unwrapped.env.unwrapped
    obs, state, seen = env.reset(), batch._state, []
    views = find_views(env)
    assert len(views) == 8
    for view in views:
        seen.append(view(obs))
        # Which of the eight it is follows from the cities of the first game; the rules show all games from there.
        turn = np.linalg.lstsq(state.position[0], seen[-1]["cities"][0, :, :2].astype(float), rcond=None)[0].round(5)
        turned = batch.observe(State(**vars(state) | {"position": state.position @ turn}))
        for key, block in turned.items():
            np.testing.assert_allclose(seen[-1][key], block, atol=1e-5)
    assert len({one["cities"].tobytes() for one in seen}) == 8
    assert seen[0]["cities"].tolist() == obs["cities"].tolist()


def test_symmetries_are_used_where_declared(agent):
    solved = solve(agent, make_vec_env(ROUTE, 11, env_kwargs=SMALL), 0)
    assert (solved.symmetric.returns >= solved.greedy.returns).all()
    assert (solved.symmetric.returns > solved.greedy.returns).any()
    env = make_vec_env(SHOP, 2)
    assert solve(make_agent(env), env, 0).symmetric is None


@pytest.mark.parametrize(
    ("symmetries", "message"),
    [
        ({"cube": {}}, r"has \['cube'\]; expected \"square\""),
        ({"square": {"items": (("dx", "z"),)}}, r"names \('dx', 'z'\) of 'items'; expected two of its features"),
    ],
)
def test_symmetries_that_are_none_are_refused(symmetries, message):
    env = make_vec_env("AttnRL/Seek-v0", 1)
    env.metadata = {**env.metadata, "symmetries": symmetries}
    env.unwrapped.env.unwrapped.metadata["symmetries"] = symmetries
    with pytest.raises(ValueError, match=message):
        find_views(env)


class Forgetful(gym.Env):
    """Draws its games from a generator that no seed reaches."""

    observation_space = gym.spaces.Dict({"items": gym.spaces.Box(-9, 9, (3, 2))})
    action_space = gym.spaces.Discrete(2)
    drawn = np.random.default_rng(0)

    def reset(self, *, seed=None, options=None):
        return {"items": self.drawn.normal(size=(3, 2)).astype(np.float32)}, {}

    def step(self, action):
        return self.reset()[0], 0.0, True, False, {}


def test_an_environment_that_forgets_its_instances_is_refused():
    env = make_vec_env(Forgetful, 2)
    with pytest.raises(ValueError, match="began another game after seed"):
        solve(make_agent(env), env, 1)


@pytest.mark.parametrize("samples", [-1, 2.5])
def test_a_number_of_samples_that_is_none_is_refused(agent, samples):
    with pytest.raises(ValueError, match=f"samples={samples}"):
        solve(agent, make_vec_env(ROUTE, 2, env_kwargs=SMALL), samples)
