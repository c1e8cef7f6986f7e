"""load(path, capacity=...): a trained agent for more entities, without an environment that holds them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO

from attn_rl import load, make_agent, make_vec_env
from attn_rl.training.loading import DoesNotFit
from tests.toys import Toy

SMALL = {"seed": 0, "n_steps": 8, "batch_size": 16, "n_epochs": 1}
SEEK, TRIAGE, FORAGE = (f"AttnRL/{name}-v0" for name in ("Seek", "Triage", "Forage"))


def saved(tmp_path, env_id, policy="attention", **settings):
    agent = make_agent(make_vec_env(env_id, 2, seed=0), policy, **SMALL, **settings).learn(16)
    agent.save(tmp_path / "model.zip")
    return agent, tmp_path / "model.zip"


def widened(obs, space):
    """The same scene in more slots."""
    wide = {}
    for key, part in space.spaces.items():
        wide[key] = np.zeros((len(obs[key]), *part.shape), part.dtype)
        wide[key][tuple(slice(n) for n in obs[key].shape)] = obs[key]
    return wide


@pytest.mark.parametrize("policy", ["attention", "deepsets"])
def test_the_same_scene_gets_the_same_answer_in_more_slots(policy: str, tmp_path):
    agent, path = saved(tmp_path, SEEK, policy)
    large = load(path, capacity=23, trust=True)
    assert large.observation_space["items"].shape == (23, 6)
    assert large.observation_space["items_present"] == spaces.MultiBinary(23)
    assert large.observation_space["ego"] == agent.observation_space["ego"]
    obs = agent.get_env().reset()
    wide = widened(obs, large.observation_space)
    np.testing.assert_array_equal(agent.predict(obs, deterministic=True)[0], large.predict(wide, deterministic=True)[0])


def test_the_space_is_that_of_the_environment_made_with_as_many_slots(tmp_path):
    _, path = saved(tmp_path, TRIAGE, pointer="enemies")  # actions point at slots, and are masked
    large = load(path, capacity={"enemies": 12}, trust=True)
    env = make_vec_env(TRIAGE, large.n_envs, seed=0, env_kwargs={"capacity": 12})
    assert large.observation_space == env.observation_space
    assert large.action_space == env.action_space
    obs = env.reset()
    assert large.predict(obs)[0].shape == env.action_space.sample()[None].repeat(2, 0).shape
    large.set_env(env)
    large.learn(16)


def test_each_type_can_have_its_own_number(tmp_path):
    agent, path = saved(tmp_path, FORAGE)
    before = {t.name: t.capacity for t in agent.policy.features_extractor.spec.types}
    large = load(path, capacity={"food": 9}, trust=True)
    assert {t.name: t.capacity for t in large.policy.features_extractor.spec.types} == before | {"food": 9}


def test_a_run_folder_too(tmp_path):
    from train import parse, run

    argv = ["--total-timesteps", "256", "--n-envs", "8", "--n-steps", "8", "--record-every", "10000"]
    run(parse([*argv, "--runs-dir", str(tmp_path), "--run-name", "run"]))
    large = load(tmp_path / "run", capacity=40)
    assert large.observation_space["items"].shape == (40, 6)
    with pytest.raises(ValueError, match=r"loaded with capacity=, without an environment; .*set_env\(env\)"):
        large.learn(16)


def test_a_presence_column_stays_a_column(tmp_path):
    env = make_vec_env(PlainToy, 2, seed=0)
    make_agent(env, presence=2, **SMALL).save(tmp_path / "model.zip")
    large = load(tmp_path / "model.zip", capacity=11, trust=True)
    assert large.observation_space == spaces.Box(-1, 1, (11, 3), np.float32)
    assert large.predict(np.ones((11, 3), np.float32))[0] in range(5)


class PlainToy(Toy):
    metadata = {"render_modes": []}

    def __init__(self):
        super().__init__(plain=True)


REFUSED = {
    "another type": ({"capacity": {"trees": 4}}, "capacity names 'trees'; the entity types are .'items'"),
    "no slots": ({"capacity": 0}, "capacity=0; expected 1 or more"),
    "half a slot": ({"capacity": 2.5}, r"capacity=2\.5; expected a whole number"),
    "an environment as well": ({"capacity": 9, "env": True}, "both env= and capacity="),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused(what: str, tmp_path):
    arguments, message = REFUSED[what]
    _, path = saved(tmp_path, SEEK)
    if "env" in arguments:
        arguments = arguments | {"env": make_vec_env(SEEK, 2)}
    with pytest.raises(ValueError, match=message):
        load(path, trust=True, **arguments)


def test_a_flat_policy_does_not_fit(tmp_path):
    _, path = saved(tmp_path, SEEK, "flat")
    with pytest.raises(DoesNotFit, match="depend on the number of slots"):
        load(path, capacity=20, trust=True)


def test_a_policy_without_entities_is_refused(tmp_path):
    PPO("MlpPolicy", gym.make("CartPole-v1"), device="cpu").save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="looks through FlattenExtractor, which knows no entities"):
        load(tmp_path / "model.zip", capacity=3, trust=True)
