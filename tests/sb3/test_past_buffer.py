"""Past steps are stored once, and every minibatch holds what the environment showed, bit for bit."""

from functools import partial

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer

from attn_rl import EntityAttentionPolicy, make_agent, make_vec_env
from attn_rl.sb3.past_buffer import PastBuffer
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.vec_envs.memory import VecMemory
from tests.toys import Toy

MEMORIES = [
    {"steps": 3},
    {"steps": 13, "actions": True, "rewards": True},
    {"steps": 5, "sightings": 2},
    {"steps": 1, "rewards": True},
]
SETTINGS = {"n_steps": 11, "batch_size": 17, "n_epochs": 2, "seed": 0}


def environment(memory, kind="Recall"):
    games = {
        "Recall": lambda: make_vec_env("AttnRL/Recall-v0", 3, seed=0),
        "Toy": lambda: make_vec_env(partial(Toy, masked=True, length=5), 3, seed=0),
        "CartPole": lambda: make_vec_env("CartPole-v1", 3, seed=0, env_kwargs={"max_episode_steps": 7}),
        "Pendulum": lambda: make_vec_env("Pendulum-v1", 3, seed=0, env_kwargs={"max_episode_steps": 9}),
    }
    return VecMemory(games[kind](), **memory)


class Copies(EntityPPO):
    """What is trained with SB3's own buffer, K copies of every step."""

    def _store_past_once(self):
        pass


def both(memory, kind):
    agents = [make(EntityAttentionPolicy, environment(memory, kind), **SETTINGS) for make in (EntityPPO, Copies)]
    assert [type(agent.rollout_buffer) for agent in agents] == [PastBuffer, DictRolloutBuffer]
    return agents


@pytest.mark.parametrize("memory", MEMORIES, ids=str)
@pytest.mark.parametrize("kind", ["Recall", "Toy", "CartPole", "Pendulum"])
def test_minibatches_hold_what_the_environment_showed(memory, kind):
    """Over two rollouts, with episodes that begin before, end and begin in them."""
    if kind in ("CartPole", "Pendulum"):
        memory = {name: value for name, value in memory.items() if name != "sightings"}
    lean, stock = both(memory, kind)
    for agent in (lean, stock):
        agent.lr_schedule = lambda left: 0.0  # two rollouts of one policy
        torch.manual_seed(0)
        agent.learn(60)
    found = []
    for agent in (lean, stock):
        np.random.seed(0)
        minibatches = [samples.observations for samples in agent._minibatches()()]
        found.append({key: torch.cat([part[key] for part in minibatches]) for key in minibatches[0]})
    assert found[0].keys() == found[1].keys()
    for key in found[0]:
        assert torch.equal(found[0][key].float(), found[1][key].float()), key
    told = next(key for key in found[0] if key.startswith("past_") and key.endswith("_present"))
    assert 0 < found[0][told].float().mean() < 1


def test_what_is_learned_is_the_same():
    lean, stock = both({"steps": 4, "actions": True}, "Recall")
    for agent in (lean, stock):
        torch.manual_seed(0)
        np.random.seed(0)
        agent.learn(99)
    weights = [agent.policy.state_dict() for agent in (lean, stock)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-6) for name in weights[0])


def test_plain_ppo_trains_from_it_too(tmp_path):
    lean, _ = both({"steps": 4}, "Recall")
    lean.learn(33)
    np.random.seed(0)
    ours = next(lean._minibatches()())
    np.random.seed(0)
    theirs = next(lean.rollout_buffer.get(17))
    assert all(torch.equal(ours.observations[key], theirs.observations[key]) for key in theirs.observations)
    lean.save(tmp_path / "agent")
    loaded = PPO.load(tmp_path / "agent", env=environment({"steps": 4}))
    loaded.learn(33)


def test_with_32_steps_the_buffer_stays_small():
    memory = environment({"steps": 32}, "CartPole")
    agent = make_agent(memory, n_steps=128, batch_size=64)
    agent.learn(1)
    copies = DictRolloutBuffer(128, memory.observation_space, memory.action_space, n_envs=3)
    assert size(agent.rollout_buffer) < 0.1 * size(copies)
    bare = size(copies) - sum(x.nbytes for key, x in copies.observations.items() if key.startswith("past_"))
    assert size(agent.rollout_buffer) <= 1.3 * bare


def size(buffer) -> int:
    """Bytes of all arrays of a buffer."""
    held = [*vars(buffer).values(), *buffer.observations.values()]
    for before in getattr(buffer, "before", {}).values():
        held += before
    held += getattr(buffer, "deeds", {}).values()
    return sum(x.nbytes for x in held if isinstance(x, np.ndarray))
