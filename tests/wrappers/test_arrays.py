"""A Box with a presence column, and parallel arrays, as blocks: contents, names, and every refusal word for word."""

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_checker import check_env

from attn_rl import EntitySpec
from attn_rl.wrappers import ArraysToEntities, BoxToEntities
from tests.wrappers.scripted import Scripted
from tests.wrappers.test_sets import play, refusal

NAN = np.nan
COLUMNS = ("presence", "x", "y")
TABLE = spaces.Box(-9, 9, (3, 3), np.float32)
ROWS = np.array([[1, 2, 3], [0, NAN, 7], [1, 4, 5]], np.float32)


def table(*observations: np.ndarray) -> Scripted:
    return Scripted(TABLE, observations)


@pytest.mark.parametrize("presence", ["presence", 0])
def test_a_presence_column_becomes_a_presence_key(presence):
    env = BoxToEntities(table(ROWS, 0 * ROWS[[0, 0, 0]]), "cars", presence=presence, features=COLUMNS)
    (obs, _), (empty, _) = play(env)
    np.testing.assert_array_equal(obs["cars"], [[2, 3], [4, 5], [0, 0]])
    np.testing.assert_array_equal(obs["cars_present"], [1, 1, 0])
    assert not empty["cars_present"].any()
    assert EntitySpec.from_env(env).names == {"cars": ("x", "y")}
    check_env(env, warn=False)


def test_a_box_inside_a_dict_keeps_its_neighbours():
    space = spaces.Dict({"cars": TABLE, "ego": spaces.Box(-1, 1, (2,), np.float32)})
    env = Scripted(space, [{"cars": ROWS, "ego": np.zeros(2, np.float32)}], entities={"cars": COLUMNS})
    env = BoxToEntities(env, "cars", presence="presence")
    assert sorted(env.reset()[0]) == ["cars", "cars_present", "ego"]
    assert EntitySpec.from_env(env).names["cars"] == ("x", "y")


def test_a_smaller_capacity_keeps_the_nearest_and_counts():
    env = BoxToEntities(table(ROWS), presence=0, features=COLUMNS, capacity=1, overflow="nearest", by=("x", "y"))
    obs, info = env.reset()
    np.testing.assert_array_equal(obs["items"], [[2, 3]])
    assert info["entities_dropped"] == {"items": 1}


BAD_TABLES = [
    (np.zeros((2, 3)), "'items': got an observation of shape (2, 3); expected (3, 3)"),
    (ROWS + [[0.5, 0, 0]], "'items': the presence of row 0 is 1.5; expected 1 (there) or 0 (absent)"),
    (ROWS * [[NAN, 1, 1]], "'items': the presence of row 0 is nan; expected 1 (there) or 0 (absent)"),
    (
        ROWS * [[1, 1, NAN]],
        "'items': entity 0 has nan in feature 'y'; an entity that is there needs finite features: repair the "
        "environment, or leave the entity out",
    ),
    (
        np.ones((3, 3)),
        "'items': 3 entities do not fit into capacity=2; pass capacity=3 or more, or overflow='nearest' with "
        "by=(features relative to the ego), which keeps the nearest and counts the rest",
    ),
]


@pytest.mark.parametrize(("observation", "message"), BAD_TABLES)
def test_refused_tables(observation, message):
    env = BoxToEntities(table(observation), presence="presence", features=COLUMNS, capacity=2)
    assert refusal(env.reset) == message


def test_refused_box_arguments():
    assert refusal(lambda: BoxToEntities(table(ROWS), presence="there", features=COLUMNS)) == (
        "'items': presence='there' is no column of ('presence', 'x', 'y'); give its name or index"
    )
    assert refusal(lambda: BoxToEntities(table(ROWS), presence=3)) == (
        "'items': presence=3 is no column of ('f0', 'f1', 'f2'); give its name or index"
    )
    assert refusal(lambda: BoxToEntities(table(ROWS), presence=0, features=("a",))) == (
        "'items' has 3 features; got names ('a',): give one distinct name per feature"
    )
    flat = spaces.Box(-1, 1, (3,), np.float32)
    assert refusal(lambda: BoxToEntities(Scripted(flat, []), presence=0)) == (
        f"'items' is {flat}; expected a Box of shape (N, F)"
    )


ARRAYS = spaces.Dict(
    {
        "alive": spaces.MultiBinary(3),
        "dx": spaces.Box(-5, 5, (3,), np.float32),
        "ego": spaces.Box(-1, 1, (2,), np.float32),
        "team": spaces.MultiDiscrete([4, 4, 4]),
        "v": spaces.Box(-2, 2, (3, 2), np.float32),
    }
)


def arrays(**changes) -> dict:
    fields = {"alive": np.array([1, 0, 1]), "dx": np.array([1, 2, 3]), "team": np.array([3, 1, 2]), "ego": np.zeros(2)}
    return {**fields, "v": np.array([[1, 2], [0, 0], [-1, -2]]), **changes}


