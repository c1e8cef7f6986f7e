"""The ablation builds every variant, and its table says what the rows say."""

import pytest
import torch

from attn_rl import make_vec_env
from benchmarks import ablation


@pytest.mark.parametrize("name", ablation.VARIANTS)
def test_a_variant_learns_with_all_of_its_weights(name):
    env = make_vec_env("AttnRL/Match-v0", 4, seed=0, env_kwargs={"rule": "odd"})
    variant = ablation.VARIANTS[name]
    agent = ablation.build(env, variant, seed=0)
    before = {key: x.clone() for key, x in agent.policy.named_parameters()}
    agent.learn(256, callback=ablation.Curriculum(10_000) if variant.curriculum else None)
    moved = {key for key, x in agent.policy.named_parameters() if not torch.equal(x, before[key])}
    if variant.change is not None:
        assert {key for key in before if "gates" in key or ".count" in key} <= moved
    assert len(moved) > len(before) / 2
    assert env.get_attr("max_entities")[0] == (6 if variant.curriculum else 9)


def test_the_table_gives_means_worst_seeds_and_medians():
    rows = [
        {
            "environment": "Seek",
            "variant": "2 heads",
            "success": str(0.5 + 0.25 * seed),
            "success_among_most": "0.5",
            "steps_to_0.95": "" if seed else "7000",
        }
        for seed in range(3)
    ]
    line = next(line for line in ablation.table(rows).splitlines() if line.startswith("| 2 heads"))
    assert line == "| 2 heads | 0.750 (0.500) | 0.500 (0.500) | never |"
