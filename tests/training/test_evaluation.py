import numpy as np
import pytest
from stable_baselines3 import PPO

from attn_rl import EntityAttentionPolicy, make_agent, make_vec_env, record_attention
from attn_rl.inspection.measure import metrics
from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.nn.network import SetNetwork
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.training.evaluation import _TopEntity


@pytest.mark.parametrize("readout", ["ego", "learned", "mean", "max"])
def test_the_top_entity_is_the_records(readout):
    env = make_vec_env("AttnRL/Seek-v0", 31)
    agent = make_agent(env, seed=2, readout=readout, n_layers=2)
    obs = env.reset()
    watch = _TopEntity(agent)
    agent.predict(obs, deterministic=True)
    found = watch.top()
    watch.close()
    record = record_attention(agent, obs)
    assert (metrics.top_slot(record.entity_map(), record.slot_present) == found).all()
    assert len(np.unique(found)) > 1


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
