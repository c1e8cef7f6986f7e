"""Forage: what touching, walls and hunters do, and numbers per type."""

import gymnasium as gym
import numpy as np
import pytest
from attn_rl.envs.core.geometry import crosses, way_round
from attn_rl.envs.forage_motion import Walls, moved, turned

ID = "AttnRL/Forage-v0"
EAST, WAIT = 1, 0


def scene(**positions) -> gym.Env:
    """One game with exactly these entities: ``food=[(.1, 0)]``; the ego is at the origin, shaping off."""
    counts = {name: len(positions.get(name, ())) for name in ("food", "hunters", "poison", "walls")}
    env = gym.make(ID, min_entities=counts, max_entities=counts, shaping=0.0).unwrapped
    env.reset(seed=0)
    state = env.get_state()
    state["game.ego"][:] = 0
    for name, places in positions.items():
        state[f"game.{name}_position"][0, :] = places
    env.set_state(state)
    return env


def test_the_food_of_a_game_is_worth_one():
    env = scene(food=[(0.2, 0), (0.32, 0), (0.44, 0)])
    steps = [env.step(EAST) for _ in range(3)]
    assert sum(step[1] for step in steps) == pytest.approx(1)
    assert [step[2] for step in steps] == [False, False, True]
    assert steps[-1][4]["is_success"]


def test_poison_costs_once_and_spoils_success():
    env = scene(food=[(0.3, 0)], poison=[(0.12, 0)])
    obs, reward, terminated, _, _ = env.step(EAST)
    assert reward == pytest.approx(-0.3)
    assert not obs["poison_present"].any()
    assert not terminated
    _, reward, terminated, _, info = env.step(EAST)
    assert reward == pytest.approx(1)
    assert terminated
    assert not info["is_success"]


def test_one_who_waits_is_caught_and_one_who_runs_is_not():
    env = scene(food=[(-0.9, 0.9)], hunters=[(0.4, 0)])
    for _ in range(30):
        _, reward, terminated, _, info = env.step(WAIT)
        if terminated:
            break
    assert reward == pytest.approx(-0.5)
    assert not info["is_success"]
    env = scene(food=[(-0.9, 0.9)], hunters=[(0.4, 0)])
    assert not any(env.step(5)[2] for _ in range(8))


def test_shaping_pays_for_coming_closer_to_the_nearest_food():
    env = gym.make(ID, shaping=2.0, max_entities={"poison": 1, "hunters": 1})
    obs, _ = env.reset(seed=0)
    distance = np.linalg.norm(obs["food"][:, :2], axis=1)[obs["food_present"] == 1]
    slot = int(np.argmin(distance))
    value = obs["food"][slot, 2]
    after, reward, *_ = env.step(EAST)
    left = np.linalg.norm(after["food"][np.isclose(after["food"][:, 2], value), :2], axis=1)
    assert len(left) == 1
    assert reward == pytest.approx(2 * (distance[slot] - left[0]), abs=1e-5)


def test_walls_stop_and_let_slide():
    wall = Walls(np.array([[[0.2, 0.0]]]), np.array([[[0.03, 0.15]]]), np.array([[True]]))
    ego = np.array([[[0.1, 0.0]]])
    np.testing.assert_allclose(moved(ego, np.array([0.12, 0.0]), wall), ego)
    np.testing.assert_allclose(moved(ego, np.array([0.085, 0.085]), wall), [[[0.1, 0.085]]])
    np.testing.assert_allclose(moved(ego, np.array([-0.12, 0.0]), wall), [[[-0.02, 0.0]]])
    absent = wall._replace(present=np.array([[False]]))
    np.testing.assert_allclose(moved(ego, np.array([0.12, 0.0]), absent), [[[0.22, 0.0]]])


def test_no_step_leaps_over_a_wall():
    env = scene(food=[(0.9, 0.9)], walls=[(0.1, 0.0)])
    half = env.get_state()["game.walls_half"]
    half[0, 0] = half[0, 0][np.argsort(half[0, 0])]  # upright
    state = env.get_state()
    state["game.walls_half"] = half
    for start in np.linspace(-0.1, 0.0, 23):
        state["game.ego"][:] = (start, 0)
        env.set_state(state)
        for _ in range(4):
            env.step(EAST)
        assert env.get_state()["game.ego"][0, 0] < 0.1


def test_hunters_turn_to_their_prey():
    velocity = turned(np.array([0.1, 0.0]), np.array([0.0, 2.0]), np.array(0.5))
    np.testing.assert_allclose(velocity, [0.07, 0.15])


def test_way_round_a_box():
    start, goal = np.array([-1.0, 0.0]), np.array([1.0, 0.0])
    half = np.array([0.1, 0.5])
    assert crosses(start, goal, np.zeros(2), half)
    assert not crosses(start, goal, np.array([0.0, 0.6]), half)
    assert not crosses(start, start, np.zeros(2), half)
    assert not crosses(start, np.zeros(2), np.zeros(2), half)  # an end inside
    assert way_round(start, goal, np.array([0.1, 0.0]), half) == pytest.approx(2 * np.hypot(1.0, 0.5))
    assert way_round(start, goal, np.array([0.0, 0.6]), half) == pytest.approx(2)


def test_numbers_per_type():
    env = gym.make_vec(ID, num_envs=2, max_entities={"food": 7}, capacity={"food": 9, "walls": 5})
    shapes = {key: space.shape for key, space in env.single_observation_space.items() if key in env.capacity}
    assert shapes == {"food": (9, 3), "hunters": (2, 5), "poison": (3, 2), "walls": (5, 4)}
    assert gym.make_vec(ID, num_envs=2, max_entities=3).capacity == dict.fromkeys(env.capacity, 3)
    with pytest.raises(ValueError, match=r"max_entities names \['gold'\]; expected some of \['food', 'hunters'"):
        gym.make_vec(ID, num_envs=2, max_entities={"gold": 3})
    with pytest.raises(ValueError, match="hunters: max_entities=4 exceeds capacity=2; pass capacity=4"):
        gym.make_vec(ID, num_envs=2, max_entities={"hunters": 4}, capacity={"hunters": 2})
    with pytest.raises(ValueError, match="41 walls do not fit; pass 40 or fewer"):
        gym.make_vec(ID, num_envs=2, max_entities={"walls": 41})
