import numpy as np
import pytest

from attn_rl import make_agent, make_vec_env, record_attention
from attn_rl.inspection.measure import metrics
from attn_rl.training.evaluation import _TopEntity


@pytest.mark.parametrize("readout", ["ego", "learned", "mean", "max"])
def test_the_top_entity_is_the_records(readout):
    env = make_vec_env("envs:AttnRL/Seek-v0", 31)
    agent = make_agent(env, seed=2, readout=readout, n_layers=2)
    obs = env.reset()
    watch = _TopEntity(agent)
    agent.predict(obs, deterministic=True)
    found = watch.top()
    watch.close()
    record = record_attention(agent, obs)
    assert (metrics.top_slot(record.entity_map(), record.slot_present) == found).all()
    assert len(np.unique(found)) > 1
