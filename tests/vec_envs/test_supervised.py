"""A failing worker is named, in time, with its traceback; or replaced, and counted."""

import os
import signal
import time

import gymnasium as gym
import numpy as np
import pytest

from attn_rl.vec_envs.supervised import SupervisedVecEnv, WorkerFailed


class Fragile(gym.Env):
    """Counts; fails in its own way at action 9. Episodes end after 5 steps."""

    observation_space = gym.spaces.Box(-1e6, 1e6, (2,), np.float64)
    action_space = gym.spaces.Discrete(10)
    render_mode = None

    def __init__(self, how: str):
        self.how = how

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.start = 0, float(self.np_random.integers(1000))
        return np.array([self.start, 0.0]), {}

    def step(self, action):
        if action == 9:
            self.fail()
        self.steps += 1
        return np.array([self.start, self.steps]), 1.0, False, self.steps == 5, {}

    def fail(self):
        if self.how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "hangs":
            time.sleep(600)
        raise RuntimeError("the road is closed")


def workers(how: str, **settings) -> SupervisedVecEnv:
    return SupervisedVecEnv([lambda: Fragile(how)] * 3, start_method="fork", **settings)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("dies", r"worker 1 died \(exit code -9\)"),
        ("hangs", r"worker 1 hangs: no answer for 2 s"),
        ("raises", r"worker 1 raised an error; its traceback:\n(.|\n)*in fail\n(.|\n)*the road is closed"),
    ],
    ids=["dies", "hangs", "raises"],
)
def test_a_failing_worker_is_named(how: str, message: str):
    env = workers(how, timeout=2.0)
    env.reset()
    env.step(np.zeros(3, int))
    with pytest.raises(WorkerFailed, match=message):
        env.step(np.array([0, 9, 0]))
    env.close()
    assert not any(link.process.is_alive() for link in env.remotes)


@pytest.mark.parametrize("how", ["dies", "hangs", "raises"])
def test_a_failing_worker_is_replaced_and_counted(how: str, capsys: pytest.CaptureFixture[str]):
    env = workers(how, timeout=2.0, max_restarts=2)
    env.seed(40)
    starts = env.reset()[:, 0]
    env.step(np.zeros(3, int))
    obs, rewards, dones, infos = env.step(np.array([0, 9, 0]))
    assert dones.tolist() == [False, True, False]
    assert rewards.tolist() == [1.0, 0.0, 1.0]
    assert infos[1]["TimeLimit.truncated"]
    assert infos[1]["worker_restarted"]
    assert infos[1]["terminal_observation"].tolist() == [starts[1], 1.0]
    expected = np.random.Generator(np.random.PCG64(41 + 3)).integers(1000)  # environment 1's next seed
    assert obs[1].tolist() == [expected, 0.0]
    assert env.restarts.tolist() == [0, 1, 0]
    assert "worker 1" in capsys.readouterr().err
    assert env.step(np.zeros(3, int))[0][:, 1].tolist() == [3.0, 1.0, 3.0]
    env.step(np.array([9, 0, 0]))
    with pytest.raises(WorkerFailed):  # the third failure is one too many
        env.step(np.array([0, 0, 9]))
    env.close()


def test_healthy_workers_work_as_ever():
    env = workers("raises")
    env.seed(3)
    env.reset()
    for step in range(1, 5):
        obs, _, dones, infos = env.step(np.zeros(3, int))
        assert obs[:, 1].tolist() == [step] * 3
    assert not dones.any()
    dones, infos = env.step(np.zeros(3, int))[2:]
    assert dones.all()
    assert infos[2]["terminal_observation"][1] == 5
    assert env.get_attr("steps") == [0, 0, 0]
    env.close()
    env.close()


def test_ctrl_c_is_left_to_the_parent():
    env = workers("raises")
    env.reset()
    for link in env.remotes:
        os.kill(link.process.pid, signal.SIGINT)
    assert env.step(np.zeros(3, int))[0][:, 1].tolist() == [1.0] * 3
    env.close()


@pytest.mark.parametrize("settings", [{"timeout": 0.0}, {"max_restarts": -1}])
def test_impossible_limits_are_refused(settings: dict):
    with pytest.raises(ValueError, match="expected seconds > 0 and a count >= 0"):
        workers("dies", **settings)
