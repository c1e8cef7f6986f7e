"""Nested observations get flat keys; whole numbers that are names become categories."""

import numpy as np
import pytest
from gymnasium import spaces

from attn_rl import EntitySpec, make_agent, make_vec_env
from attn_rl.wrappers import DiscreteToBox, FlattenDict
from tests.wrappers.scripted import Scripted
from tests.wrappers.test_sets import refusal

POINT, ROWS = spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-1, 1, (3, 2), np.float32)
NESTED = spaces.Dict({"agent": spaces.Dict({"pose": POINT, "seen": ROWS}), "parts": spaces.Tuple([POINT, POINT])})
DISCRETE = spaces.Dict(
    {
        "heading": spaces.Discrete(4, start=1),
        "items": spaces.MultiDiscrete([[3, 2]] * 5),
        "bag": spaces.MultiDiscrete([7, 2]),
    }
)
OBSERVED = {"heading": 2, "items": np.array([[2, 1]] * 5), "bag": np.array([6, 0])}


def test_parts_get_keys_of_their_own():
    one, two, rows = np.zeros(2, np.float32), np.ones(2, np.float32), np.zeros((3, 2), np.float32)
    observation = {"agent": {"pose": one, "seen": rows}, "parts": (one, two)}
    env = FlattenDict(Scripted(NESTED, [observation]), {"agent_seen": "ships"})
    obs, _ = env.reset()
    assert sorted(obs) == ["agent_pose", "parts_0", "parts_1", "ships"]
    assert obs["parts_1"] is two
    assert env.observation_space.contains(obs)
    spec = EntitySpec.from_env(env)
    assert spec.capacities == {"ships": 3}
    assert [key for key, _ in spec.ego] == ["agent_pose", "parts_0", "parts_1"]


def test_refused_names_of_parts():
    assert "expected a Dict or a Tuple" in refusal(lambda: FlattenDict(Scripted(POINT, [])))
    assert "names are given for ['agent']" in refusal(lambda: FlattenDict(Scripted(NESTED, []), {"agent": "a"}))
    assert "two parts would be called the same" in refusal(
        lambda: FlattenDict(Scripted(NESTED, []), {"agent_pose": "parts_0"})
    )


def test_whole_numbers_become_categories_that_count_from_zero():
    env = DiscreteToBox(Scripted(DISCRETE, [OBSERVED], categories={"items": {"items_0": ("red", "green", "blue")}}))
    obs, _ = env.reset()
    assert obs["heading"].tolist() == [1]
    assert obs["items"].shape == (5, 2)
    spec = EntitySpec.from_env(env)
    assert spec.expanded.widths == {"items": 5}
    assert spec.categories["items"] == {"items_0": ("red", "green", "blue"), "items_1": ("0", "1")}
    assert len(spec.expanded.ego_features) == 7 + 2 + 4
    assert env.observation_space.contains(obs)


def test_a_bare_one_gets_a_name():
    env = DiscreteToBox(Scripted(spaces.MultiDiscrete([[3, 2]] * 5), [OBSERVED["items"]]), "ships")
    assert EntitySpec.from_env(env).capacities == {"ships": 5}
    assert "expected a Discrete or MultiDiscrete" in refusal(lambda: DiscreteToBox(Scripted(POINT, [])))


@pytest.mark.parametrize("key", ["heading", "items"])
def test_without_the_wrapper_the_error_names_it(key):
    with pytest.raises(ValueError, match=f"(?s)observation key '{key}' is .*DiscreteToBox"):
        EntitySpec.from_space(spaces.Dict({"ships": ROWS, key: DISCRETE[key]}))


def test_an_agent_learns_from_whole_numbers():
    env = make_vec_env(lambda: DiscreteToBox(Scripted(DISCRETE, [OBSERVED] * 4)), n_envs=2)
    make_agent(env, n_steps=8, batch_size=16, n_epochs=1).learn(16)
