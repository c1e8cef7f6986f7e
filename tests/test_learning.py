"""It learns, in seconds, and cannot learn once the presence flags lie."""

import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import VecEnvWrapper

from attn_rl import EntityAttentionExtractor, make_agent, make_vec_env
from attn_rl.training.evaluation import evaluate

MATCH = "AttnRL/Match-v0"
DODGE = "AttnRL/Dodge-v0"
SLOTS = {"capacity": 18}
STEPS = 36_000


class LyingPresence(VecEnvWrapper):
    """Negative control: as many rows as before are flagged present, but others."""

    def __init__(self, env):
        super().__init__(env)
        self.random = np.random.default_rng(0)

    def _lie(self, obs):
        return obs | {"items_present": self.random.permuted(obs["items_present"], axis=1)}

    def reset(self):
        return self._lie(self.venv.reset())

    def step_wait(self):
        obs, rewards, dones, infos = self.venv.step_wait()
        return self._lie(obs), rewards, dones, infos


def success_after_training(wrap) -> float:
    agent = make_agent(wrap(make_vec_env(MATCH, 128, seed=0, env_kwargs=SLOTS)), seed=0)
    agent.learn(STEPS)
    env = wrap(make_vec_env(MATCH, 500, seed=10_000, env_kwargs=SLOTS))
    actions, _ = agent.predict(env.reset(), deterministic=True)
    _, rewards, _, _ = env.step(actions)
    return float(rewards.mean())


def test_attention_learns_match():
    assert success_after_training(lambda env: env) >= 0.95


def test_it_cannot_be_learned_when_presence_lies():
    assert success_after_training(LyingPresence) <= 0.65


@pytest.mark.slow
def test_sac_crosses_the_crowd_of_continuous_dodge():
    """Random and standing still: 0; straight to the goal: .46; this, with seeds 0, 1 and 2: docs/algorithms.md."""
    continuous = {"continuous": True}
    agent = SAC(
        "MultiInputPolicy",
        make_vec_env(DODGE, 16, seed=0, env_kwargs=continuous),
        policy_kwargs={
            "features_extractor_class": EntityAttentionExtractor,
            "features_extractor_kwargs": {"normalize": False, "ego_conditioning": False},
            "net_arch": [64, 64],
        },
        learning_rate=1e-3,
        gamma=0.97,
        ent_coef=0.01,
        batch_size=256,
        buffer_size=50_000,
        learning_starts=1_000,
        train_freq=1,
        gradient_steps=2,
        seed=0,
        device="cpu",
    )
    agent.learn(24_000)
    row = evaluate(agent, DODGE, continuous, episodes=500)
    assert row.success_rate >= 0.65
    assert row.top1_relevant >= 0.5  # of at least three discs
