"""The exam of the general defaults: what its arms are, what its rewards are, and what its table says."""

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from attn_rl import make_vec_env
from attn_rl.training.presets import Preset
from benchmarks.exam import ARMS, FIRST, HELD_OUT, Bandit, Identity, Paid, Task, make, random_return, run, table

SEEK = Task("AttnRL/Seek-v0", 100, 2)


def test_no_task_is_in_both_halves():
    assert not FIRST.keys() & HELD_OUT.keys()
    assert len(FIRST) + len(HELD_OUT) >= 16


def test_arms_differ_in_nothing_but_what_they_are_called_after():
    agents = {arm: make(SEEK, arm, 0) for arm in ARMS}
    now = agents["now"]
    default = Preset(n_envs=2).settings("attention")  # not Seek's preset
    assert (now.n_epochs, now.gamma, now.lr_schedule(1.0)) == (default.n_epochs, default.gamma, default.learning_rate)
    scaled = {
        arm: (agent.normalize_advantage, getattr(agent, "normalize_reward", False)) for arm, agent in agents.items()
    }
    assert scaled["now"] == scaled["rewards scaled"] == (False, True)
    assert scaled["advantages scaled"] == scaled["SB3's settings"] == scaled["MlpPolicy"] == (True, False)
    assert agents["rewards scaled"].n_epochs == agents["advantages scaled"].n_epochs == 4
    for arm in ("SB3's settings", "MlpPolicy"):
        assert (agents[arm].batch_size, agents[arm].n_epochs, agents[arm].lr_schedule(0.0)) == (64, 10, 3e-4)
        assert agents[arm].n_steps * agents[arm].n_envs == 2048


@pytest.mark.parametrize("at_the_end", [False, True])
def test_an_episode_is_paid_the_same_in_another_unit_and_at_its_end(at_the_end: bool):
    plain = make_vec_env("AttnRL/Seek-v0", 2, seed=0)
    paid = Paid(make_vec_env("AttnRL/Seek-v0", 2, seed=0), 100.0, at_the_end)
    plain.reset(), paid.reset()
    random, totals, given, ended = np.random.default_rng(0), np.zeros(2), np.zeros(2), 0
    for _ in range(300):
        actions = random.integers(plain.action_space.n, size=2)
        (_, rewards, dones, _), (_, theirs, _, _) = plain.step(actions), paid.step(actions)
        totals, given, ended = totals + rewards, given + theirs, ended + dones.sum()
        assert not at_the_end or (theirs[~dones] == 0).all()
        np.testing.assert_allclose(given[dones], 100 * totals[dones], rtol=1e-5)
        totals[dones] = given[dones] = 0
    assert ended > 5


def test_the_scale_of_before_is_that_of_vec_normalize():
    agent = make(Task(Identity, 0, 2), "rewards scaled", 0)
    theirs = VecNormalize(make_vec_env(Identity, 2), norm_obs=False, gamma=agent.gamma)
    random = np.random.default_rng(0)
    for _ in range(3000):
        rewards, theirs.returns[:] = random.normal(size=2), theirs.returns * agent.gamma
        dones = random.random(2) < 0.1
        agent._reward_scale(rewards, dones)
        theirs.returns += rewards.astype(np.float32)
        theirs.ret_rms.update(theirs.returns)
        theirs.returns[dones] = 0
    assert agent._reward_scale.scale == pytest.approx(float(theirs.ret_rms.var) ** 0.5, rel=1e-3)


def test_random_play_is_the_zero_of_every_score():
    assert random_return(Task(Identity, 0, 8)) == pytest.approx(2.5, abs=0.3)
    assert random_return(Task(Bandit, 0, 8)) == pytest.approx(-1 / 3, abs=0.2)  # E[x - y^2] of both uniform
    rows = [
        {"half": "first", "task": "a", "arm": arm, "mean_return": value, "random_return": "2"}
        for arm, value in (("now", "6"), ("now", "10"), ("MlpPolicy", "4"), ("MlpPolicy", "2"))
    ]
    elsewhere = {"half": "held_out", "task": "b", "arm": "now", "mean_return": "1", "random_return": "0"}
    unfinished = {"half": "first", "task": "a", "arm": "other", "mean_return": "1", "random_return": "0"}
    lines = table([*rows, elsewhere, unfinished], "first").splitlines()
    assert lines[0] == "|  | now | MlpPolicy |"
    assert lines[2] == "| a | 1.00 (6, 10) | 0.17 (4, 2) |"


def test_a_cell_is_a_row_with_its_cost(monkeypatch):
    monkeypatch.setitem(FIRST, "tiny", Task(Identity, 64, 2))
    row = run("first", ("tiny", "now", 0))
    assert (row["half"], row["task"], row["arm"], row["seed"], row["steps"]) == ("first", "tiny", "now", 0, 64)
    assert 0 <= row["mean_return"] <= 10
    assert row["cpu_seconds"] >= 0
