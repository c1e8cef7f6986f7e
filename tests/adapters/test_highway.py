"""HighwayEnv as entities: the same world, every row known by its vehicle, positions that hit the cars."""

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("highway_env", reason="needs an extra: pip install 'attn_rl[highway]'")

from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from attn_rl import EntitySpec, make_vec_env
from attn_rl.adapters import make_env
from attn_rl.vec_envs.replayable import ReplayableEnv

SMALL = {"vehicles_count": 9, "duration": 5}
ROAD = {(100, 100, 100), (255, 255, 255)}


def make_highway(config: dict | None = None, **kwargs) -> gym.Env:
    config = {**SMALL, **(config or {})}
    return make_env("highway_env:highway-fast-v0", config=config, render_mode="rgb_array", **kwargs)


def make_crossing(**kwargs) -> gym.Env:
    return make_env("highway_env:intersection-v2", render_mode="rgb_array", **kwargs)


def in_slots(env: gym.Env) -> list:
    return env.get_wrapper_attr("_in_slot")


def episode(env: gym.Env, action: int = 1, seed: int = 3):
    obs, info = env.reset(seed=seed)
    yield obs, info
    done = False
    while not done:
        obs, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        yield obs, info


def rows_of(obs: dict) -> list:
    return sorted(map(tuple, obs["vehicles"][obs["vehicles_present"] > 0]))


@pytest.mark.parametrize("name", ["highway-fast-v0", "intersection-v1", "intersection-v2"])
def test_the_world_and_the_rows_are_highway_envs_own(name):
    """Bit for bit, relative and absolute, with continuous actions too."""
    env = make_env(f"highway_env:{name}", config={"duration": 5}, capacity=7)
    plain = gym.make(f"highway_env:{name}", config=dict(env.unwrapped.config))
    assert type(plain.unwrapped.observation_type).__name__ == "KinematicObservation"
    env.action_space.seed(0)
    rows, _ = plain.reset(seed=3)
    obs, _ = env.reset(seed=3)
    seen = 0
    for _ in range(3):
        np.testing.assert_array_equal(obs["ego"], rows[0, 1:])
        assert rows_of(obs) == sorted(map(tuple, rows[1:][rows[1:, 0] > 0][:, 1:]))
        seen += len(rows_of(obs))
        action = env.action_space.sample()
        rows, reward, *_ = plain.step(action)
        obs, same, *_ = env.step(action)
        assert same == reward
    assert seen > 2


def test_each_row_is_the_vehicle_it_is_said_to_be():
    """At an intersection, where vehicles are added and removed after they were observed."""
    env = make_crossing()
    changed = 0
    for obs, _ in episode(env):
        for slot, vehicle in enumerate(in_slots(env)):
            if vehicle is None:
                assert not obs["vehicles_present"][slot]
                continue
            place = np.clip(vehicle.position / 100, -1, 1)
            np.testing.assert_allclose(obs["vehicles"][slot, :2], place, atol=1e-6)
        seen_now = env.unwrapped.road.close_objects_to(env.unwrapped.vehicle, 200, see_behind=False)
        changed += {id(v) for v in seen_now} != {id(v) for v in in_slots(env) if v is not None}
    assert changed > 0


def test_positions_hit_the_vehicles_in_the_picture():
    env = make_crossing()
    hits = outside = 0
    for _ in episode(env, action=2):
        frame = env.render()
        size = np.array(frame.shape[1::-1])
        surface = env.unwrapped.viewer.sim_surface
        ego = pixel(env.get_wrapper_attr("ego_positions")(), size)
        assert tuple(frame[int(ego[1]), int(ego[0])]) not in ROAD
        for vehicle, place in zip(in_slots(env), env.get_wrapper_attr("entity_positions")(), strict=True):
            if vehicle is None:
                assert np.isnan(place).all()
                continue
            true, shown = np.array(surface.vec2pix(vehicle.position)), pixel(place, size)
            if (true >= 3).all() and (true < size - 3).all():
                np.testing.assert_allclose(shown, true, atol=1)
                if vehicle in env.unwrapped.road.vehicles:
                    assert tuple(frame[int(shown[1]), int(shown[0])]) not in ROAD
                    hits += 1
            elif (true < 0).any() or (true >= size).any():  # on the border, on the way there
                np.testing.assert_allclose(np.abs(place).max(), 1)
                way, whole = shown - ego, true - ego
                assert abs(way[0] * whole[1] - way[1] * whole[0]) <= 2 * np.linalg.norm(whole)
                assert way @ whole > 0
                outside += 1
    assert hits > 10
    assert outside > 10


def pixel(place: np.ndarray, size: np.ndarray) -> np.ndarray:
    return (place * [1, -1] + 1) / 2 * size


