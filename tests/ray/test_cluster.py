"""RLlib itself: training, the way back, killed runners, checkpoints in a fresh process. Slow: Ray's processes start."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray.rllib")

import ray

from attn_rl import load
from attn_rl.inspection.measure.record_file import recorded_steps
from attn_rl.inspection.tensorboard.page.page import write_page
from attn_rl.ray import AttentionCallback, from_sb3, ppo_config, to_sb3

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("r")  # short: sockets have names of at most 107 bytes
    ray.init(num_cpus=3, include_dashboard=False, object_store_memory=100 << 20, _temp_dir=str(folder))
    yield
    ray.shutdown()


@pytest.fixture
def built(cluster):
    """Builds algorithms, and stops them."""
    made = []

    def build(config):
        made.append(config.build_algo())
        return made[-1]

    yield build
    for algorithm in made:
        algorithm.stop()


def small(env_id: str = "AttnRL/Boxes-v0", **settings):
    return ppo_config(env_id, n_envs=8, **{"total_timesteps": 512, "n_steps": 32, "batch_size": 64, **settings})


def test_there_and_back_the_tensors_are_the_same_bits_and_commands_open_the_run(built, tmp_path: Path):
    watched = functools.partial(AttentionCallback, every=1, n_scenes=4, n_pictures=2, folder=tmp_path / "trial")
    algorithm = built(small(normalize_reward=True).callbacks(watched))
    for _ in range(2):
        algorithm.train()
    assert recorded_steps(tmp_path / "trial") == [256, 512]
    assert (tmp_path / "trial" / "probe.npz").exists()
    write_page(tmp_path / "trial", tmp_path / "page.html")
    run = to_sb3(algorithm, tmp_path / "runs", name="back")
    state = algorithm.learner_group.get_weights()["default_policy"]
    agent = load(run)
    assert agent.num_timesteps == 512
    for name, tensor in agent.policy.state_dict().items():
        if f"policy.{name}" in state:
            assert np.array_equal(state[f"policy.{name}"], tensor.numpy()), name
    assert json.loads((run / "args.json").read_text())["env"] == "AttnRL/Boxes-v0"
    with pytest.raises(ValueError, match="trust=True"):
        to_sb3(algorithm.save_to_path(tmp_path / "checkpoint"), tmp_path / "runs")
    again = load(to_sb3(tmp_path / "checkpoint", tmp_path / "runs", trust=True))
    moments, theirs = (each.policy.optimizer.state_dict()["state"] for each in (again, agent))
    assert moments
    assert all(np.array_equal(moments[i]["exp_avg"], theirs[i]["exp_avg"]) for i in moments)
    other = built(from_sb3(run))
    begun = other.learner_group.get_weights()["default_policy"]
    assert all(np.array_equal(begun[name], value) for name, value in state.items())
    played = other.env_runner.module.get_state()
    assert all(np.array_equal(played[name], value) for name, value in state.items())
    for command in (["evaluate", str(run), "--episodes", "8"], ["record", str(run), "--out", str(tmp_path / "p.npz")]):
        done = subprocess.run(
            [sys.executable, "-m", "attn_rl", *command], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0, done.stderr


def test_a_killed_runner_is_replaced_and_training_goes_on(built):
    algorithm = built(small().env_runners(num_env_runners=2, num_envs_per_env_runner=4))
    algorithm.train()
    pid = algorithm.env_runner_group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)[0]
    os.kill(pid, 9)
    steps, lost, restarts = [], False, 0
    while not restarts and len(steps) < 600:  # training goes on at once, the process comes back after a while
        result = algorithm.train()
        steps.append(result["env_runners"]["num_env_steps_sampled_lifetime"])
        lost |= result["fault_tolerance"]["num_healthy_workers"] == 1
        restarts = result["fault_tolerance"]["num_remote_worker_restarts"]
    assert lost
    assert restarts == 1
    assert steps == sorted(set(steps))


GO_ON = """
import sys
import ray
from ray.rllib.algorithms.algorithm import Algorithm
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, _temp_dir=sys.argv[2])
algorithm = Algorithm.from_checkpoint(sys.argv[1])
before = int(algorithm.learner_group.get_weights()["default_policy"]["num_timesteps"])
algorithm.train()
print("steps", before, int(algorithm.learner_group.get_weights()["default_policy"]["num_timesteps"]))
algorithm.stop()
"""


def test_a_checkpoint_goes_on_in_a_fresh_process(built, tmp_path: Path, tmp_path_factory):
    algorithm = built(small())
    algorithm.train()
    path = algorithm.save_to_path(tmp_path / "checkpoint")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", GO_ON, path, str(tmp_path_factory.mktemp("f"))]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert "steps 256 512" in done.stdout


def test_several_agents_learn_with_one_module(built):
    from tests.ray.test_config import Pair

    algorithm = built(ppo_config(Pair, n_envs=1, total_timesteps=400, n_steps=128, batch_size=64))
    returns = [algorithm.train()["env_runners"]["episode_return_mean"] for _ in range(3)]
    assert np.isfinite(returns).all()
    assert int(algorithm.learner_group.get_weights()["shared"]["num_timesteps"]) > 3 * 128
    with pytest.raises(ValueError, match="makes no environment of a single agent"):
        to_sb3(algorithm)


def test_match_is_learned(built):
    algorithm = built(ppo_config("AttnRL/Match-v0", total_timesteps=40_960))
    for _ in range(10):
        result = algorithm.train()
    assert result["env_runners"]["success_rate"] > 0.8


def test_the_page_of_the_docs_runs(cluster, tmp_path: Path, monkeypatch):
    text = (ROOT / "docs" / "cluster.md").read_text().split("```py\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(text.replace("range(50)", "range(1)").replace("callbacks(AttentionCallback)", "debugging(seed=0)"), {})
    assert len(list((tmp_path / "runs").iterdir())) == 1
