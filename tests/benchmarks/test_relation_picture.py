"""The picture of relations shows a real network's weights."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from attn_rl import record_attention
from benchmarks import relation_picture as picture
from benchmarks.plots import sheet


def test_before_training_twins_look_at_each_other_and_products_do_not(tmp_path):
    agent, plain = picture.agent_of(0), picture.agent_of(0, relations="off")
    obs = agent.env.reset()
    record, without = record_attention(agent, obs), record_attention(plain, obs)
    names = record.feature_names["items"]
    colours = record.obs["items"][..., [names.index(name) for name in "rgb"]]
    twins = (np.abs(colours[:, :, None] - colours[:, None]).max(-1) < 1e-6) & record.slot_present[:, None]
    twins &= record.slot_present[:, :, None] & ~np.eye(twins.shape[1], dtype=bool)

    def weight_on_twins(found):
        pattern = found.layers[picture.LAYER].pattern[:, picture.comparing_head(record), found.lead :, found.lead :]
        return pattern[twins].mean()

    assert weight_on_twins(record) > 2 * weight_on_twins(without)
    with sheet(tmp_path / "out.png", 1, 3, 3.6) as (_, axes):
        picture.matrix(axes.flat[0], record.rows(slice(1)), 0, "one state")
    assert (tmp_path / "out.png").stat().st_size > 1000
