"""Several rollouts of the same game: judged against each other, in step, and the same after save and resume."""

from itertools import product

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionPolicy, make_agent, make_vec_env, solve
from attn_rl.sb3.compat import go_on_from
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.sb3.shared_baseline import play_the_same, share_baseline

SHOP = {"min_entities": 2, "max_entities": 3}


def shop(n_envs=6, vec_env_cls=None, seed=0):
    return make_vec_env("AttnRL/JobShop-v0", n_envs, seed=seed, env_kwargs=SHOP, vec_env_cls=vec_env_cls)


def agent(env=None, **settings):
    small = {"n_steps": 11, "batch_size": 33, "n_epochs": 1, "gae_lambda": 0.9, "seed": 5, "shared_baseline": 3}
    return make_agent(env or shop(), **(small | settings))


def test_advantages_are_taken_against_the_other_rollouts():
    advantages = np.array([[1, 2, 6, 5, 5, 8]], np.float32)  # two games, three rollouts of each
    shared = share_baseline(advantages, np.zeros((2, 6)), 3)
    assert shared.tolist() == [[1 - 4, 2 - 3.5, 6 - 1.5, 5 - 6.5, 5 - 6.5, 8 - 5]]
    assert shared.dtype == np.float32


def test_the_expected_gradient_stays():
    """All joint choices of three rollouts in a game of three actions, enumerated: REINFORCE, with and without."""
    probability, value = np.array([0.2, 0.3, 0.5]), np.array([1.0, 4.0, -2.0])
    score = np.eye(3) - probability  # gradient of log p(action) by the logits
    found = np.zeros((2, 3))
    for actions in product(range(3), repeat=3):
        chosen = list(actions)
        weight, advantages = probability[chosen].prod(), value[chosen][None]
        both = advantages, share_baseline(advantages, np.zeros((2, 3)), 3)
        found += [weight * (one.T * score[chosen]).mean(axis=0) for one in both]
    np.testing.assert_allclose(found[1], found[0], atol=1e-12)
    assert np.abs(found[0]).max() > 0.5


@pytest.mark.parametrize("cls", [None, DummyVecEnv])
def test_groups_play_the_same_games_and_different_groups_others(cls):
    """Over several episodes of different lengths, which depend on the game alone."""
    env, seen = shop(vec_env_cls=cls), []
    trained = agent(env)
    step = trained.env.step

    def watched(actions):
        obs, *rest = step(actions)
        seen.append((obs["machines_present"].sum(axis=1), rest[1]))
        return obs, *rest

    trained.env.step = watched
    trained.learn(66 * 2)
    dones = np.array([done for _, done in seen]).reshape(-1, 2, 3)
    assert dones.any(axis=0).all()
    assert (dones == dones[..., :1]).all()
    assert (dones[..., 0, 0] != dones[..., 1, 0]).any()


def test_rollouts_are_judged_against_each_other_and_the_critic_learns_what_it_did():
    shared, alone = (agent(learning_rate=0.0, shared_baseline=size) for size in (3, 1))
    torch.manual_seed(0)
    shared.learn(66)
    go_on_from(alone, play_the_same(alone.env, alone.env.reset(), 3, seed=5), np.ones(6, bool))  # in the same games
    torch.manual_seed(0)
    alone.learn(66, reset_num_timesteps=False)
    np.testing.assert_array_equal(shared.rollout_buffer.returns, alone.rollout_buffer.returns)
    sums = shared.rollout_buffer.advantages.reshape(11, 2, 3).sum(axis=-1)
    np.testing.assert_allclose(sums, 0, atol=1e-5)
    assert np.abs(alone.rollout_buffer.advantages.reshape(11, 2, 3).sum(axis=-1)).max() > 0.1


def test_saved_and_loaded_it_goes_on_in_groups(tmp_path):
    trained = agent().learn(66)
    trained.save(tmp_path / "model")
    loaded = type(trained).load(tmp_path / "model.zip", env=shop(9, seed=99), n_envs=9)
    assert loaded.shared_baseline == 3
    loaded.learn(99)
    assert len(solve(loaded, shop(4), 1).greedy.returns) == 4
    assert PPO.load(tmp_path / "model.zip").predict(shop().reset())[0].shape == (6,)


def test_a_number_that_does_not_divide_the_environments_is_refused():
    in_fours = EntityPPO(EntityAttentionPolicy, shop(), n_steps=4, batch_size=24, shared_baseline=4)
    with pytest.raises(ValueError, match=r"shared_baseline=4 does not divide n_envs=6"):
        in_fours.learn(66)  # it may act, and be judged, in any number of them
    assert agent(shared_baseline=4).shared_baseline == 2  # make_agent's, whose presets must serve any number
    with pytest.raises(ValueError, match=r"shared_baseline=0, expected a whole number from 1"):
        agent(shared_baseline=0)


class UntilOne(gym.Env):
    """Ends when the action says so."""

    observation_space = gym.spaces.Dict({"items": gym.spaces.Box(-9, 9, (3, 2))})
    action_space = gym.spaces.Discrete(2)
    forgets = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        random = np.random.default_rng() if self.forgets else self.np_random
        self.items = random.normal(size=(3, 2)).clip(-9, 9).astype(np.float32)
        return {"items": self.items}, {}

    def step(self, action):
        return {"items": self.items}, 0.0, bool(action), False, {}


class Forgetful(UntilOne):
    """Draws its games from a generator that no seed reaches."""

    forgets = True


@pytest.mark.parametrize(
    ("cls", "message"),
    [(UntilOne, "length must not depend on the actions"), (Forgetful, "of one seed began different games")],
)
def test_games_that_cannot_be_compared_step_by_step_are_refused(cls, message):
    with pytest.raises(ValueError, match=message):
        agent(make_vec_env(cls, 6)).learn(66)
