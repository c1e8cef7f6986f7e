"""Sweeps on Ray Tune; slow: Ray's processes start."""

from pathlib import Path

import pytest

pytest.importorskip("ray.tune")

import ray

from attn_rl.training.tune.on_ray import sweep_on_ray
from attn_rl.training.tune.space import search_space
from attn_rl.training.tune.trial import Sweep


@pytest.mark.slow
def test_a_sweep_runs_and_called_again_has_nothing_left_to_do(tmp_path: Path, tmp_path_factory):
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        _temp_dir=str(tmp_path_factory.mktemp("r")),
    )
    try:
        sweep = Sweep("AttnRL/Match-v0", total_timesteps=8192, eval_episodes=100)
        found = sweep_on_ray(sweep, search_space(["learning_rate"], "attention"), 3, 2, tmp_path)
        assert 1 <= len(found) <= 3
        assert all(set(changes) == {"learning_rate"} and 0 <= score <= 1 for changes, score in found)
        again = sweep_on_ray(sweep, search_space(["learning_rate"], "attention"), 3, 2, tmp_path)
        assert sorted(again, key=str) == sorted(found, key=str)
    finally:
        ray.shutdown()
