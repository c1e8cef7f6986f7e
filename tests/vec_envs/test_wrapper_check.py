"""Wrappers that normalise or stack observations: a clear error, or proven harmless."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

from attn_rl import EntityAttentionPolicy, make_agent
from attn_rl.vec_envs.guarded import GuardError
from attn_rl.vec_envs.wrapper_check import check_wrappers
from tests.toys import Toy


def make_env(**keywords) -> DummyVecEnv:
    return DummyVecEnv([lambda: Toy(**keywords)] * 2)


FLAGS = {"items_present": spaces.Box(0, 1, (5,), np.float32)}


@pytest.mark.parametrize(
    ("env", "presence", "message"),
    [
        (
            VecNormalize(make_env(), norm_obs_keys=["items"]),
            None,
            r"VecNormalize scales \['items'\] with statistics per",
        ),
        (VecNormalize(make_env(), norm_obs_keys=["ego", "items"]), None, r"VecNormalize scales \['items'\] with"),
        (VecNormalize(make_env(blocks=FLAGS)), None, r"VecNormalize scales \['items', 'items_present'\]"),
        (VecMonitor(VecNormalize(make_env(), norm_obs_keys=["items"])), None, "pass norm_obs=False .rewards may stay"),
        (VecNormalize(make_env(plain=True)), 2, r"VecNormalize scales \['the observation'\]"),
        (VecFrameStack(make_env(plain=True), 3), 2, "VecFrameStack repeats the presence column 2 once per frame"),
        (
            DummyVecEnv([lambda: gym.wrappers.NormalizeObservation(Toy(plain=True))]),
            2,
            "NormalizeObservation scales the observation with statistics per slot.*; remove the wrapper",
        ),
    ],
)
def test_what_would_spoil_entities_is_refused(env, presence, message):
    with pytest.raises(ValueError, match=message):
        check_wrappers(env, presence)


def test_what_is_harmless_passes():
    check_wrappers(make_env())
    check_wrappers(VecNormalize(make_env(), norm_obs=False))
    check_wrappers(VecNormalize(make_env(), norm_obs_keys=["ego"]))
    check_wrappers(VecFrameStack(make_env(plain=True), 3))
    check_wrappers(VecMonitor(make_env()))


def test_stable_baselines3_itself_refuses_presence_flags():
    """Without further arguments neither wrapper goes around our observations at all."""
    with pytest.raises(ValueError, match=r"VecNormalize only supports .* observation spaces but items_present"):
        VecNormalize(make_env())
    with pytest.raises(TypeError, match="StackedObservations only supports Box and Dict"):
        VecFrameStack(make_env(), 3)


def test_make_agent_checks():
    with pytest.raises(ValueError, match=r"VecNormalize scales \['items'\]"):
        make_agent(VecNormalize(make_env(), norm_obs_keys=["items"]))


def test_make_agent_learns_from_a_normalised_ego():
    """Its values leave the bounds that the space still states."""
    env = VecNormalize(make_env(), norm_obs_keys=["ego"])
    agent = make_agent(env, n_steps=32, batch_size=32).learn(64)
    assert agent.num_timesteps == 64
    env.obs_rms["ego"].mean[:] = np.nan
    with pytest.raises(GuardError, match=r"'ego'\[0\] is nan, not finite"):
        agent.env.reset()


def test_normalised_rewards_and_egos_leave_entities_interchangeable():
    env = VecNormalize(make_env(), norm_obs_keys=["ego"])
    model = PPO(EntityAttentionPolicy, env, n_steps=4, batch_size=8).learn(24)
    observation, _ = model.policy.obs_to_tensor(env.reset())
    order = torch.randperm(5)
    moved = observation | {key: observation[key][:, order] for key in ("items", "items_present")}
    torch.testing.assert_close(
        model.policy.predict_values(observation), model.policy.predict_values(moved), atol=3e-6, rtol=0
    )
