"""ppo_config: presets and settings become RLlib's, agents share a module, mistakes say what to do."""

import json

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("ray.rllib")

from ray.rllib.env.multi_agent_env import MultiAgentEnv

from attn_rl.ray import EntityEnvRunner, EntityPPOLearner, EntityRLModule, ppo_config
from attn_rl.training.presets import find_preset

SPACE = gym.spaces.Dict(
    {
        "ego": gym.spaces.Box(-1, 1, (2,), np.float32),
        "items": gym.spaces.Box(-1, 1, (3, 5), np.float32),
        "items_present": gym.spaces.MultiBinary(3),
    }
)


class Pair(MultiAgentEnv):
    """Two agents among three items, for seven steps."""

    def __init__(self, config=None):
        super().__init__()
        self.possible_agents = self.agents = ["left", "right"]
        self.observation_spaces = dict.fromkeys(self.agents, SPACE)
        n = {"left": 4, "right": (config or {}).get("n", 4)}
        self.action_spaces = {agent: gym.spaces.Discrete(n[agent]) for agent in self.agents}

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return {agent: SPACE.sample() for agent in self.agents}, {}

    def step(self, actions):
        self.steps += 1
        over = self.steps == 7
        flags = dict.fromkeys([*self.agents, "__all__"], over)
        rewards = {agent: float(action == 1) for agent, action in actions.items()}
        return {agent: SPACE.sample() for agent in actions}, rewards, flags, dict.fromkeys(flags, False), {}


def test_the_preset_becomes_rllibs_settings():
    config, preset = ppo_config("AttnRL/Seek-v0"), find_preset("AttnRL/Seek-v0")
    chosen = preset.settings("attention")
    assert config.gamma == chosen.gamma
    assert config.train_batch_size_per_learner == chosen.n_steps * preset.n_envs
    assert config.lr == [[0, chosen.learning_rate], [preset.total_timesteps, 0.1 * chosen.learning_rate]]
    assert not config.use_kl_loss
    assert config.env_runner_cls is EntityEnvRunner
    assert config.learner_class is EntityPPOLearner
    assert config.restart_failed_env_runners
    config.validate()


def test_a_preset_file_and_settings_go_over_it(tmp_path):
    path = tmp_path / "preset.json"
    path.write_text(json.dumps({"n_envs": 4, "settings": {"gamma": 0.5, "n_steps": 8, "net_arch": [16]}}))
    config = ppo_config("AttnRL/Seek-v0", preset=path, gamma=0.25)
    assert (config.gamma, config.train_batch_size_per_learner) == (0.25, 32)
    assert config.rl_module_spec.model_config["policy_kwargs"]["net_arch"] == [16]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"env": "AttnRL/Squad-v0"}, "structured actions"),
        ({"shared_baseline": 4}, "leave it out"),
        ({"gama": 0.9}, "did you mean 'gamma'"),
        ({"n_envs": -1}, "n_envs=-1"),
        ({"policy": "atention"}, "did you mean"),
    ],
)
def test_mistakes_say_what_to_do(wrong, says):
    with pytest.raises(ValueError, match=says):
        ppo_config(**{"env": "AttnRL/Seek-v0", **wrong})


def test_a_memory_is_part_of_what_the_runners_make():
    config = ppo_config("AttnRL/Seek-v0", memory_steps=3)
    env, memory = config.env_config, config.rl_module_spec
    assert env["attn_rl.memory"]["steps"] == 3
    assert "past_steps" in memory.observation_space.spaces


def test_all_agents_share_one_module():
    config = ppo_config(Pair, n_envs=1, learning_rate=1e-3)
    spec = config.rl_module_spec.rl_module_specs["shared"]
    assert isinstance(spec.build(), EntityRLModule)
    assert {config.policy_mapping_fn(agent, None) for agent in ("left", "right")} == {"shared"}


def test_agents_that_differ_cannot_share_one():
    with pytest.raises(ValueError, match="action spaces differ"):
        ppo_config(Pair, env_kwargs={"n": 5})


def test_a_single_agents_class_is_refused():
    with pytest.raises(ValueError, match="expected a MultiAgentEnv"):
        ppo_config(lambda config: gym.make("CartPole-v1"))
