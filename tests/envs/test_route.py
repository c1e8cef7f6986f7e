"""Route: the shortest way is the shortest, and what the environment reports follows from it."""

from itertools import permutations

import gymnasium as gym
import numpy as np
import pytest
from attn_rl.envs.tours import greedy_length, insertion_length, kool_cities, shortest_way

ID = "AttnRL/Route-v0"


def games(n: int, n_slots: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    place = rng.uniform(-1, 1, (n, n_slots, 2))
    return np.linalg.norm(place[:, :, None] - place[:, None], axis=-1), rng.random((n, n_slots)) < 0.6


def best_of_all(distance: np.ndarray, here: int, start: int, left: np.ndarray) -> tuple[float, set[int]]:
    ways = {
        way: sum(distance[a, b] for a, b in zip([here, *way], [*way, start], strict=True)) for way in permutations(left)
    }
    length = min(ways.values())
    return length, {(*way, start)[0] for way, total in ways.items() if total < length + 1e-12}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_shortest_way_is_the_best_of_all(elsewhere):
    """Also where the games of a batch have different numbers of cities left, none included."""
    distance, left = games(23, 7)
    start = np.arange(23) % 7
    here = (start + 3) % 7 if elsewhere else start
    rows = np.arange(23)
    left[rows, start] = left[rows, here] = False
    left[5] = False
    length, first = shortest_way(distance, here, start, left)
    for i in rows:
        expected, firsts = best_of_all(distance[i], here[i], start[i], np.flatnonzero(left[i]))
        assert length[i] == pytest.approx(expected)
        assert first[i] in firsts


@pytest.mark.parametrize("elsewhere", [False, True])
def test_solver_agrees_with_dynamic_programming(elsewhere, monkeypatch):
    pytest.importorskip("fast_tsp")
    distance, _ = games(11, 11)
    start, here = np.zeros(11, int), np.full(11, 4 if elsewhere else 0)
    left = np.ones((11, 11), bool)
    left[:, [0, 4]] = False
    exact, _ = shortest_way(distance, here, start, left)
    monkeypatch.setattr("attn_rl.envs.tours.MAX_EXACT", 3)
    solved, first = shortest_way(distance, here, start, left)
    np.testing.assert_allclose(solved, exact, rtol=1e-4)
    assert left[np.arange(11), first].all()


def test_greedy_tour_by_hand():
    """Cities on a line at 0, 1, 3, -2.5: from 0 to 1, then 3 (2 away, -2.5 is 3.5 away), then back."""
    x = np.array([0.0, 1.0, 3.0, -2.5, 99.0])
    distance = np.abs(x[:, None] - x)[None]
    there = np.array([[True, True, True, True, False]])
    assert greedy_length(distance, np.array([0]), there)[0] == pytest.approx(1 + 2 + 5.5 + 2.5)


def play(env: gym.Env, seed: int, choose) -> tuple[float, int, dict]:
    obs, _ = env.reset(seed=seed)
    total, steps, done = 0.0, 0, False
    while not done:
        obs, reward, done, truncated, info = env.step(choose(obs))
        assert not truncated
        total, steps = total + reward, steps + 1
    return total, steps, info


def test_each_step_visits_a_city_whatever_the_choice():
    env = gym.make(ID, report_gap=True, capacity=13)
    env.action_space.seed(0)
    for seed in range(20):
        count = int(env.reset(seed=seed)[0]["cities_present"].sum())
        total, steps, info = play(env, seed, lambda obs: env.action_space.sample())
        assert steps == count - 1
        assert info["tour_length"] == pytest.approx(-total * 2 * np.sqrt(count))
        assert info["gap"] >= -1e-12


def test_gap_of_the_scripted_policy_is_zero_and_greedy_just_succeeds():
    env = gym.make(ID, report_gap=True, min_entities=7)
    for seed in range(20):
        _, _, info = play(env, seed, env.unwrapped.oracle)
        assert info["gap"] == pytest.approx(0)
        assert info["is_success"]
        nearest = lambda obs: np.where(obs["action_mask"] == 1, obs["cities"][:, 4], np.inf).argmin()  # noqa: E731
        assert play(env, seed, nearest)[2]["is_success"]


def test_an_invalid_choice_goes_to_the_farthest_city():
    env = gym.make(ID, min_entities=4, max_entities=4, capacity=5)
    obs, _ = env.reset(seed=3)
    distance = obs["cities"][:, 4].max()
    assert obs["action_mask"][4] == 0
    _, reward, *_ = env.step(4)
    assert reward == pytest.approx(-distance / 4)


def test_masks_of_observation_and_method_agree():
    batch = gym.make_vec(ID, num_envs=5)
    obs, _ = batch.reset(seed=0)
    for _ in range(9):
        np.testing.assert_array_equal(batch.action_masks(), obs["action_mask"].astype(bool))
        visited = (obs["cities"][..., 5] == 1) | (obs["cities_present"] == 0)
        np.testing.assert_array_equal(obs["action_mask"] == 0, visited)
        obs = batch.step(batch.oracle(obs))[0]
    single = gym.make(ID)
    obs, _ = single.reset(seed=0)
    np.testing.assert_array_equal(single.unwrapped.action_masks(), obs["action_mask"].astype(bool))


def test_more_than_twelve_cities_need_the_solver(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"report_gap=True with max_entities=13 .* pip install"):
        gym.make_vec(ID, num_envs=1, max_entities=13, report_gap=True)
    gym.make_vec(ID, num_envs=1, max_entities=13)


def test_published_cities_are_played_as_given():
    """The nearest neighbour's tour through Kool's first cities: what the game reports is what is computed beside it."""
    cities = kool_cities(7, 5)
    np.random.seed(1234)
    assert (cities == np.random.uniform(size=(10_000, 7, 2))[:5]).all()
    env = gym.make_vec(ID, num_envs=5, max_entities=9)
    env.unwrapped.set_attr("report_gap", True)
    obs, _ = env.reset(seed=0, options={"cities": 2 * cities - 1})
    assert obs["cities_present"].sum(axis=1).tolist() == [7] * 5
    for _ in range(6):
        way = np.where(obs["action_mask"] == 1, obs["cities"][..., 4], np.inf)
        obs, *_, infos = env.step(way.argmin(axis=1))
    place = np.linalg.norm(cities[:, :, None] - cities[:, None], axis=-1)
    nearest = greedy_length(place, np.zeros(5, int), np.ones((5, 7), bool))
    np.testing.assert_allclose(infos["final_info"]["tour_length"], 2 * nearest, rtol=1e-6)
    shortest, _ = shortest_way(place, np.zeros(5, int), np.zeros(5, int), np.arange(7)[None].repeat(5, 0) > 0)
    np.testing.assert_allclose(infos["final_info"]["gap"], nearest / shortest - 1, rtol=1e-6)


@pytest.mark.parametrize("cities", [np.zeros((2, 4, 2)), np.zeros((3, 11, 2)), np.zeros((3, 4)), np.full((3, 4, 2), 2)])
def test_cities_that_do_not_fit_are_refused(cities):
    with pytest.raises(ValueError, match=r"expected 3 games, one for each sub-environment, of 2 to 10 cities in"):
        gym.make_vec(ID, num_envs=3).reset(options={"cities": cities})


def test_farthest_insertion_by_hand():
    """From (0,0): (4,3), 5 away, there and back 10; (4,0), at most 4 away from both, adds 2; (1,0) lies on the way."""
    place = np.array([[[0, 0], [1, 0], [4, 0], [4, 3]]], float)
    distance = np.linalg.norm(place[:, :, None] - place[:, None], axis=-1)
    np.testing.assert_allclose(insertion_length(distance), 12)
    cities = kool_cities(11, 50)
    place = np.linalg.norm(cities[:, :, None] - cities[:, None], axis=-1)
    start = np.zeros(50, int)
    shortest, _ = shortest_way(place, start, start, np.tile(np.arange(11) > 0, (50, 1)))
    assert (insertion_length(place) >= shortest - 1e-9).all()
    assert insertion_length(place).mean() < 1.03 * shortest.mean()
