"""What ``make_agent`` takes: Stable-Baselines3's usual forms, and words for everything else."""

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import make_agent, make_vec_env
from attn_rl.training.presets import Settings
from attn_rl.training.ranges import CHOICES, RANGES
from tests.toys import Toy

SMALL = {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "d_model": 8, "n_heads": 2}


def small(**settings: Any):
    return make_agent(make_vec_env("AttnRL/Match-v0", 4, seed=0), seed=0, **{**SMALL, **settings})


@pytest.mark.parametrize("net_arch", [[8], (8, 4), [], {"pi": [8], "vf": [4, 4]}, {"vf": [4]}])
def test_net_arch_takes_the_forms_of_sb3(net_arch):
    agent = small(net_arch=net_arch)
    towers = net_arch if isinstance(net_arch, dict) else {"pi": net_arch, "vf": net_arch}
    for name in ("pi", "vf"):
        tower = getattr(agent.policy.mlp_extractor, {"pi": "policy_net", "vf": "value_net"}[name])
        widths = [layer.out_features for layer in tower if isinstance(layer, torch.nn.Linear)]
        assert widths == list(towers.get(name, []))
    before = agent.policy.value_net.weight.detach().clone()
    agent.learn(32)
    assert not torch.equal(before, agent.policy.value_net.weight)


def test_learning_rate_and_clip_range_may_be_schedules():
    agent = small(learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.1 + left)
    assert [agent.lr_schedule(left) for left in (1.0, 0.5)] == [1e-3, 5e-4]
    assert agent.clip_range(0.5) == 0.6
    assert agent.learn(32).num_timesteps == 32


@pytest.mark.parametrize("name", ["learning_rate", "clip_range"])
@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda: 1e-3, "cannot be asked for 1.0 .*expected a function of what is left of the training, from 1 to 0"),
        (lambda left: "x", "cannot be asked for 1.0 .*that returns a number"),
        (lambda left: None, "cannot be asked for 1.0"),
        (lambda left: -left, "returns -1.0 for 1.0; expected a function"),
        (lambda left: float("nan") if left < 1 else 0.1, "returns nan for 0.5; expected a function"),
        (lambda left: 0.1 if left else 1e9, "returns 1000000000.0 for 0.0"),
    ],
)
def test_what_is_no_schedule_is_refused_by_name(name: str, schedule, message: str):
    with pytest.raises(ValueError, match=f"^{name}=<function .*{message}"):
        small(**{name: schedule})


