"""Rewards over the running spread of discounted returns: their unit does not matter, and noise stays small."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from attn_rl import EntityAttentionPolicy, make_agent, make_vec_env
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.sb3.reward_scale import LIMIT, RewardScale, no_statistics
from attn_rl.training.loading import adapt


def scaled(rewards: np.ndarray, dones: np.ndarray, gamma: float = 0.9) -> tuple[np.ndarray, RewardScale]:
    """Rewards (T,B) as an agent would learn from them."""
    scale = RewardScale(rewards.shape[1], gamma, no_statistics())
    return np.stack([scale(*step) for step in zip(rewards, dones, strict=True)]), scale


def returns_from(rewards: np.ndarray, dones: np.ndarray, gamma: float) -> np.ndarray:
    """The discounted return from every step on, as far as the episode was played (T,B)."""
    found = np.zeros_like(rewards, np.float64)
    following = np.zeros(rewards.shape[1])
    for step in reversed(range(len(rewards))):
        following = rewards[step] + gamma * following * ~dones[step]
        found[step] = following
    return found


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_it_is_the_spread_of_the_returns_from_all_states(gamma: float):
    random = np.random.default_rng(0)
    rewards, dones = random.normal(size=(500, 4)).astype(np.float32), random.random((500, 4)) < 0.1
    found, scale = scaled(rewards, dones, gamma)
    returns = returns_from(rewards, dones, gamma)
    assert scale.scale == pytest.approx(returns.std(), rel=1e-12)
    assert scale.statistics["sum"] == pytest.approx(returns.sum(), rel=1e-9)
    np.testing.assert_allclose(found[-1], rewards[-1] / scale.scale, rtol=1e-6)


def test_episodes_paid_at_their_end_have_values_of_size_1_where_vec_normalize_makes_them_several_times_larger():
    dones = np.zeros((2000, 4), bool)
    dones[49::50] = True
    rewards = np.where(dones, np.random.default_rng(0).choice([-100.0, 100.0], dones.shape), 0).astype(np.float32)
    found, _ = scaled(rewards, dones, 0.99)
    assert 1 < abs(found[-1]).max() < 1.5  # what is still to be discounted
    env = DummyVecEnv([lambda i=i: Played(rewards[:, i], dones[:, i]) for i in range(4)])
    env = VecNormalize(env, norm_obs=False, gamma=0.99)
    env.reset()
    theirs = np.stack([env.step(np.zeros(4, int))[1] for _ in rewards])
    assert abs(theirs[-1]).max() > 5


class Played(gym.Env):
    """Hands out given rewards; an episode ends where ``dones`` says."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def __init__(self, rewards: np.ndarray, dones: np.ndarray):
        self.steps = iter(zip(rewards, dones, strict=True))

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        reward, done = next(self.steps)
        return np.zeros(1, np.float32), float(reward), bool(done), False, {}


@pytest.mark.parametrize("unit", [2.0**-20, 2.0**20])
def test_an_agent_learns_the_same_whatever_the_unit_of_its_rewards(unit, monkeypatch):
    weights = []
    for factor in (1.0, unit):
        env = make_vec_env("AttnRL/Seek-v0", 8, seed=0)
        settings = {"normalize_reward": True, "normalize_advantage": False, "max_abs_reward": 1e9}
        agent = make_agent(env, seed=0, n_steps=16, batch_size=64, **settings)
        step = agent.env.step

        def with_unit(actions, step=step, factor=factor):
            observation, rewards, dones, infos = step(actions)
            return observation, rewards * np.float32(factor), dones, infos

        monkeypatch.setattr(agent.env, "step", with_unit)
        agent.learn(1024)
        assert agent.return_statistics["squares"] > 0
        weights.append(agent.policy.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_nothing_rewarded_is_left_as_it_is_and_the_first_reward_is_within_bounds():
    rewards = np.zeros((1000, 4), np.float32)
    rewards[-1, 2] = 1e6
    found, _ = scaled(rewards, np.zeros((1000, 4), bool))
    assert (found[:-1] == 0).all()
    assert found[-1].tolist() == [0, 0, LIMIT, 0]
    assert scaled(rewards[:-1], np.zeros((999, 4), bool))[1].scale == 1.0


def test_rewards_that_never_differ_keep_values_within_bounds():
    found, scale = scaled(np.full((2000, 4), -1e5, np.float32), np.zeros((2000, 4), bool))
    assert scale.scale >= 0.099 * 1e6  # a tenth of what such rewards add up to at gamma .9
    assert abs(found).max() <= LIMIT
    assert abs(found[-1] / (1 - 0.9)).max() <= 10.1


def small_agent(**settings) -> EntityPPO:
    env = make_vec_env("AttnRL/Seek-v0", 4, seed=0)
    arguments = {"n_steps": 16, "batch_size": 32, "normalize_reward": True, "seed": 0, **settings}
    return EntityPPO(EntityAttentionPolicy, env, **arguments)


def test_the_scale_is_saved_with_the_model_and_an_adapted_agent_counts_for_itself(tmp_path: Path):
    agent = small_agent().learn(128)
    counted = dict(agent.return_statistics)
    assert counted["count"] == 128
    agent.save(tmp_path / "model.zip")
    again = EntityPPO.load(tmp_path / "model.zip", make_vec_env("AttnRL/Seek-v0", 4, seed=1))
    assert again.return_statistics == counted
    assert again.learn(64, reset_num_timesteps=False).return_statistics["count"] == 192
    adapt(agent, make_vec_env("AttnRL/Seek-v0", 4, seed=1)).learn(64)
    assert agent.return_statistics == counted
    assert isinstance(PPO.load(tmp_path / "model.zip"), PPO)


def test_rollouts_of_gsde_are_refused():
    env = DummyVecEnv([lambda: gym.make("AttnRL/Dodge-v0", continuous=True)])
    with pytest.raises(ValueError, match=r"normalize_reward=True and use_sde=True.*VecNormalize"):
        EntityPPO(EntityAttentionPolicy, env, normalize_reward=True, use_sde=True)
