"""Probe scenes are always the same and disturb nobody."""

from __future__ import annotations

import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from attn_rl.inspection.record.scenes import play_episode, probe_scenes
from tests.inspection.conftest import single_env


def test_the_same_scenes_every_time_without_touching_global_streams(seek_scenes):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    again = probe_scenes(single_env("AttnRL/Seek-v0"), 8, n_scenes=13, n_pictures=2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()
    for key in again.obs:
        np.testing.assert_array_equal(again.obs[key], seek_scenes.obs[key])
    assert [frame is not None for frame in again.frame] == [True] * 2 + [False] * 11


def test_scenes_say_what_the_environment_knows(seek_scenes):
    obs, rows = seek_scenes.obs, np.arange(13)
    cue, colours = obs["ego"][:, :3], obs["items"][..., 3:]
    np.testing.assert_array_equal(colours[rows, seek_scenes.relevant], cue)
    np.testing.assert_array_equal(np.isnan(seek_scenes.positions[..., 0]), obs["items_present"] == 0)
    relative = seek_scenes.positions - seek_scenes.ego[:, None]
    np.testing.assert_allclose(
        relative[obs["items_present"] == 1], 0.92 * obs["items"][obs["items_present"] == 1][:, :2], atol=1e-6
    )
    assert len(set(obs["ego"][:, 5])) > 1  # scenes from different times of the episode


def test_scenes_of_one_step_environments_are_first_states(match_scenes):
    assert (match_scenes.relevant >= 0).all()


def test_an_episode_is_every_state_that_was_acted_in():
    env = single_env("AttnRL/Seek-v0")
    seen = []
    episode = play_episode(lambda obs: seen.append(obs) or 1, env, 8, scene=4, seed=3, max_steps=7)
    assert len(episode) == len(seen) == 7
    np.testing.assert_array_equal(episode.time, np.arange(7))
    np.testing.assert_array_equal(episode.episode_states, np.arange(7))
    for state, obs in enumerate(seen):
        np.testing.assert_array_equal(episode.obs["items"][state], obs["items"])


class Masked(gym.Env):
    """Fails on an action that the mask forbids."""

    observation_space = spaces.Dict({"things": spaces.Box(0, 1, (3, 2)), "action_mask": spaces.MultiBinary(7)})

    def __init__(self, action_space: spaces.Space):
        self.action_space = action_space

    def _obs(self):
        self._mask = (self.np_random.random(7) < 0.3).astype(np.int8)
        self._mask[[2, 4]] = 1
        return {"things": np.zeros((3, 2), np.float32), "action_mask": self._mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        chosen = [action] if isinstance(self.action_space, spaces.Discrete) else [action[0], 3 + action[1]]
        assert self._mask[chosen].all()
        return self._obs(), 0.0, False, False, {}


@pytest.mark.parametrize("action_space", [spaces.Discrete(7), spaces.MultiDiscrete([3, 4])])
def test_random_steps_respect_the_action_mask(action_space):
    assert len(probe_scenes(Masked(action_space), 3, n_scenes=17)) == 17


@pytest.mark.parametrize(("info", "expected"), [({}, 2), ({"relevant": 1}, 1)], ids=["method", "info"])
def test_what_matters_is_asked_of_the_environment_where_its_info_does_not_say(info, expected):
    class Knows(Masked):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0], info

        def relevant(self):
            return 2

    for make, said in ((Knows, expected), (Masked, -1)):
        env = gym.Wrapper(make(spaces.Discrete(7)))
        assert play_episode(lambda obs: 2, env, 3, scene=0, max_steps=1).relevant.tolist() == [said]
