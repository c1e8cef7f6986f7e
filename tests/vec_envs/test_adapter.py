"""The adapter from a Gymnasium VectorEnv to SB3's VecEnv, against DummyVecEnv as the reference."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, FilterObservation
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionPolicy
from attn_rl.vec_envs.adapter import VectorEnvAdapter, make_vec_env

SEEK, MATCH = "AttnRL/Seek-v0", "AttnRL/Match-v0"


class Countdown(gym.Env):
    """Ends by truncation or termination in turn after 3 steps; tells nested things in its infos."""

    observation_space = gym.spaces.Box(0, 100, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    render_mode = None
    episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.options = 0, options
        self.episode += 1
        return np.array([self.np_random.integers(50), 0], np.float32), {"fresh": True}

    def step(self, action):
        self.steps += 1
        over = self.steps == 3
        truncated, terminated = over and self.episode % 2 == 0, over and self.episode % 2 == 1
        obs = np.array([self.np_random.integers(50), self.steps], np.float32)
        return obs, 0.1 * self.steps, terminated, truncated, {"part": {"food": self.steps}, "who": "me"}

    def double(self, x):
        return 2 * x


def sync(mode: AutoresetMode, n: int = 3) -> SyncVectorEnv:
    return SyncVectorEnv([Countdown] * n, autoreset_mode=mode)


def assert_same_obs(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    else:
        np.testing.assert_array_equal(one, other)


def assert_same_rollouts(env, reference, steps: int, seed: int | None = 3):
    """Play both with the same actions; compare everything SB3 reads."""
    if seed is not None:
        env.seed(seed)
        reference.seed(seed)
    assert env.observation_space == reference.observation_space
    assert env.action_space == reference.action_space
    assert_same_obs(env.reset(), reference.reset())
    env.action_space.seed(seed)
    ends = 0
    for _ in range(steps):
        actions = np.array([env.action_space.sample() for _ in range(env.num_envs)])
        obs, rewards, dones, infos = env.step(actions)
        ref_obs, ref_rewards, ref_dones, ref_infos = reference.step(actions)
        assert_same_obs(obs, ref_obs)
        np.testing.assert_array_equal(rewards, ref_rewards)
        assert rewards.dtype == ref_rewards.dtype
        np.testing.assert_array_equal(dones, ref_dones)
        for done, info, ref_info in zip(dones, infos, ref_infos, strict=True):
            if not done:
                assert info == {}
                continue
            ends += 1
            assert info.keys() == ref_info.keys()
            assert_same_obs(info.pop("terminal_observation"), ref_info.pop("terminal_observation"))
            del info["episode"]["t"], ref_info["episode"]["t"]
            assert info == ref_info
        assert env.reset_infos == reference.reset_infos
    assert ends > 3


@pytest.mark.parametrize("env_id", [SEEK, MATCH])
def test_native_batch_rolls_out_like_dummy_vec_env(env_id):
    env = make_vec_env(env_id, 5, seed=17)
    assert isinstance(env, VectorEnvAdapter)
    reference = make_vec_env(env_id, 5, seed=17, vec_env_cls=DummyVecEnv)
    assert isinstance(reference, DummyVecEnv)
    assert_same_rollouts(env, reference, steps=80, seed=None)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_sync_vector_env_rolls_out_like_dummy_vec_env(mode):
    reference = DummyVecEnv([lambda: Monitor(Countdown())] * 3)
    assert_same_rollouts(VectorEnvAdapter(sync(mode)), reference, steps=20)


def test_episode_end_is_reported_in_full():
    env = VectorEnvAdapter(sync(AutoresetMode.SAME_STEP, 2))
    env.reset()
    for _ in range(2):
        obs, _, dones, infos = env.step(np.zeros(2, int))
        assert not dones.any()
        assert infos == [{}, {}]
        assert infos[0] is not infos[1]
    obs, _, dones, infos = env.step(np.zeros(2, int))
    assert dones.all()
    info = infos[1]
    assert info["terminal_observation"][1] == 3
    assert obs[1][1] == 0
    assert info["TimeLimit.truncated"] is False
    assert (info["episode"]["r"], info["episode"]["l"]) == (0.6, 3)
    assert info["part"] == {"food": 3}
    for _ in range(3):
        infos = env.step(np.zeros(2, int))[3]
    assert infos[0]["TimeLimit.truncated"] is True
    assert infos[0]["episode"]["l"] == 3


def test_success_and_relevance_arrive():
    env = make_vec_env(SEEK, 7, seed=0)
    obs = env.reset()
    seen = []
    for _ in range(24):
        obs, _, dones, infos = env.step(env.env.oracle(obs))
        np.testing.assert_array_equal(env.env_method("relevant"), env.env.relevant())
        seen += [info for info, done in zip(infos, dones, strict=True) if done]
    assert seen
    assert all(info["is_success"] is True for info in seen)
    assert all(isinstance(info["relevant"], int) for info in seen)


@pytest.mark.parametrize("env_cls", [None, DummyVecEnv])
def test_methods_and_attributes_of_sub_environments(env_cls):
    env = make_vec_env(SEEK, 3, seed=5, env_kwargs={"capacity": 11}, vec_env_cls=env_cls)
    env.reset()
    assert [p.shape for p in env.env_method("entity_positions")] == [(11, 2)] * 3
    assert len(env.env_method("relevant", indices=[2])) == 1
    assert env.get_attr("render_mode", indices=1) == ["rgb_array"]
    assert env.get_attr("action_space") == [env.action_space] * 3
    assert env.get_attr("metadata")[0]["entities"]["ego"][0] == "cue_r"
    assert env.has_attr("relevant")
    assert not env.has_attr("no_such_thing")
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(gym.wrappers.ClipReward, indices=[0, 1]) == [False, False]
    assert [p.shape for p in env.get_images()] == [(256, 256, 3)] * 3
    assert env.render().shape == (512, 512, 3)
    env.close()


def test_attributes_of_a_native_batch_are_shared():
    env = make_vec_env(SEEK, 3)
    env.set_attr("penalty", 0.25)
    assert env.get_attr("penalty") == [0.25] * 3
    with pytest.raises(ValueError, match="set_attr: SeekVectorEnv acts on all sub-environments at once"):
        env.set_attr("penalty", 0.5, indices=[0])
    with pytest.raises(ValueError, match="env_method: SeekVectorEnv acts on all"):
        env.env_method("get_state", indices=[0])


def test_attributes_of_a_sync_vector_env_are_per_environment():
    env = VectorEnvAdapter(sync(AutoresetMode.SAME_STEP))
    env.set_attr("steps", 41, indices=[1])
    env.set_attr("steps", 43, indices=[0, 2])
    assert env.get_attr("steps") == [43, 41, 43]
    assert env.env_method("double", 21, indices=[0, 2]) == [42, 42]
    env.set_options({"level": 2})
    env.reset()
    assert env.get_attr("options") == [{"level": 2}] * 3
    env.set_options([{}, {}, {"level": 3}])
    with pytest.raises(ValueError, match="takes one set of options"):
        env.reset()


def test_seeds_count_once_and_from_the_first_environment():
    env = make_vec_env(SEEK, 3)
    assert env.seed(29) == [29, 30, 31]
    first, second = env.reset(), env.reset()
    env.seed(30)
    shifted = env.reset()
    assert (first["items"][0] != second["items"][0]).any()
    np.testing.assert_array_equal(first["items"][1], shifted["items"][0])


def test_autoreset_modes_that_cannot_be_served_are_refused():
    with pytest.raises(ValueError, match=r"expected AutoresetMode\.SAME_STEP"):
        VectorEnvAdapter(sync(AutoresetMode.DISABLED))
    native = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point")
    with pytest.raises(ValueError, match="CartPoleVectorEnv has metadata"):
        VectorEnvAdapter(native)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_infos_as_lists_are_what_sb3_wants_anyway(mode):
    reference = DummyVecEnv([lambda: Monitor(Countdown())] * 3)
    assert_same_rollouts(VectorEnvAdapter(DictInfoToList(sync(mode))), reference, steps=20)


class InfosAsLists(gym.vector.VectorWrapper):
    """Somebody's own, which cannot be taken off."""

    def reset(self, **kwargs):
        return self.env.reset(**kwargs)[0], [{}] * self.num_envs


