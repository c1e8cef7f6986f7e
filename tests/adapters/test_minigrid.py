"""MiniGrid's whole grid as entities: what the rows say is what lies there, and the mission's object is known."""

import numpy as np
import pytest

pytest.importorskip("minigrid", reason="needs an extra: pip install 'attn_rl[minigrid]'")

from minigrid.core.world_object import Ball, Box, Door, Key
from stable_baselines3.common.env_checker import check_env

from attn_rl import EntitySpec
from attn_rl.adapters import make_env
from attn_rl.adapters.minigrid_views import EGO
from attn_rl.adapters.minigrid_views import OBJECT as FEATURES

FETCH = "minigrid:MiniGrid-Fetch-8x8-N3-v0"
FORWARD, PICK_UP = 2, 3


def arranged(mission: str, things: dict, facing: int = 0, view: str = "whole", **kwargs):
    """A room of 8 x 8 with the agent at (2, 3), the given things at the given cells, and a mission."""
    env = make_env(
        FETCH, render_mode="rgb_array", disable_env_checker=True, view=view, **kwargs
    )  # its mission is not Fetch's
    env.reset(seed=0)
    base = env.unwrapped
    for x in range(1, 7):
        for y in range(1, 7):
            base.grid.set(x, y, None)
    for cell, thing in things.items():
        base.grid.set(*cell, thing)
    base.agent_pos, base.agent_dir, base.mission = np.array([2, 3]), facing, mission
    base.targetType, base.targetColor = mission.split()[-1], mission.split()[-2]
    return env


def look(env):
    """The observation after an action that changes nothing."""
    obs, _, _, _, info = env.step(env.unwrapped.actions.done)
    return obs, info


def said(row: np.ndarray, names: tuple) -> dict:
    return {name: float(value) for name, value in zip(names, row, strict=True) if value}


def test_rows_say_type_colour_and_the_way_there():
    env = arranged("get a red key", {(4, 3): Key("red"), (2, 2): Ball("grey")})
    obs, _ = look(env)
    assert said(obs["objects"][0], FEATURES) == {"right": -1 / 8, "ball": 1, "grey": 1}  # the row of y = 2 comes first
    assert said(obs["objects"][1], FEATURES) == {"ahead": 2 / 8, "key": 1, "red": 1}
    assert obs["objects_present"].sum() == 2
    assert said(obs["ego"], EGO) == {"mission_key": 1, "mission_red": 1, "blocked_left": 1}


def test_the_way_turns_with_the_agent():
    obs, _ = look(arranged("get a red key", {(4, 3): Key("red")}, facing=1))  # looking down
    assert said(obs["objects"][0], FEATURES)["right"] == -2 / 8


@pytest.mark.parametrize(("is_open", "is_locked", "state"), [(True, 0, "open"), (0, True, "locked"), (0, 0, "closed")])
def test_doors_have_a_state(is_open, is_locked, state):
    obs, _ = look(arranged("get a red key", {(5, 5): Door("blue", is_open=is_open, is_locked=is_locked)}))
    assert set(said(obs["objects"][0], FEATURES)) == {"right", "ahead", "door", "blue", state}


def test_the_missions_object_is_relevant():
    things = {(4, 3): Key("red"), (1, 1): Ball("red"), (6, 6): Key("grey")}
    assert look(arranged("get a red key", things))[1]["relevant"] == 1
    assert look(arranged("get a grey key", things))[1]["relevant"] == 2
    assert look(arranged("get a blue key", things))[1]["relevant"] == -1
    assert look(arranged("get a red key", {**things, (5, 5): Key("red")}))[1]["relevant"] == -1
    assert look(arranged("put the red key near the red ball", things))[1]["relevant"] == -1


@pytest.mark.parametrize(("colour", "success"), [("red", True), ("grey", False)])
def test_picking_up_ends_the_episode_and_only_the_right_object_is_success(colour, success):
    env = arranged("get a red key", {(3, 3): Key(colour)})
    obs, reward, terminated, _, info = env.step(PICK_UP)
    assert terminated
    assert info["is_success"] is success
    assert (reward > 0) is success
    assert not obs["objects_present"].any()
    assert {"carried_key", f"carried_{colour}"} <= set(said(obs["ego"], EGO))


def test_positions_hit_the_objects_in_the_picture():
    env = arranged("get a red key", {(4, 3): Box("red"), (6, 6): Ball("blue")})
    look(env)
    frame, places = env.render(), env.get_wrapper_attr("entity_positions")()
    height, width = frame.shape[:2]
    x, y = places[1]
    assert tuple(frame[int((1 - y) / 2 * height), int((x + 1) / 2 * width)]) != tuple(frame[height // 2, width // 2])
    np.testing.assert_allclose(places[:2], [[2 * 4.5 / 8 - 1, 1 - 2 * 3.5 / 8], [2 * 6.5 / 8 - 1, 1 - 2 * 6.5 / 8]])
    assert np.isnan(places[2:]).all()
    np.testing.assert_allclose(env.get_wrapper_attr("ego_positions")(), [2 * 2.5 / 8 - 1, 1 - 2 * 3.5 / 8])


def test_more_objects_than_slots():
    things = {(6, 6): Ball("blue"), (3, 3): Key("red"), (2, 5): Box("grey")}
    with pytest.raises(ValueError, match="'objects': 3 entities do not fit into capacity=2"):
        make_env(FETCH, view="whole", capacity=2).reset(seed=0)
    env = arranged("get a grey box", things, capacity=2, overflow="nearest")
    obs, info = look(env)
    assert info["entities_dropped"] == {"objects": 1}
    assert [said(row, FEATURES).get("ball") for row in obs["objects"]] == [None, None]
    assert info["relevant"] == 1


def test_names_kinds_and_checkers():
    env = make_env(FETCH, view="whole")
    check_env(env, warn=False)
    spec = EntitySpec.from_env(env)
    assert spec.types[0].features == FEATURES
    assert spec.kinds["colour"]["ego"][0][0] == "mission_blue"


def test_the_agents_own_view_is_refused():
    with pytest.raises(ValueError, match="agent_pov=True draws what the agent sees, not the grid"):
        make_env(FETCH, agent_pov=True)
