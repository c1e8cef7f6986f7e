"""Any environment can be put back into the middle of an episode, or says that it cannot."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import make_agent, make_vec_env
from attn_rl.training.run.agent_state import capture, restore
from attn_rl.training.run.random_state import get_generators, set_generators
from attn_rl.vec_envs.guarded import GuardError
from attn_rl.vec_envs.replayable import ReplayableEnv


class Wander(gym.Env):
    """A random walk of three things; ends after 7 steps. Randomness comes from ``np_random`` alone."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gym.spaces.Dict(
        {"items": gym.spaces.Box(-99, 99, (3, 2), np.float32), "items_present": gym.spaces.MultiBinary(3)}
    )
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.x = 0, self.np_random.normal(size=(3, 2))
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        self.x += (1 + action) * self.np_random.normal(size=(3, 2))
        return self._obs(), float(self.x[0, 0]), False, self.steps == 7, {}

    def _obs(self):
        return {"items": self.x.astype(np.float32), "items_present": np.ones(3, np.int8)}


class Forgetful(Wander):
    """Depends on something that no generator holds."""

    count = 0

    def _obs(self):
        Forgetful.count += 1
        return super()._obs() | {"items": np.full((3, 2), Forgetful.count % 50, np.float32)}


gym.register("TestWander-v0", Wander)
gym.register("TestForgetful-v0", Forgetful)


def play(env, steps: int, rng) -> list:
    seen = []
    for _ in range(steps):
        obs, rewards, dones, infos = env.step(rng.integers(0, 3, env.num_envs))
        returns = [info["episode"]["r"] for info in infos if "episode" in info]
        seen.append((obs["items"].tolist(), rewards.tolist(), dones.tolist(), returns))
    return seen


@pytest.mark.parametrize("steps", [0, 3, 7, 16])  # before the first step, in the first episode, at a reset, later
@pytest.mark.parametrize("env_id", ["TestWander-v0", "AttnRL/Seek-v0"])
def test_a_fresh_environment_goes_on_exactly(env_id: str, steps: int):
    env = make_vec_env(env_id, 3, seed=5, vec_env_cls=DummyVecEnv)
    env.reset()
    rng = np.random.default_rng(0)
    play(env, steps, rng)
    states = env.env_method("get_state")
    other = make_vec_env(env_id, 3, seed=99, vec_env_cls=DummyVecEnv)
    for i, state in enumerate(states):
        assert other.env_method("set_state", state, indices=[i])[0]["exact"]
    again = np.random.default_rng(1)
    assert play(env, 23, np.random.default_rng(1)) == play(other, 23, again)


def test_an_environment_that_cannot_be_put_back_says_so_and_begins_anew():
    env, other = Monitor(Forgetful()), Monitor(Forgetful())
    tracked, restored = ReplayableEnv(env), ReplayableEnv(other)
    tracked.reset(seed=1)
    tracked.step(1)
    said = restored.set_state(tracked.get_state())
    assert not said["exact"]
    assert restored.get_state()["actions"].shape == (0,)
    assert said["observation"]["items"][0, 0] == Forgetful.count % 50


def agent_on(env_id: str):
    env = make_vec_env(env_id, 3, seed=5)
    agent = make_agent(env, seed=0, n_steps=5, batch_size=15, n_epochs=1)
    agent.set_logger(Logger(None, []))
    return agent


def test_an_agent_resumes_in_the_middle_of_third_party_episodes():
    agent = agent_on("TestWander-v0").learn(30)
    agent.policy.set_training_mode(False)
    saved = capture(agent)
    agent.learn(30, reset_num_timesteps=False)
    other = agent_on("TestWander-v0")
    assert restore(other, saved) == []
    other.policy.set_training_mode(False)
    before = get_generators()
    set_generators(saved.state["generators"])
    other.learn(30, reset_num_timesteps=False)
    set_generators(before)
    for name, value in agent.policy.state_dict().items():
        assert bool((value == other.policy.state_dict()[name]).all()), name


def test_a_lost_episode_is_told_and_begins_anew():
    agent = agent_on("TestForgetful-v0").learn(15)
    other = agent_on("TestForgetful-v0")
    said = restore(other, capture(agent))
    assert said == [
        f"environment {i}: replaying its actions led elsewhere; its running episode was restarted" for i in range(3)
    ]
    assert other._last_episode_starts.tolist() == [True] * 3
    other.learn(15, reset_num_timesteps=False)


def test_untracked_environments_are_reset_and_it_is_told():
    def bare():
        agent = make_agent(DummyVecEnv([Wander] * 2), seed=0, n_steps=5, batch_size=10, n_epochs=1)
        agent.set_logger(Logger(None, []))
        return agent

    agent = bare().learn(10)
    assert restore(bare(), capture(agent)) == [
        "every running episode was restarted: the environments cannot tell their state"
    ]


class Wrong(Wander):
    def __init__(self, change):
        self.change = change

    def _obs(self):
        obs = super()._obs()
        return self.change(obs) if self.steps == 2 else obs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda obs: obs | {"items": obs["items"][0]}, r"observation 'items' is float32 of shape \(2,\), expected"),
        (lambda obs: obs | {"items": obs["items"].astype(object)}, "observation 'items' is object"),
        (lambda obs: obs | {"items_present": obs["items_present"] * 0.5}, "'items_present' is float64 of shape"),
        (lambda obs: {"items": obs["items"]}, r"keys \['items'\], expected \['items', 'items_present'\]"),
    ],
)
def test_what_dummy_vec_env_would_cast_silently_is_refused(change, message: str):
    env = ReplayableEnv(Wrong(change))
    env.index = 4
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(GuardError, match=f"environment 4, step 2 of its episode: .*{message}"):
        env.step(0)


def test_a_wider_float_is_harmless():
    env = ReplayableEnv(Wrong(lambda obs: obs | {"items": obs["items"].astype(np.float64)}))
    env.reset(seed=0)
    for _ in range(5):
        env.step(1)
