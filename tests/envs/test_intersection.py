"""Intersection: geometry, who is seen, crashes, priorities, and HighwayEnv itself."""

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
from attn_rl.envs.core.randomness import RandomStream
from attn_rl.envs.core.state import State
from attn_rl.envs.intersection import IntersectionVectorEnv, lanes
from attn_rl.envs.intersection.arrivals import admit, draw_arrival, empty, leaving, put, take_away
from attn_rl.envs.intersection.traffic import FLOATS, Traffic

ID = "AttnRL/Intersection-v0"


def junction(*vehicles: dict) -> State:
    """One junction; each vehicle says its arm, its goal, s along the lane of a stage of its route, and its speed."""
    state = empty(1, 11)
    for told in vehicles:
        stage = told.get("stage", 0)
        lane = lanes.ROUTES[told["origin"], told["goal"], stage]
        x, y, cos, sin = lanes.point(np.array([lane]), np.array([told["s"]], float))
        speed = np.array([told.get("speed", 0.0)])
        placed = {"x": x, "y": y, "heading": np.arctan2(sin, cos), "speed": speed, "target_speed": speed, "delta": 4.0}
        placed |= {"lane": lane, "stage": stage, "origin": told["origin"], "goal": told["goal"]}
        put(state, np.arange(1), {name: np.reshape(value, 1) for name, value in placed.items()})
    return state


def test_coordinates_of_a_point_on_a_lane_are_where_it_was_put():
    lane = np.repeat(np.arange(20), 7)
    s = np.tile(np.linspace(0.1, 14, 7), 20)
    x, y, cos, sin = lanes.point(lane, s)
    found, beside = lanes.coordinates(lane, x - 0.3 * sin, y + 0.3 * cos)
    np.testing.assert_allclose(found, s, atol=1e-9)
    np.testing.assert_allclose(beside, 0.3, atol=1e-9)


def test_routes_are_unbroken_and_lead_from_arm_to_arm():
    arms = np.array([(0, 1), (-1, 0), (0, -1), (1, 0)])
    for origin in range(4):
        for goal in set(range(4)) - {origin}:
            route = lanes.ROUTES[origin, goal]
            for one, following in pairwise(route):
                end, start = (
                    np.array(lanes.point(np.array([lane]), np.array([s])))
                    for lane, s in ((one, lanes.LENGTH[one]), (following, 0.0))
                )
                np.testing.assert_allclose(end, start, atol=1e-9)
            first = lanes.point(route[:1], np.zeros(1))
            last = lanes.point(route[2:], np.full(1, 100.0))
            for (x, y, _, _), arm in ((first, origin), (last, goal)):
                assert np.dot((x[0], y[0]), arms[arm]) == pytest.approx(111)


def test_a_clear_vehicle_is_nearest_to_its_lane_and_seen_from_nowhere_else():
    rng = np.random.default_rng(0)
    lane = rng.choice([5 * c + kind for c in range(4) for kind in (lanes.IN, lanes.OUT)], 4000)
    x, y, cos, sin = lanes.point(lane, rng.uniform(0, 100, len(lane)))
    x, y = x - rng.uniform(-1, 1, len(x)) * sin, y + rng.uniform(-1, 1, len(y)) * cos
    heading = lanes.HEADING[lane] + rng.uniform(-1, 1, len(lane))
    s, r = lanes.coordinates(lane, x, y)
    clear = lanes.is_clear(lane, s, r, heading)
    assert 0.1 < clear.mean() < 0.5
    nearest, every_s, every_r = lanes.survey(x[clear], y[clear], heading[clear])
    np.testing.assert_array_equal(nearest, lane[clear])
    np.testing.assert_array_equal(lanes.seen_at(every_s, every_r).T, s[clear, None] + lanes.SEEN_ADDED[lane[clear]])


def test_a_driver_stops_behind_a_standing_vehicle_on_the_next_lane():
    state = junction(
        {"origin": 1, "goal": 3, "s": 60, "speed": 10}, {"origin": 1, "goal": 3, "s": 6, "stage": 1, "speed": 0}
    )
    state.crashed[0, 1] = True
    Traffic(state).play(90)
    assert not state.crashed[0, 0]
    assert abs(state.speed[0, 0]) < 0.5
    assert state.x[0, 1] - state.x[0, 0] > 5  # arm 1 is west: they drive east


@pytest.mark.parametrize(("other", "yields"), [({"origin": 1, "goal": 3}, [True, False]), (None, [False])])
def test_the_road_from_south_to_north_yields_to_the_one_from_west_to_east(other, yields):
    mine = {"origin": 0, "goal": 2, "s": 88, "speed": 9}
    state = junction(mine, *([{**other, "s": 88, "speed": 9}] if other else []))
    Traffic(state).play(7)
    assert state.yields[0, : len(yields)].tolist() == yields
    assert (state.target_speed[0, : len(yields)] == 0).tolist() == yields


def test_who_yields_goes_on_when_the_way_is_free():
    state = junction({"origin": 0, "goal": 2, "s": 60, "speed": 5})
    state.yields[:], state.target_speed[:] = True, 0
    Traffic(state).play(7)
    assert not state.yields[0, 0]
    assert state.target_speed[0, 0] == 10