def test_numbers_of_numpy_are_numbers():
    assert small(gamma=np.float32(0.5), n_steps=np.int64(8)).n_steps == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 1e9}, "learning_rate=1000000000.0, expected a number from 0 to 1"),
        ({"learning_rate": "lin_1e-3"}, "learning_rate='lin_1e-3', expected a number from 0 to 1"),
        ({"learning_rate": None}, "learning_rate=None, expected a number from 0 to 1"),
        ({"gamma": 2}, "gamma=2, expected a number from 0 to 1"),
        ({"gamma": float("nan")}, "gamma=nan, expected a number from 0 to 1"),
        ({"gamma": True}, "gamma=True, expected a number"),
        ({"gamma": lambda left: left}, "only learning_rate and clip_range may be schedules"),
        ({"gae_lambda": -0.1}, "gae_lambda=-0.1, expected a number from 0 to 1"),
        ({"n_epochs": 0}, "n_epochs=0, expected a whole number from 1 to 1,000"),
        ({"n_steps": 0}, "n_steps=0, expected a whole number from 1 to"),
        ({"n_steps": 8.5}, "n_steps=8.5, expected a whole number"),
        ({"batch_size": 0}, "batch_size=0, expected a whole number from 1 to"),
        (
            {"batch_size": 1},
            "batch_size=1 of n_steps=8 x n_envs=4 samples: minibatches of one .* normalize_advantage=False",
        ),
        ({"ent_coef": "auto"}, "ent_coef='auto', expected a number from 0 to 1,000; 'auto' is SAC's"),
        ({"clip_range": 0}, "clip_range=0, expected a number above 0"),
        (
            {"max_grad_norm": None},
            r"max_grad_norm=None, expected a number above 0; float\('inf'\) switches clipping off",
        ),
        ({"gamma": 10**400}, "gamma=1000.*, expected a number from 0 to 1"),
        ({"max_grad_norm": 10**400}, "max_grad_norm=1000.*, expected a number above 0"),
        ({"max_abs_reward": "x"}, "max_abs_reward='x', expected a number above 0"),
        ({"device": None}, "device='None' is not there; choose one of cpu"),
        ({"n_heads": -1}, "n_heads=-1, expected a whole number from 1 to"),
        ({"n_layers": 10**6}, "n_layers=1000000, expected a whole number from 0 to 64"),
        ({"d_model": "wide"}, "d_model='wide', expected a whole number"),
        ({"net_arch": 64}, r"net_arch=64, expected at most 16 widths of hidden layers, .* such as \[64\] or dict"),
        ({"net_arch": [64, 0]}, r"net_arch=\[64, 0\], expected at most 16 widths"),
        ({"net_arch": {"pi": 64}}, "net_arch={'pi': 64}, expected at most 16 widths"),
        ({"net_arch": {"qf": [64]}}, "net_arch={'qf': .*, expected at most 16 widths"),
        ({"net_arch": [{"pi": [64]}]}, r"net_arch=\[{'pi': .*, expected at most 16 widths"),
        ({"readout": "first"}, "readout='first' is unknown; choose one of \\('ego'"),
        ({"similarity": "cosinus"}, "similarity='cosinus' is unknown; did you mean 'cosine'"),
        ({"normalize": "yes"}, "normalize='yes' is unknown; choose one of True, False"),
        ({"relations": "on"}, "relations='on' is called 'auto' now"),
        ({"device": "cuda:99"}, "device='cuda:99' is not there; choose one of cpu.*, or auto"),
        ({"device": "gpu"}, "device='gpu' is not there; choose one of cpu"),
        ({"device": "meta"}, "device='meta' is not there"),
    ],
)
def test_anything_else_is_refused_by_name_with_what_was_expected(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        small(**settings)


@pytest.mark.parametrize("seed", [-1, 10**400, "a", 1.5])
def test_a_seed_that_no_generator_takes_is_refused_by_name(seed: Any):
    with pytest.raises(ValueError, match=r"seed=.*, expected a whole number from 0 to 4,294,967,295"):
        make_agent("AttnRL/Seek-v0", seed=seed)


def test_infinity_switches_clipping_off():
    assert small(max_grad_norm=float("inf")).learn(32).num_timesteps == 32


def test_minibatches_of_one_are_fine_where_advantages_are_not_normalised():
    assert small(batch_size=1, n_steps=1, normalize_advantage=False).learn(4).num_timesteps == 4


def test_every_number_and_choice_among_the_settings_is_checked():
    checked = {*RANGES, *CHOICES, "net_arch", "sort_by", "pointer", "presence", "ignore", "memory_identity"}
    checked |= {"readout", "attention", "block", "embedding"}  # registries, asked when the network is built
    assert set(vars(Settings())) <= checked


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (gym.spaces.Tuple([gym.spaces.Discrete(2)]), "expected a Discrete, MultiDiscrete, MultiBinary or bounded Box"),
        (gym.spaces.Box(-np.inf, np.inf, (2,)), "expected finite bounds"),
        (gym.spaces.MultiDiscrete([[2, 3], [4, 5]]), "of shape (2, 2), expected one dimension"),
        (gym.spaces.MultiBinary((2, 3)), "of shape (2, 3), expected one dimension"),
        (gym.spaces.Dict({"a": gym.spaces.Discrete(2)}), "expected a Discrete, MultiDiscrete"),
    ],
)
def test_actions_that_ppo_cannot_take_are_refused_with_what_helps(space: gym.Space, message: str):
    env = DummyVecEnv([Toy])
    env.action_space = space
    with pytest.raises(ValueError, match=re.escape(f"the action space is {space}, {message}")):
        make_agent(env)
