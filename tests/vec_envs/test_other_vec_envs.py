"""Vector environments of other packages, which cannot be asked everything."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecMonitor

from attn_rl import EntityAttentionPolicy, EntitySpec, make_agent
from attn_rl.vec_envs.guarded import GuardError
from tests.toys import Toy


class Concat:
    """What SuperSuit's ConcatVecEnv is: neither SB3's nor Gymnasium's, without get_attr, has_attr and unwrapped."""

    render_mode = None

    def __init__(self, n: int, spoil: bool = False):
        self._inner = DummyVecEnv([Toy] * n)
        self.num_envs, self.spoil, self.metadata = n, spoil, Toy.metadata
        self.observation_space, self.action_space = self._inner.observation_space, self._inner.action_space

    def reset(self, seed=None, options=None):
        if seed is not None:
            self._inner.seed(seed)
        return self._inner.reset(), [{}] * self.num_envs

    def step_async(self, actions):
        self._actions = actions

    def step_wait(self):
        obs, rewards, dones, infos = self._inner.step(self._actions)
        if self.spoil:
            obs["ego"][1, 0] = np.nan
        for info in infos:  # SuperSuit tells nothing of the last observation
            info.pop("terminal_observation", None)
            info["TimeLimit.truncated"] = True
        return obs, rewards, dones, np.zeros(self.num_envs, bool), infos


class LikeSuperSuit(VecEnvWrapper):
    """SuperSuit's SB3VecEnvWrapper: passes everything on, and calls no constructor of SB3's."""

    def __init__(self, venv):
        self.venv, self.num_envs, self.render_mode, self.reset_infos = venv, venv.num_envs, None, []
        self.observation_space, self.action_space = venv.observation_space, venv.action_space

    def reset(self):
        return self.venv.reset()[0]

    def step_wait(self):
        obs, rewards, terminated, truncated, infos = self.venv.step_wait()
        return obs, rewards, terminated | truncated, infos

    def get_attr(self, attr_name, indices=None):
        return self.venv.get_attr(attr_name)

    def env_is_wrapped(self, wrapper_class, indices=None):
        return self.venv.env_is_wrapped(wrapper_class)

    def getattr_recursive(self, name):
        raise AttributeError(name)

    def getattr_depth_check(self, name, already_found):
        return None


SMALL = {"n_steps": 8, "batch_size": 24, "n_epochs": 1}
pytestmark = pytest.mark.filterwarnings("ignore:The `render_mode` attribute is not defined")


@pytest.mark.parametrize("make", [Concat, lambda n: LikeSuperSuit(Concat(n))], ids=["bare", "in SB3's clothes"])
def test_names_are_those_of_the_innermost(make):
    spec = EntitySpec.from_env(make(3))
    assert spec.names == {"items": ("dx", "dy", "size"), "ego": ("x", "y")}


def test_without_metadata_names_are_the_default_ones():
    inner = Concat(3)
    del inner.metadata
    spec = EntitySpec.from_env(VecMonitor(LikeSuperSuit(inner)))
    assert spec.names == {"items": ("f0", "f1", "f2"), "ego": ("f0", "f1")}


def test_the_agent_knows_names_and_preset():
    inner = Concat(3)
    inner.metadata = {**Toy.metadata, "preset": {"settings": {"gamma": 0.5}}}
    agent = make_agent(VecMonitor(LikeSuperSuit(inner)), **SMALL)
    assert agent.policy.features_extractor.spec.features == {"items": ("dx", "dy", "size")}
    assert agent.gamma == 0.5


def test_an_agent_learns_where_plain_ppo_does():
    PPO(EntityAttentionPolicy, LikeSuperSuit(Concat(3)), **SMALL).learn(24)
    agent = make_agent(LikeSuperSuit(Concat(3)), **SMALL).learn(48)
    assert agent.num_timesteps == 48


def test_and_is_guarded():
    with pytest.raises(GuardError, match=r"environment 1, step 1: observation 'ego'\[0\] is nan"):
        make_agent(LikeSuperSuit(Concat(3, spoil=True)), **SMALL).learn(24)


def test_a_seed_seeds_the_games_through_reset_where_the_innermost_has_no_seed():
    """SB3's own set_random_seed fails there: AttributeError, no attribute 'seed'."""

    def first(seed):
        agent = make_agent(VecMonitor(LikeSuperSuit(Concat(3))), seed=seed, **SMALL)
        return agent.env.reset()["items"], agent.policy.state_dict()["value_net.weight"].numpy()

    (games, weights), (again, same), (others, _) = first(4), first(4), first(5)
    np.testing.assert_array_equal(games, again)
    np.testing.assert_array_equal(weights, same)
    assert not np.array_equal(games, others)


def test_games_that_take_no_seed_at_all_are_named():
    class Unseeded(Concat):
        def reset(self):
            return super().reset()

    with pytest.raises(ValueError, match=r"Unseeded has neither seed\(\) nor reset\(seed=\.\.\.\).*leave seed out"):
        make_agent(LikeSuperSuit(Unseeded(3)), seed=4, **SMALL)
    assert make_agent(LikeSuperSuit(Unseeded(3)), **SMALL).learn(24).num_timesteps == 24
