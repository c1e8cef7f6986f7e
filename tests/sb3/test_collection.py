"""Rollouts without SB3's work per step: what is stored and computed is SB3's, bit for bit."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecEnvWrapper

from attn_rl.sb3 import collection
from attn_rl.sb3.ppo import EntityPPO
from tests.sb3.test_ppo import DICT, ROWS, collected


@pytest.mark.parametrize("observation", [ROWS, DICT])
@pytest.mark.parametrize("action", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.Box(-1, 1, (2,))])
def test_a_rollout_is_stored_as_stable_baselines3_stores_it(observation, action, monkeypatch):
    found = []
    for stock in (True, False):
        monkeypatch.setattr(collection, "is_stock", lambda _buffer, stock=stock: stock)
        agent = collected(EntityPPO, observation, action)
        _, callback = agent._setup_learn(1000)
        torch.manual_seed(1)
        agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, agent.n_steps)
        buffer = agent.rollout_buffer
        assert buffer.full
        blocks = buffer.observations if isinstance(buffer.observations, dict) else {"": buffer.observations}
        names = ("actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")
        found.append([*blocks.values(), *(getattr(buffer, name) for name in names)])
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


class Counting(RolloutBuffer):
    added = 0

    def add(self, *args):
        self.added += 1
        super().add(*args)


def test_a_buffer_with_methods_of_its_own_is_asked():
    assert not collection.is_stock(Counting.__new__(Counting))
    agent = collected(EntityPPO, ROWS, spaces.Discrete(3), rollout_buffer_class=Counting)
    before = agent.rollout_buffer.added
    agent.collect_rollouts(agent.env, agent._setup_learn(10)[1], agent.rollout_buffer, agent.n_steps)
    assert agent.rollout_buffer.added == before + 8


class Another(VecEnvWrapper):
    """What a vector environment of somebody's own may return."""

    form = "whole rewards"

    def reset(self):
        return self._observation(self.venv.reset())

    def _observation(self, obs):
        return {key: torch.as_tensor(block) for key, block in obs.items()} if self.form == "tensors" else obs

    def step_wait(self):
        obs, rewards, dones, infos = self.venv.step_wait()
        if self.form == "whole rewards":
            rewards = np.rint(10 * rewards).astype(int)
        for info in infos:
            if self.form == "rows of one" and "terminal_observation" in info:
                info["terminal_observation"] = {k: x[None] for k, x in info["terminal_observation"].items()}
        return self._observation(obs), rewards, dones, infos


@pytest.mark.parametrize("form", ["whole rewards", "tensors", "rows of one"])
def test_vector_environments_that_stable_baselines3_takes_are_taken(form, monkeypatch):
    monkeypatch.setattr(Another, "form", form)
    buffers = []
    for algorithm in (PPO, EntityPPO):
        agent = collected(algorithm, DICT, spaces.Discrete(3))
        agent.env, agent._last_obs = Another(agent.env), None
        _, callback = agent._setup_learn(1000)
        torch.manual_seed(0)
        agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, agent.n_steps)
        buffers.append(agent.rollout_buffer)
    theirs, ours = buffers
    for name in ("actions", "values", "episode_starts"):
        assert np.allclose(getattr(ours, name), getattr(theirs, name), atol=1e-6)
    if form != "whole rewards":  # Stable-Baselines3 cuts off what it adds to an integer
        assert np.allclose(ours.advantages, theirs.advantages, atol=1e-5)
    assert np.abs(ours.rewards - theirs.rewards).max() < (1 if form == "whole rewards" else 1e-6)
