import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionExtractor, EntityAttentionPolicy, make_agent, make_vec_env, record_attention
from attn_rl.inspection.measure import metrics
from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.nn.network import SetNetwork
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.training.evaluation import _TopEntity, evaluate

DODGE = "AttnRL/Dodge-v0"


def check_top_entity(agent, obs) -> None:
    """What an evaluation takes for the entity most looked at is what the record says; not always the same one."""
    watch = _TopEntity(agent)
    agent.predict(obs, deterministic=True)
    found = watch.top()
    watch.close()
    record = record_attention(agent, obs)
    assert (metrics.top_slot(record.entity_map(), record.slot_present) == found).all()
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize("readout", ["ego", "learned", "mean", "max"])
def test_the_top_entity_is_the_records(readout):
    env = make_vec_env("AttnRL/Seek-v0", 31)
    agent = make_agent(env, seed=2, readout=readout, n_layers=2)
    check_top_entity(agent, env.reset())


@pytest.mark.parametrize("algorithm", [DQN, SAC])
def test_the_top_entity_is_the_records_for_other_algorithms(algorithm):
    env = make_vec_env("AttnRL/Dodge-v0", 31, env_kwargs={"continuous": algorithm is SAC})
    kwargs = {"features_extractor_class": EntityAttentionExtractor, "net_arch": [16]}
    agent = algorithm("MultiInputPolicy", env, policy_kwargs=kwargs, seed=2)
    check_top_entity(agent, env.reset())


class OwnNetwork(SetNetwork):
    """Attention that says nothing about its readout."""

    d_out = d_model = 6

    def __init__(self):
        super().__init__()
        self.attention = MultiHeadAttention(6, 2)

    def forward(self, ego, entities):
        (x, present), *_ = entities.values()
        return self.attention(x[:, :1], x, present)[:, 0], None


class OwnExtractor(EntityExtractor):
    def make_network(self, spec, pointer, network):
        return OwnNetwork()


def test_a_network_that_does_not_say_what_it_reads_is_evaluated_but_not_recorded():
    env = make_vec_env("AttnRL/Seek-v0", 3)
    agent = PPO(EntityAttentionPolicy, env, policy_kwargs={"features_extractor_class": OwnExtractor}, n_steps=2)
    assert not _TopEntity(agent).active
    with pytest.raises(NotImplementedError, match=r"OwnNetwork does not say which rows it reads; define readout_rows"):
        record_attention(agent, env.reset())


class Remember(gym.Env):
    """One cue, a few empty steps, and the question what it was: 1 for the right answer, else 0."""

    observation_space = gym.spaces.Dict(
        {"items": gym.spaces.Box(-1, 1, (2, 2), np.float32), "items_present": gym.spaces.MultiBinary(2)}
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue, self.t, self.length = self.np_random.integers(2), 0, self.np_random.integers(2, 5)
        return self.look(), {}

    def step(self, action):
        self.t += 1
        over = self.t == self.length
        return (
            self.look(),
            float(over and action == self.cue),
            bool(over),
            False,
            {"is_success": bool(action == self.cue)},
        )

    def look(self):
        items = np.zeros((2, 2), np.float32)
        items[0] = [2 * self.cue - 1, 1] if self.t == 0 else [0, -1]
        return {"items": items, "items_present": np.array([1, 0], np.int8)}


class FirstRow(BaseFeaturesExtractor):
    """The first entity's two features."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 2)

    def forward(self, observations):
        return observations["items"][:, 0]


def remembering(recurrent_ppo):
    """A RecurrentPPO whose LSTM holds the cue, set by hand: no memory, no success beyond chance."""
    kwargs = {
        "features_extractor_class": FirstRow,
        "lstm_hidden_size": 1,
        "shared_lstm": True,
        "enable_critic_lstm": False,
        "net_arch": [],
    }
    agent = recurrent_ppo(
        "MultiInputLstmPolicy", DummyVecEnv([Remember]), policy_kwargs=kwargs, n_steps=8, batch_size=8
    )
    lstm = agent.policy.lstm_actor
    with torch.no_grad():  # gates i, f, g, o: open by the flag in column 1, keep always
        lstm.weight_hh_l0.zero_()
        lstm.weight_ih_l0.copy_(torch.tensor([[0.0, 50], [0, 0], [50, 0], [0, 0]]))
        lstm.bias_ih_l0.copy_(torch.tensor([0.0, 50, 0, 50]))
        lstm.bias_hh_l0.zero_()
        agent.policy.action_net.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        agent.policy.action_net.bias.zero_()
    return agent


def test_a_recurrent_policy_is_evaluated_with_its_memory_and_every_episode_begins_without():
    contrib = pytest.importorskip("sb3_contrib")
    gym.register("Remember-v0", Remember)
    try:
        row = evaluate(remembering(contrib.RecurrentPPO), "Remember-v0", episodes=60, n_envs=3)
    finally:
        del gym.registry["Remember-v0"]
    assert (row.success_rate, row.mean_return) == (1.0, 1.0)
