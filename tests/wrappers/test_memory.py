"""The past as entities: what is remembered, how old it is, what is dropped, and that no episode sees another's."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from attn_rl import EntitySpec, make_vec_env
from attn_rl.vec_envs.memory import VecMemory
from attn_rl.wrappers import MemoryWrapper
from attn_rl.wrappers.memory import MemoryOptions
from attn_rl.wrappers.memory.age import age_bounds, age_columns, age_names

LENGTH = 7


class Passing(gym.Env):
    """Thing t, of identity t and size 10 t, is seen at steps t and t + 1; the ego knows the time."""

    metadata = {
        "entities": {"ego": ("time",), "things": ("name", "size")},
        "kinds": {"size": {"things": ("size",), "ego": ("time",)}},
        "categories": {"things": {"name": 13}},
    }
    observation_space = spaces.Dict(
        {
            "ego": spaces.Box(0, 99, (1,)),
            "things": spaces.Box(0, 99, (3, 2)),
            "things_present": spaces.MultiBinary(3),
        }
    )
    action_space = spaces.Discrete(5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.observe(), {}

    def step(self, action):
        self.time += 1
        return self.observe(), float(self.time), self.time >= LENGTH, False, {}

    def observe(self):
        things, present = np.full((3, 2), 55, np.float32), np.zeros(3, np.int8)  # absent rows hold nonsense
        for slot, name in enumerate((self.time, self.time - 1)):
            if name >= 0:
                things[slot], present[slot] = (name, 10 * name), 1
        return {"ego": np.array([self.time], np.float32), "things": things, "things_present": present}


def rows(obs, name, *columns):
    """The given columns of the rows of a type that are there, as a list of tuples."""
    present = obs[f"{name}_present"].astype(bool)
    return [tuple(row) for row in obs[name][present][:, list(columns)].tolist()]


def played(env, steps, seed=0):
    obs, _ = env.reset(seed=seed)
    for t in range(steps):
        obs, _, _, _, info = env.step(t % 5)
    return obs, info


def test_the_last_steps_are_entities_newest_first():
    env = MemoryWrapper(Passing(), steps=3)
    obs, _ = played(env, 4)
    assert rows(obs, "things", 0, 1) == [(4, 40), (3, 30)]
    assert rows(obs, "past_things", 0, 1) == [(3, 30), (2, 20), (2, 20), (1, 10), (1, 10), (0, 0)]
    ages = np.expm1(obs["past_things"][obs["past_things_present"] == 1, 2])
    np.testing.assert_allclose(ages, [1, 1, 2, 2, 3, 3], rtol=1e-5)
    assert rows(obs, "past_steps", 0) == [(3,), (2,), (1,)]
    absent = obs["past_things"][obs["past_things_present"] == 0]
    assert absent.shape[0] == 3
    assert (absent == 0).all()


def test_actions_and_rewards_are_told_on_request():
    env = MemoryWrapper(Passing(), steps=2, actions=True, rewards=True)
    obs, _ = played(env, 4)
    told = env.metadata["entities"]["past_steps"][:7]
    assert told == ("time", "action_0", "action_1", "action_2", "action_3", "action_4", "reward")
    assert rows(obs, "past_steps", *range(7)) == [(3, 0, 0, 0, 1, 0, 4), (2, 0, 0, 1, 0, 0, 3)]


def test_sightings_are_of_what_is_not_seen_now_youngest_first():
    env = MemoryWrapper(Passing(), sightings=3, identity=("name",))
    obs, info = played(env, 5)
    assert rows(obs, "things", 0) == [(5,), (4,)]
    assert rows(obs, "unseen_things", 0, 1) == [(3, 30), (2, 20), (1, 10)]
    ages = np.expm1(obs["unseen_things"][:, 2])
    np.testing.assert_allclose(ages, [1, 2, 3], rtol=1e-5)
    assert info["forgotten"] == {"unseen_things": 0}
    assert "past_steps" not in obs


def test_without_an_identity_every_row_is_a_sighting():
    obs, _ = played(MemoryWrapper(Passing(), sightings=4), 3)
    assert rows(obs, "unseen_things", 0) == [(2,), (1,), (1,), (0,)]


def test_the_environment_may_declare_what_things_are_recognised_by():
    class Declared(Passing):
        metadata = {**Passing.metadata, "identity": {"things": ("name",)}}

    obs, _ = played(MemoryWrapper(Declared(), sightings=4), 3)
    assert rows(obs, "unseen_things", 0) == [(1,), (0,)]


def test_what_is_dropped_is_counted():
    _, info = played(MemoryWrapper(Passing(), steps=2), 5)
    assert info["forgotten"] == {"past_things": 1 + 2 + 2, "past_steps": 3}
    _, info = played(MemoryWrapper(Passing(), sightings=1, identity=("name",)), 6)
    assert info["forgotten"]["unseen_things"] == 2  # 0 and 1: two that are seen and two more fit the store


def test_no_episode_sees_another():
    env = MemoryWrapper(Passing(), steps=3, sightings=2)
    played(env, 5)
    obs, info = env.reset(seed=1)
    for name in ("past_things", "past_steps", "unseen_things"):
        assert rows(obs, name, 0) == []
    assert set(info["forgotten"].values()) == {0}


def test_names_kinds_and_categories_are_those_of_what_is_remembered():
    env = MemoryWrapper(Passing(), steps=2)
    spec = EntitySpec.from_env(env)
    assert spec.features["past_things"] == ("name", "size", *age_names(2))
    assert len(spec.categories["past_things"]["name"]) == 13
    assert set(spec.kinds["size"]) == {"things", "ego", "past_things", "past_steps"}
    assert "past_things" not in Passing.metadata["entities"]


@pytest.mark.filterwarnings("ignore:.*WARN")
def test_gymnasium_has_nothing_to_say():
    check_env(MemoryWrapper(Passing(), steps=2, actions=True, rewards=True), skip_render_check=True)


@pytest.mark.parametrize("most", [1, 2, 5, 16, 63, 100])
def test_ages_are_told_apart_and_stay_in_their_bounds(most):
    ages = np.arange(1, most + 1)
    columns = age_columns(ages, most)
    assert columns.shape == (most, len(age_names(most)))
    apart = np.abs(columns[:, None] - columns[None]).max(-1) + 9 * np.eye(most)
    assert apart[:63, :63].min() > 0.5  # each from every other in at least one column
    low, high = age_bounds(most)
    assert (columns >= low - 1e-6).all()
    assert (columns <= high + 1e-6).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing is remembered"),
        ({"steps": -1}, "steps=-1; expected a whole number from 0"),
        ({"sightings": 2, "actions": True}, "add steps="),
        ({"steps": 2, "identity": ("name",)}, "add it, or leave identity out"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MemoryOptions(**options)


def test_what_cannot_be_remembered_is_refused():
    class Words(Passing):
        observation_space = spaces.Discrete(4)

    with pytest.raises(ValueError, match=r"expected a Dict of blocks.*DiscreteToBox"):
        MemoryWrapper(Words(), steps=2)
    with pytest.raises(ValueError, match=r"has keys .*past_things.* already"):
        MemoryWrapper(MemoryWrapper(Passing(), steps=2), steps=3)
    with pytest.raises(ValueError, match="sightings= are of entities"):
        MemoryWrapper(gym.make("CartPole-v1"), sightings=2)


def test_a_vector_becomes_the_ego():
    obs, _ = MemoryWrapper(gym.make("CartPole-v1"), steps=5).reset(seed=3)
    assert obs["ego"].shape == (4,)
    assert obs["past_steps"].shape == (5, 4 + len(age_names(5)))


def test_a_column_of_presence_becomes_a_key():
    class Plain(Passing):
        metadata = {"entities": {"cars": ("x", "presence", "y")}}
        observation_space = spaces.Box(-9, 9, (2, 3))

        def observe(self):
            return np.array([[self.time, 1, 2], [5, 0, 5]], np.float32)

    env = MemoryWrapper(Plain(), steps=2, presence="presence")
    obs, _ = played(env, 2)
    assert rows(obs, "cars", 0, 1) == [(2, 2)]
    assert rows(obs, "past_cars", 0, 1) == [(1, 2), (0, 2)]
    assert env.metadata["entities"]["past_cars"][:2] == ("x", "y")


@pytest.mark.parametrize("options", [{"steps": 3, "actions": True, "rewards": True}, {"sightings": 4}])
@pytest.mark.parametrize("env_id", ["AttnRL/Hidden-v0", "AttnRL/Recall-v0"])
def test_side_by_side_as_one_by_one(env_id, options):
    """Bit for bit, over several episodes, in the observation that an episode ends with too."""
    n = 3
    batch = VecMemory(make_vec_env(env_id, n, seed=5), **options)
    singles = [MemoryWrapper(gym.make(env_id), **options) for _ in range(n)]
    seen = batch.reset()
    firsts = [single.reset(seed=5 + i)[0] for i, single in enumerate(singles)]
    random = np.random.default_rng(0)
    for _ in range(80):
        for i, first in enumerate(firsts):
            assert first.keys() == seen.keys()
            assert all((seen[key][i] == first[key]).all() for key in first)
        slots = [single.relevant() for single in singles]
        assert batch.env_method("relevant") == slots
        actions = random.integers(0, 4, n)
        seen, rewards, dones, infos = batch.step(actions)
        for i, single in enumerate(singles):
            firsts[i], reward, terminated, truncated, info = single.step(int(actions[i]))
            assert (np.float32(reward), terminated or truncated) == (rewards[i], dones[i])
            if dones[i]:
                last = infos[i]["terminal_observation"]
                assert all((last[key] == firsts[i][key]).all() for key in last)
                assert infos[i]["forgotten"] == info["forgotten"]
                firsts[i] = single.reset()[0]


def test_the_decisive_slot_is_found_in_the_past():
    env = VecMemory(make_vec_env("AttnRL/Recall-v0", 4, seed=0), steps=6)
    obs = env.reset()
    for _ in range(9):
        obs, *_ = env.step(np.array(env.env_method("oracle", obs)))
    relevant, slots = env.env_method("relevant"), obs["cards"].shape[1]
    for i, slot in enumerate(relevant):
        row = obs["past_cards"][i, slot - slots]
        assert obs["past_cards_present"][i, slot - slots]
        assert np.expm1(row[7]) == pytest.approx(4)
        assert (row[:3] == obs["ego"][i, :3]).all()
    places = np.array(env.env_method("entity_positions"))
    assert places.shape == (4, slots + 6 * slots + 6, 2)
    assert np.isnan(places[:, slots:]).all()
