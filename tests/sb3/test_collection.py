"""Rollouts without SB3's work per step: what is stored and computed is SB3's, bit for bit."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

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