def test_slots_are_shuffled_and_sorted_on_demand():
    shuffled, plain = make_highway(), make_highway(order="sorted")
    seen = [(a, b) for (a, _), (b, _) in zip(episode(shuffled), episode(plain), strict=True)]
    assert all(rows_of(a) == rows_of(b) for a, b in seen)
    assert len({tuple(a["vehicles_present"]) for a, _ in seen}) > 1
    for _, obs in seen:
        n = obs["vehicles_present"].sum()
        assert obs["vehicles_present"][:n].all()
        assert (np.diff(obs["vehicles"][:n, 0]) >= 0).all()  # x, relative to the ego; none behind are seen


def test_what_finds_no_slot_is_counted_and_the_nearest_stay():
    every, few = make_highway(order="sorted"), make_highway(order="sorted", capacity=2)
    for (obs, info), (part, told) in zip(episode(every), episode(few), strict=True):
        n = int(obs["vehicles_present"].sum())
        assert info["entities_dropped"] == {"vehicles": 0}
        assert told["entities_dropped"] == {"vehicles": max(0, n - 2)}
        np.testing.assert_array_equal(part["vehicles"], obs["vehicles"][:2])
    assert n > 2


def test_a_seeded_action_space_stays_seeded():
    drawn = []
    for _ in range(2):
        env = make_highway()
        env.action_space.seed(7)
        env.reset(seed=3)
        drawn.append([env.action_space.sample() for _ in range(20)])
    assert drawn[0] == drawn[1]


def test_an_unseeded_episode_can_be_put_back_slot_by_slot():
    one, other = ReplayableEnv(make_highway()), ReplayableEnv(make_highway())
    one.reset(seed=3)
    one.reset()
    one.step(1)
    other.reset(seed=4)
    assert other.set_state(one.get_state())["exact"]
    np.testing.assert_array_equal(other.step(0)[0]["vehicles"], one.step(0)[0]["vehicles"])


def test_the_same_seed_gives_the_same_slots():
    for (one, _), (other, _) in zip(episode(make_highway()), episode(make_highway()), strict=True):
        np.testing.assert_array_equal(one["vehicles"], other["vehicles"])


@pytest.mark.parametrize("name", ["highway-fast-v0", "intersection-v1", "intersection-v2"])
def test_names_bounds_and_checkers(name):
    env = make_env(f"highway_env:{name}", config={"duration": 2})
    check_env(env, warn=False)
    spec = EntitySpec.from_env(env)
    features = [f for f in env.unwrapped.config["observation"]["features"] if f != "presence"]
    assert spec.types[0].features == tuple(features)
    assert spec.ego_features == tuple(features)
    assert spec.kinds["position"]["vehicles"] == (("x", "y"),)
    assert ("ego" in spec.kinds["position"]) == (name != "highway-fast-v0")
    assert np.isfinite(env.observation_space["vehicles"].high).all()


def test_success_is_arriving_or_the_end_without_a_crash():
    env = make_highway({"duration": 2})
    *_, (_, info) = episode(env)
    assert info["is_success"]
    env.reset(seed=3)
    env.unwrapped.vehicle.crashed = True
    info = env.step(1)[-1]
    assert not info["is_success"]
    for seed in (3, 4):
        *before, (_, info) = episode(make_crossing(), action=2, seed=seed)
        assert info["is_success"] == (info["rewards"]["arrived_reward"] == 1 and not info["crashed"])
        assert not any(told["is_success"] for _, told in before)


def test_which_vehicle_matters_is_unknown():
    env = make_highway()
    env.reset(seed=1)
    assert env.get_wrapper_attr("relevant")() == -1


def test_another_observation_is_refused():
    with pytest.raises(ValueError, match="observes") as error:
        make_env("highway_env:parking-v0")
    assert str(error.value) == (
        "ParkingEnv observes 'KinematicsGoal'; expected 'Kinematics': pass "
        "config={'observation': {'type': 'Kinematics'}} (and one controlled vehicle)"
    )
    with pytest.raises(ValueError, match="order='random'; expected 'shuffled' or 'sorted'"):
        make_highway(order="random")


def test_processes_play_what_single_environments_play():
    vec_env = make_vec_env("highway_env:highway-fast-v0", 2, seed=5, env_kwargs={"config": SMALL, "capacity": 3})
    try:
        assert isinstance(vec_env, SubprocVecEnv)
        assert EntitySpec.from_env(vec_env).names["vehicles"] == ("x", "y", "vx", "vy")
        obs = vec_env.reset()
        for i in range(2):
            single, _ = make_highway(capacity=3).reset(seed=5 + i)
            np.testing.assert_array_equal(obs["vehicles"][i], single["vehicles"])
        assert [place.shape for place in vec_env.env_method("entity_positions")] == [(3, 2)] * 2
    finally:
        vec_env.close()
