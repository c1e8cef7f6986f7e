"""predict answers no question that makes no sense, and says why."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import load, make_agent, make_vec_env
from tests.toys import Toy

SEEK = "AttnRL/Seek-v0"


@pytest.fixture(scope="module")
def agent():
    return make_agent(make_vec_env(Toy, 3, seed=0, env_kwargs={"masked": True}), seed=0)


@pytest.fixture
def batch(agent) -> dict[str, np.ndarray]:
    obs = agent.get_env().reset()
    obs["items_present"][:] = [1, 1, 0, 1, 0]
    return obs


def put(key: str, place, value):
    def change(obs):
        block = obs[key].astype(np.result_type(obs[key], type(value)))
        block[place] = value
        return obs | {key: block}

    return change


WRONG = {
    "a key too few": (
        lambda o: {k: o[k] for k in o if k != "ego"},
        r"has keys \[.*\], expected \['action_mask', 'ego'",
    ),
    "a key too many": (lambda o: o | {"wind": o["ego"]}, r"has keys \[.*'wind'\], expected"),
    "NaN in a row that is there": (
        put("items", (1, 3, 0), np.nan),
        r"observation 1 of the batch: feature 'dx' of items 3 is nan; .* finite .* 1e\+09",
    ),
    "inf in a row that is there": (put("items", (0, 0, 2), np.inf), "observation 0 .* 'size' of items 0 is inf"),
    "a value no network can square": (put("items", (2, 1, 1), 1e30), r"feature 'dy' of items 1 is 1e\+30; expected"),
    "NaN in the ego": (put("ego", (2, 1), np.nan), "observation 2 of the batch: feature 'y' of ego is nan"),
    "a presence of two": (put("items_present", (0, 4), 2), r"'items_present'\[4\] is 2; expected 0 or 1"),
    "a presence of NaN": (put("items_present", (0, 4), np.nan), "'items_present' is float"),
    "a mask of minus one": (
        put("action_mask", (1, 0), -1),
        r"observation 1 .*'action_mask'\[0\] is -1; expected 0 or 1",
    ),
    "slots too few": (
        lambda o: o | {"items": o["items"][:, :4]},
        r"'items' is float32 of shape \(3, 4, 3\), expected float32 of shape \(5, 3\) or \(n, 5, 3\)",
    ),
    "features too many": (
        lambda o: o | {"ego": np.ones((3, 3), np.float32)},
        r"'ego' is float32 of shape \(3, 3\), exp",
    ),
    "a batch and a single one": (
        lambda o: o | {"ego": o["ego"][0]},
        r"'action_mask' is a batch of 3, 'ego' a single observation; expected all alike",
    ),
    "batches of two sizes": (lambda o: o | {"ego": o["ego"][:2]}, "'action_mask' is a batch of 3, 'ego' a batch of 2"),
    "strings": (lambda o: o | {"ego": o["ego"].astype(str)}, "'ego' is <U"),
    "rows of unequal length": (lambda o: o | {"ego": [[1.0], [1.0, 2.0], [0.0]]}, "'ego' is a list that is no array"),
    "observation and info": (lambda o: (o, {}), "the observation is a tuple, .*; Gymnasium's reset and step return"),
    "a bare array": (lambda o: o["items"], "the observation is a ndarray, expected a dict with keys"),
    "nothing": (lambda o: None, "the observation is None, expected a dict"),
}


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_question_without_sense_gets_no_answer(wrong: str, deterministic: bool, agent, batch):
    change, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"^predict: .*{message}"):
        agent.predict(change(batch), deterministic=deterministic)


@pytest.mark.parametrize("wrong", ["a key too few", "a key too many", "NaN in a row that is there", "strings"])
def test_nor_does_one_about_a_single_observation(wrong: str, agent, batch):
    change, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"^predict: .*{message.removeprefix('observation 1 of the batch: ')}"):
        agent.predict({key: block[1] for key, block in change(batch).items()})


FINE = {
    "a batch": lambda o: o,
    "a single observation": lambda o: {key: block[0] for key, block in o.items()},
    "a batch of one": lambda o: {key: block[:1] for key, block in o.items()},
    "a wider float": lambda o: o | {"items": o["items"].astype(np.float64)},
    "Booleans": lambda o: o | {"items_present": o["items_present"].astype(bool)},
    "lists": lambda o: {key: block[0].tolist() for key, block in o.items()},
    "NaN in an absent row": put("items", (slice(None), 2), np.nan),
    "values beyond the space's bounds": put("items", (0, 0, 0), 7.0),
}


@pytest.mark.parametrize("form", FINE)
def test_a_sensible_question_is_answered(form: str, agent, batch):
    actions, _ = agent.predict(FINE[form](batch), deterministic=True)
    assert np.isin(actions, range(5)).all()


def test_a_presence_column_excuses_absent_rows_only():
    env = DummyVecEnv([lambda: Toy(plain=True)])
    env.envs[0].metadata = {"entities": {"cars": ("x", "y", "there")}}
    agent = make_agent(env, presence="there", seed=0)
    obs = env.reset()
    obs[0, :, 2] = [1, 0, 1, 1, 1]
    obs[0, 1, 0] = np.nan
    agent.predict(obs)
    obs[0, 3, 1] = np.nan
    with pytest.raises(ValueError, match="feature 'y' of cars 3 is nan"):
        agent.predict(obs)
    obs[0, 3] = [0, 0, np.nan]
    with pytest.raises(ValueError, match="feature 'there' of cars 3 is nan"):
        agent.predict(obs[0])


def test_who_is_in_a_hurry_may_switch_it_off(batch):
    agent = make_agent(make_vec_env(Toy, 3, seed=0, env_kwargs={"masked": True}), seed=0)
    agent.check_observations = False
    agent.predict(put("items", (1, 3, 0), np.nan)(batch), deterministic=True)


def test_a_loaded_agent_checks_too(tmp_path):
    make_agent(make_vec_env(SEEK, 2, seed=0), seed=0).save(tmp_path / "model.zip")
    loaded = load(tmp_path / "model.zip", trust=True)
    obs = make_vec_env(SEEK, 2, seed=0).reset()
    loaded.predict(obs)
    with pytest.raises(ValueError, match=r"predict: .* has keys \['ego', 'items'\], expected"):
        loaded.predict({"ego": obs["ego"], "items": obs["items"]})


def test_a_policy_of_another_kind_is_left_alone(tmp_path):
    env = DummyVecEnv([lambda: Toy(plain=True)])
    PPO("MlpPolicy", env).save(tmp_path / "model.zip")
    load(tmp_path / "model.zip", trust=True).predict(env.reset())
