"""The RL Zoo file, read back: plain PPO built from it is the agent that make_agent builds."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch
from stable_baselines3 import PPO

from attn_rl import make_agent, make_vec_env
from attn_rl.training.presets import find_preset
from attn_rl.training.rl_zoo.entries import zoo_yaml

yaml = pytest.importorskip("yaml")


def agent_of(entry: dict, env_id: str) -> PPO:
    """What the Zoo does with an entry (its schedules and process handling aside)."""
    entry = dict(entry)
    env = make_vec_env(env_id, entry.pop("n_envs"), env_kwargs=entry.pop("env_kwargs", {}))
    module, name = entry.pop("policy").rsplit(".", 1)
    schedule, rate = entry.pop("learning_rate").split("_")
    assert schedule == "lin"
    entry.pop("n_timesteps")
    return PPO(getattr(importlib.import_module(module), name), env, learning_rate=float(rate), seed=3, **entry)


@pytest.mark.parametrize(
    ("name", "env_kwargs"), [("Seek", {}), ("Boxes", {}), ("Forage", {}), ("Match", {"rule": "odd"})]
)
def test_ppo_built_from_the_file_is_the_agent_of_make_agent(name: str, env_kwargs: dict):
    env_id = f"AttnRL/{name}-v0"
    entries = yaml.safe_load(zoo_yaml([env_id], env_kwargs))
    entry = entries[f"AttnRL/{name}-v0"]
    preset = find_preset(env_id, env_kwargs)
    assert entry["n_timesteps"] == preset.total_timesteps
    ours = make_agent(make_vec_env(env_id, preset.n_envs, env_kwargs=env_kwargs), seed=3)
    theirs = agent_of(entry, env_id)
    for setting in ("gamma", "gae_lambda", "n_steps", "batch_size", "n_epochs", "ent_coef", "normalize_advantage"):
        assert getattr(theirs, setting) == getattr(ours, setting)
    assert theirs.lr_schedule(1.0) == ours.lr_schedule(1.0)
    weights, expected = theirs.policy.state_dict(), ours.policy.state_dict()
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[key], expected[key]) for key in weights)


@pytest.fixture(scope="module")
def printed_text() -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "attn_rl", "presets"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_command_prints_every_environment_of_the_project(printed_text: str):
    printed = yaml.safe_load(printed_text)
    assert {"AttnRL/Seek-v0", "AttnRL/Boxes-v0", "AttnRL/Tiles-v0"} <= set(printed)
    assert printed["AttnRL/Boxes-v0"]["policy_kwargs"]["pointer"] == "items"


def test_the_file_in_the_package_is_what_the_command_prints(printed_text: str):
    from attn_rl.training.rl_zoo.hyperparameters import FILE, hyperparams

    assert FILE.read_text() == printed_text, f"attn-rl presets > {FILE}"
    assert hyperparams == yaml.safe_load(printed_text)