def test_somebody_elses_lists_of_infos_are_refused_in_words():
    message = (
        "InfosAsLists hands out infos as a list; expected .* dict of arrays.*; remove the wrapper: SB3 gets a list"
    )
    with pytest.raises(ValueError, match=message):
        VectorEnvAdapter(InfosAsLists(sync(AutoresetMode.SAME_STEP))).reset()


@pytest.mark.parametrize("make", [Countdown, lambda: DummyVecEnv([Countdown]), lambda: None, lambda: SEEK])
def test_what_is_no_vector_environment_of_gymnasium_is_refused_by_type(make):
    env = make()
    what = "None" if env is None else f"a {type(env).__name__}"
    message = f"env is {what}; expected a gymnasium.vector.VectorEnv.*make_vec_env"
    with pytest.raises(TypeError, match=message):
        VectorEnvAdapter(env)


def test_wrappers_that_refuse_same_step_work_in_the_sync_mode():
    keys = ["items", "items_present"]
    with pytest.raises((ValueError, AssertionError)):  # Gymnasium before 1.3 asserts, without a word
        FilterObservation(make_vec_env(SEEK, 2).env, keys)
    copies = gym.make_vec(SEEK, num_envs=2, vectorization_mode="sync")
    model = PPO(EntityAttentionPolicy, VectorEnvAdapter(FilterObservation(copies, keys)), n_steps=40, batch_size=80)
    model.learn(80)
    assert len(model.ep_info_buffer) > 0
    assert list(model.observation_space.spaces) == keys


