"""An action mask that allows nothing is said once, whichever algorithm the policy is in."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionPolicy, make_agent
from tests.toys import N, Toy, n_choices

BOTH = spaces.MultiDiscrete([3, N])
NOTHING = r"action_mask allows no action; choice 0 is taken with certainty\. Allow at least one, or end the episode"


class Forbidding(Toy):
    """Forbids everything (or one part of the action) at one step of its first episode."""

    def __init__(
        self, at: int, actions: spaces.Space | None = None, forbidden: slice = slice(None), masked: bool = True
    ):
        super().__init__(actions, masked=masked, length=9)
        self.at, self.forbidden, self.episode = at, forbidden, 0

    def reset(self, **given):
        self.episode += 1
        return super().reset(**given)

    def _observe(self):
        observation = super()._observe()
        mask = observation["action_mask"] if self.masked else np.empty(n_choices(self.action_space), np.int8)
        mask[:] = 1
        if (self.episode, self.steps) == (1, self.at):
            mask[self.forbidden] = 0
        self.mask = mask.astype(bool)
        return observation

    def action_masks(self):
        return self.mask


def said_by(agent: BaseAlgorithm, steps: int = 16) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agent.learn(steps)
    return [str(warning.message) for warning in caught if "action_mask" in str(warning.message)]


def ppo(*envs: Callable, **policy) -> PPO:
    return PPO(EntityAttentionPolicy, DummyVecEnv(list(envs)), n_steps=4, batch_size=8, policy_kwargs=policy, seed=0)


def a2c(*envs: Callable, **policy) -> A2C:
    return A2C(EntityAttentionPolicy, DummyVecEnv(list(envs)), n_steps=4, policy_kwargs=policy, seed=0)


def maskable_ppo(*envs: Callable, **policy) -> BaseAlgorithm:
    contrib = pytest.importorskip("sb3_contrib")
    from attn_rl.sb3.maskable import MaskableEntityAttentionPolicy

    env = DummyVecEnv([lambda make=make: make(masked=False) for make in envs])
    return contrib.MaskablePPO(
        MaskableEntityAttentionPolicy, env, n_steps=4, batch_size=8, policy_kwargs=policy, seed=0
    )


ALGORITHMS = [ppo, a2c, maskable_ppo]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("policy", [{}, {"pointer": "items"}], ids=["flat", "pointer"])
def test_it_is_said_once_with_environment_and_step(algorithm: Callable, policy: dict):
    (said,) = said_by(algorithm(lambda **k: Forbidding(99, **k), lambda **k: Forbidding(2, **k), **policy))
    assert said.startswith("environment 1 of 2, batch 3 acted on: action_mask allows no action; choice 0 is taken")
    assert said.endswith("(this is said once)")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_part_of_an_action_is_named(algorithm: Callable):
    (said,) = said_by(algorithm(lambda **k: Forbidding(0, BOTH, slice(3, None), **k)))
    assert "environment 0 of 1, batch 1 acted on: action_mask allows no choice in part 1 of the action" in said


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_is_said_of_masks_that_allow_something(algorithm: Callable):
    assert said_by(algorithm(lambda **k: Forbidding(99, **k))) == []


def test_predict_says_it_too():
    agent = ppo(lambda: Toy(masked=True))
    observation = Toy(masked=True).reset(seed=0)[0] | {"action_mask": np.zeros(N, np.int8)}
    with pytest.warns(UserWarning, match=f"environment 0 of 1, batch 1 acted on: {NOTHING}"):
        assert agent.predict(observation)[0] == 0


def test_make_agents_guard_says_it_first_and_nobody_after_it():
    env = DummyVecEnv([lambda: Forbidding(99), lambda: Forbidding(2)])
    (said,) = said_by(make_agent(env, n_steps=4, batch_size=8, n_epochs=1, seed=0))
    assert said.startswith("environment 1, step 2: action_mask allows no action; choice 0 is taken")
