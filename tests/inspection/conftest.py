"""Models and states that the inspection tests share."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from attn_rl import EntityAttentionPolicy, EntitySpec, make_vec_env
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.scenes import probe_scenes


def make_ppo(env_id: str, policy_kwargs: dict | None = None, seed: int = 3, **ppo) -> PPO:
    """PPO on seven environments, with feature names; small by default."""
    torch.set_num_threads(1)
    ppo = {"n_envs": 7, "n_steps": 5, "batch_size": 35, "n_epochs": 1} | ppo
    env = make_vec_env(env_id, ppo.pop("n_envs"), seed=seed)
    policy_kwargs = dict(policy_kwargs or {})
    policy_kwargs["features_extractor_kwargs"] = {
        "names": EntitySpec.from_env(env).names,
        **policy_kwargs.get("features_extractor_kwargs", {}),
    }
    return PPO(EntityAttentionPolicy, env, policy_kwargs=policy_kwargs, seed=seed, device="cpu", **ppo)


def single_env(env_id: str, **kwargs) -> gym.Env:
    return gym.make(env_id, render_mode="rgb_array", **kwargs)


@pytest.fixture(scope="session")
def seek_model() -> PPO:
    """Untrained, one layer: the reader's row only."""
    return make_ppo("AttnRL/Seek-v0")


@pytest.fixture(scope="session")
def deep_model() -> PPO:
    """Untrained, two layers, learned query over the ego's token: two leading columns."""
    kwargs = {"features_extractor_kwargs": {"n_layers": 2, "readout": "learned"}}
    return make_ppo("AttnRL/Seek-v0", kwargs)


@pytest.fixture(scope="session")
def related_model() -> PPO:
    """Untrained, one layer whose ego compares its cue with the items' colours."""
    kinds = EntitySpec.from_env(make_vec_env("AttnRL/Seek-v0", 1)).kinds
    return make_ppo(
        "AttnRL/Seek-v0", {"features_extractor_kwargs": {"relations": "declared", "kinds": kinds, "n_heads": 4}}
    )


@pytest.fixture(scope="session")
def trained_match() -> PPO:
    """Match, solved in a few seconds."""
    model = make_ppo(
        "AttnRL/Match-v0",
        n_envs=64,
        n_steps=16,
        batch_size=512,
        n_epochs=4,
        learning_rate=lambda left: 5e-3 * (0.1 + 0.9 * left),
        gamma=0.95,
    )
    return model.learn(32_768)


@pytest.fixture(scope="session")
def seek_scenes():
    return probe_scenes(single_env("AttnRL/Seek-v0"), 8, n_scenes=13, n_pictures=2)


@pytest.fixture(scope="session")
def match_scenes():
    return probe_scenes(single_env("AttnRL/Match-v0"), 9, n_scenes=211, n_pictures=2)


class TypedBandit(gym.Env):
    """Two entity types, one of them without presence flags; no ego; one step. Action i points at foe i if asked to."""

    observation_space = spaces.Dict(
        {
            "allies": spaces.Box(-1, 1, (2, 3)),
            "foes": spaces.Box(-1, 1, (5, 4)),
            "foes_present": spaces.MultiBinary(5),
        }
    )
    metadata = {"render_modes": []}

    def __init__(self, action_space: spaces.Space | None = None):
        self.action_space = action_space or spaces.Discrete(5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        flags = self.np_random.random(5) < 0.6
        flags[0] = True
        obs = {key: self.np_random.uniform(-1, 1, self.observation_space[key].shape) for key in ("allies", "foes")}
        obs = {key: block.astype(np.float32) for key, block in obs.items()}
        return obs | {"foes_present": flags.astype(np.int8)}, {}

    def step(self, action):
        obs, info = self.reset()
        return obs, 0.0, True, False, info


@pytest.fixture
def seek_actor(seek_model) -> Actor:
    return Actor(seek_model)