def test_an_id_without_a_native_batch_is_made_of_copies():
    env = make_vec_env("CartPole-v1", 2, seed=1)
    assert isinstance(env, DummyVecEnv)
    assert env.env_is_wrapped(Monitor) == [True, True]
    env.reset()


def test_a_saved_state_goes_on_exactly():
    env, other = make_vec_env(SEEK, 5, seed=2), make_vec_env(SEEK, 5)
    env.reset()
    actions = np.random.default_rng(0).integers(0, 9, (40, 5))
    for action in actions[:7]:
        env.step(action)
    other.set_state(env.get_state())
    for action in actions[7:]:
        one, two = env.step(action), other.step(action)
        assert_same_obs(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
        for info, again in zip(one[3], two[3], strict=True):
            if info:
                assert (info["episode"]["r"], info["episode"]["l"]) == (again["episode"]["r"], again["episode"]["l"])
    with pytest.raises(ValueError, match="SyncVectorEnv has no get_state"):
        VectorEnvAdapter(sync(AutoresetMode.SAME_STEP)).get_state()


def test_sb3_learns_and_evaluates_on_it():
    env = make_vec_env(MATCH, 8, seed=0)
    model = PPO(EntityAttentionPolicy, env, n_steps=32, batch_size=64, seed=0).learn(512)
    assert len(model.ep_info_buffer) == 100
    assert model.ep_info_buffer[-1]["l"] == 1
    assert len(model.ep_success_buffer) == 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *a, **k: pytest.fail(f"warned: {a}"))
        returns, lengths = evaluate_policy(model, env, n_eval_episodes=20, return_episode_rewards=True)
    assert lengths == [1] * 20
    assert set(returns) <= {0.0, 1.0}