def test_parallel_arrays_become_one_block():
    env = ArraysToEntities(Scripted(ARRAYS, [arrays()]), "foes", keys=("dx", "v", "team"), presence="alive")
    obs, _ = env.reset()
    np.testing.assert_array_equal(obs["foes"], [[1, 1, 2, 3], [3, -1, -2, 2], [0] * 4])
    np.testing.assert_array_equal(obs["foes_present"], [1, 1, 0])
    assert sorted(obs) == ["ego", "foes", "foes_present"]
    assert EntitySpec.from_env(env).names["foes"] == ("dx", "v_0", "v_1", "team")
    np.testing.assert_array_equal(env.observation_space["foes"].high[0], [5, 2, 2, 3])


def test_without_a_rule_all_entities_exist():
    space = spaces.Dict({"dx": ARRAYS["dx"]})
    obs, _ = ArraysToEntities(Scripted(space, [{"dx": np.zeros(3)}]), keys=["dx"]).reset()
    np.testing.assert_array_equal(obs["items_present"], [1, 1, 1])


def test_nan_can_mean_absent():
    space = spaces.Dict({"dx": ARRAYS["dx"], "v": ARRAYS["v"]})
    gone = np.array([[1, 2], [NAN, NAN], [NAN, 3]])
    observations = [
        {"dx": np.array([1, NAN, 2]), "v": np.nan_to_num(gone) * [[1], [NAN], [1]]},
        {"dx": np.full(3, NAN), "v": np.full((3, 2), NAN)},
        {"dx": np.array([1, NAN, NAN]), "v": gone},
    ]
    env = ArraysToEntities(Scripted(space, observations), keys=("dx", "v"), nan_absent=True)
    np.testing.assert_array_equal(env.reset()[0]["items"], [[1, 1, 2], [2, 0, 3], [0, 0, 0]])
    assert not env.step(0)[0]["items_present"].any()
    assert refusal(lambda: env.step(0)) == (
        "'items': entity 1 has nan in feature 'dx'; an entity that is there needs finite features: repair the "
        "environment, or leave the entity out"
    )


BAD_ARRAYS = [
    (arrays(dx=np.zeros(2)), "'foes': 'dx' has shape (2,); expected (3,)"),
    (arrays(v=np.zeros(6)), "'foes': 'v' has shape (6,); expected (3, 2)"),
    (arrays(alive=np.array([1, 2, 0])), "'foes': the presence of row 1 is 2; expected 1 (there) or 0 (absent)"),
    (
        arrays(dx=np.array([NAN, 1, 1])),
        "'foes': entity 0 has nan in feature 'dx'; an entity that is there needs finite features: repair the "
        "environment, or leave the entity out",
    ),
    (
        arrays(alive=np.ones(3)),
        "'foes': 3 entities do not fit into capacity=2; pass capacity=3 or more, or overflow='nearest' with "
        "by=(features relative to the ego), which keeps the nearest and counts the rest",
    ),
]


@pytest.mark.parametrize(("observation", "message"), BAD_ARRAYS)
def test_refused_arrays(observation, message):
    env = Scripted(ARRAYS, [observation])
    env = ArraysToEntities(env, "foes", keys=("dx", "v"), presence="alive", capacity=2)
    assert refusal(env.reset) == message


def test_refused_array_arguments():
    env = Scripted(ARRAYS, [arrays()])
    assert refusal(lambda: ArraysToEntities(env, keys=("dx",), presence="alive", nan_absent=True)) == (
        "presence='alive' and nan_absent=True; give one rule for what is absent"
    )
    assert refusal(lambda: ArraysToEntities(env, keys=("dx", "dz"))) == (
        "keys ['dz'] are not in the observation; choose from ['alive', 'dx', 'ego', 'team', 'v']"
    )
    assert refusal(lambda: ArraysToEntities(env, keys=())) == (
        "keys=() names no array; choose from ['alive', 'dx', 'ego', 'team', 'v']"
    )
    assert refusal(lambda: ArraysToEntities(env, keys=("dx", "ego"))) == (
        "the arrays have different lengths {'dx': 3, 'ego': 2}; expected one value per entity in each"
    )
    assert refusal(lambda: ArraysToEntities(Scripted(TABLE, []), keys=("dx",))) == (
        f"the observation is {TABLE}; expected a Dict that holds the arrays ('dx',)"
    )
    deep = spaces.Dict({"image": spaces.Box(0, 1, (3, 3, 3), np.float32)})
    assert refusal(lambda: ArraysToEntities(Scripted(deep, []), keys=("image",))) == (
        f"'image' is {deep['image']}; expected an array of shape (N,) or (N, k)"
    )