def test_the_ego_is_not_stopped():
    state = junction({"origin": 0, "goal": 2, "s": 88, "speed": 9}, {"origin": 1, "goal": 3, "s": 88, "speed": 9})
    state.ego[:] = 0
    Traffic(state).play(7)
    assert state.target_speed[0].tolist()[:2] == [9, 9]


def test_vehicles_that_overlap_crash_and_are_pushed_apart():
    state = junction(
        {"origin": 0, "goal": 2, "s": 50}, {"origin": 0, "goal": 2, "s": 54}, {"origin": 1, "goal": 2, "s": 50}
    )
    Traffic(state).play(1)
    assert state.crashed[0, :3].tolist() == [True, True, False]
    assert state.is_hit[0, :3].tolist() == [True, True, False]
    before = state.y[0, :2].copy()
    Traffic(state).play(1)
    np.testing.assert_allclose(
        state.y[0, :2] - before, [0.5, -0.5], atol=0.1
    )  # they overlapped by a metre, one along y


def test_nobody_comes_in_within_fifteen_metres_of_another():
    state = empty(2, 5)
    arrival = draw_arrival(RandomStream(np.arange(2, dtype=np.uint64)), 20, 1.0)
    assert admit(state, arrival).all()
    assert not admit(state, arrival._replace(s=arrival.s + 14.9)).any()
    assert admit(state, arrival._replace(s=arrival.s + 15.1)).all()
    assert state.present.sum(axis=1).tolist() == [2, 2]


def test_arrivals_are_drawn_evenly():
    arrival = draw_arrival(RandomStream(np.arange(20_000, dtype=np.uint64)), 0, 0.6)
    assert arrival.comes.mean() == pytest.approx(0.6, abs=0.02)
    pairs, counts = np.unique(np.stack([arrival.origin, arrival.goal]), axis=1, return_counts=True)
    assert pairs.shape == (2, 12)
    assert (pairs[0] != pairs[1]).all()
    np.testing.assert_allclose(counts / 20_000, 1 / 12, atol=0.01)
    np.testing.assert_allclose([arrival.s.mean(), arrival.speed.mean(), arrival.delta.mean()], [5, 8, 4], atol=0.03)
    np.testing.assert_allclose([arrival.s.std(), arrival.speed.std()], 1, atol=0.03)


def test_who_left_is_taken_away_and_the_others_keep_their_order():
    out = {"origin": 1, "goal": 0, "stage": 2}
    state = junction({**out, "s": 79}, {**out, "s": 90}, {"origin": 2, "goal": 0, "s": 5}, {**out, "s": 40})
    state.ego[:] = 3
    gone = leaving(state)
    assert gone[0, :4].tolist() == [False, True, False, False]
    kept = {name: getattr(state, name)[0, [0, 2, 3]] for name in FLOATS}
    take_away(state, gone)
    assert state.present[0].sum() == 3
    assert state.ego[0] == 2
    for name, values in kept.items():
        np.testing.assert_array_equal(getattr(state, name)[0, :3], values)


def test_games_begun_early_are_those_that_would_be_begun_late():
    env, late = (IntersectionVectorEnv(3) for _ in range(2))
    late._fresh = lambda rows, random: late.begin(random)  # type: ignore[method-assign]
    for seed in (5, None, None, 6, None):
        for one, other in zip(env.reset(seed=seed)[0].values(), late.reset(seed=seed)[0].values(), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(env._streams.states, late._streams.states)


def test_intentions_point_to_the_end_of_the_way_that_each_vehicle_takes():
    env = IntersectionVectorEnv(16, observe_intentions=True)
    obs, _ = env.reset(seed=0)
    state, present = env._require_state(), obs["vehicles_present"].astype(bool)
    game, slot = np.nonzero(present)
    vehicle = state.slots[game, slot]
    lane = np.array([lanes.lane_out(arm) for arm in state.goal[game, vehicle]])
    x, y, _, _ = lanes.point(lane, np.full(len(lane), 100.0))
    way = np.stack([x - state.x[game, vehicle], y - state.y[game, vehicle]], axis=1)
    expected = way / np.linalg.norm(way, axis=1, keepdims=True)
    np.testing.assert_allclose(obs["vehicles"][game, slot, 6:], expected, atol=1e-6)
    assert len(game) > 50
    without = IntersectionVectorEnv(16).reset(seed=0)[0]
    np.testing.assert_array_equal(without["vehicles"], obs["vehicles"][..., :6])


def test_what_does_not_fit_into_the_slots_is_counted():
    env = gym.make_vec(ID, num_envs=32, capacity=2, duration=2)
    shown = env.reset(seed=0)[0]["vehicles_present"].sum(axis=1)
    assert shown.max() == 2
    env.step(np.ones(32, np.int64))
    infos = env.step(np.ones(32, np.int64))[4]
    assert infos["final_info"]["vehicles_dropped"].max() > 5


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"destination": "o0"}, r"destination='o0'; expected one of \('o1', 'o2', 'o3'\): you come from 'o0'"),
        ({"spawn_probability": 1.5}, "spawn_probability=1.5; expected 0 to 1"),
        ({"initial_vehicle_count": 0}, "initial_vehicle_count=0; expected 1 to 100"),
        ({"duration": 0}, "duration=0; expected 1 to 1000"),
        ({"capacity": 0}, "capacity=0; expected 1 to 1000"),
    ],
)
def test_arguments_that_do_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        gym.make(ID, **kwargs)
