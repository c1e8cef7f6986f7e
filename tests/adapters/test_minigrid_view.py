"""What MiniGrid's agent sees, as entities: its image and its mission, no more and no less."""

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("minigrid", reason="needs an extra: pip install 'attn_rl[minigrid]'")

from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.core.world_object import Ball, Door, Key
from stable_baselines3.common.env_checker import check_env

from attn_rl import EntitySpec, explain, make_agent, make_vec_env
from attn_rl.adapters import make_env
from attn_rl.adapters.minigrid_views import CATEGORIES, CELL, VOCABULARY
from attn_rl.wrappers.text import words_of
from tests.adapters.test_minigrid import arranged, look

DOORS = "minigrid:MiniGrid-GoToDoor-5x5-v0"


def cells(obs: dict) -> list[dict]:
    """What the cells that are there say, in words."""
    found = []
    for row, there in zip(obs["cells"], obs["cells_present"], strict=True):
        if there:
            told = dict(zip(CELL, row.tolist(), strict=True))
            names = {name: values[int(told[name])] for name, values in CATEGORIES["cells"].items()}
            found.append({"right": round(told["right"] * 7), "ahead": round(told["ahead"] * 7), **names})
    return found


def sentence(obs: dict) -> list[str]:
    return [("?", *VOCABULARY)[int(row[0])] for row in obs["words"][obs["words_present"] == 1]]


def test_cells_say_what_is_there_and_the_way_to_it():
    env = arranged(
        "get a red key", {(4, 3): Key("red"), (2, 2): Ball("grey"), (5, 4): Door("blue", is_locked=True)}, view="agent"
    )
    obs, info = look(env)
    things = [cell for cell in cells(obs) if cell["type"] != "wall"]
    assert sorted(things, key=str) == [
        {"right": -1, "ahead": 0, "type": "ball", "colour": "grey", "state": "none"},
        {"right": 0, "ahead": 2, "type": "key", "colour": "red", "state": "none"},
        {"right": 1, "ahead": 3, "type": "door", "colour": "blue", "state": "locked"},
    ]
    assert sentence(obs) == ["get", "a", "red", "key"]
    assert obs["words"][:4, 1].tolist() == [0, 1, 2, 3]
    assert info["unknown_words"] == {"words": 0}
    assert cells(obs)[info["relevant"]]["type"] == "key"


def test_walls_are_cells_and_what_lies_behind_the_agent_is_not():
    obs, _ = look(arranged("get a red key", {(1, 3): Key("red")}, view="agent"))
    assert {cell["type"] for cell in cells(obs)} == {"wall"}
    assert all(cell["ahead"] >= 0 for cell in cells(obs))
    assert {"right": 0, "ahead": 5, "type": "wall", "colour": "grey", "state": "none"} in cells(obs)


@pytest.mark.parametrize(("empty", "unseen"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("name", ["MiniGrid-FourRooms-v0", "MiniGrid-MultiRoom-N4-S5-v0"])
def test_cells_are_those_of_minigrids_own_image(name, empty, unseen):
    env = make_env(f"minigrid:{name}", empty=empty, unseen=unseen, disable_env_checker=True)
    obs, _ = env.reset(seed=3)
    image = env.unwrapped.gen_obs()["image"]
    for _ in range(30):
        told = {(cell["right"] + 3, 6 - cell["ahead"]): cell for cell in cells(obs)}
        for x in range(7):
            for y in range(7):
                kind, colour, _ = image[x, y]
                hidden = [OBJECT_TO_IDX["empty"]] * (not empty) + [OBJECT_TO_IDX["unseen"]] * (not unseen)
                if (x, y) == (3, 6) or kind in hidden:
                    assert (x, y) not in told
                    continue
                assert OBJECT_TO_IDX[told[x, y]["type"]] == kind
                colourless = told[x, y]["type"] in ("empty", "unseen")
                assert told[x, y]["colour"] == "none" if colourless else COLOR_TO_IDX[told[x, y]["colour"]] == colour
        obs, _, ended, truncated, _ = env.step(env.action_space.sample())
        image = env.unwrapped.gen_obs()["image"]
        if ended or truncated:
            break


def test_the_ego_knows_its_direction_and_what_it_carries():
    env = arranged("get a green ball", {(3, 3): Key("red")}, view="agent")
    base = env.unwrapped
    base.targetType, base.targetColor = "ball", "green"
    obs, _ = look(env)
    assert obs["ego"].tolist() == [0, 0, 0]
    base.carrying = Key("red")
    base.agent_dir = 3
    obs, _ = look(env)
    names = CATEGORIES["ego"]
    found = [values[int(i)] for values, i in zip(names.values(), obs["ego"], strict=True)]
    assert found == ["up", "key", "red"]


def test_positions_hit_the_cells_in_the_picture():
    env = arranged("get a red key", {(4, 1): Key("red")}, facing=3, view="agent")
    _, info = look(env)
    place = env.get_wrapper_attr("entity_positions")()
    np.testing.assert_allclose(place[info["relevant"]], [2 * 4.5 / 8 - 1, 1 - 2 * 1.5 / 8])
    assert place.shape == (96, 2)
    assert np.isnan(place[48:]).all()  # words are nowhere


def test_unknown_words_are_counted():
    _, info = look(arranged("fetch a mauve key", {(4, 3): Key("red")}, view="agent"))
    assert info["unknown_words"] == {"words": 1}


@pytest.mark.parametrize(
    "name", [spec for spec in gym.registry if spec.startswith(("MiniGrid", "BabyAI"))][::12] or ["-"]
)
def test_the_vocabulary_knows_the_missions(name):
    try:
        env = gym.make(name, disable_env_checker=True)
    except gym.error.DependencyNotInstalled:
        pytest.skip("needs more packages")
    for seed in range(3):
        obs, _ = env.reset(seed=seed)
        assert set(words_of(obs["mission"])) <= set(VOCABULARY)


def test_other_views_are_refused():
    with pytest.raises(ValueError, match="view='mine'; expected 'agent' or 'whole'"):
        make_env(DOORS, view="mine")
    with pytest.raises(ValueError, match="empty=True, unseen=False are for view='agent'"):
        make_env(DOORS, view="whole", empty=True)


def test_more_cells_than_slots():
    with pytest.raises(ValueError, match="entities do not fit into capacity=8"):
        make_env(DOORS, capacity=8).reset(seed=0)
    _, info = make_env(DOORS, capacity=8, overflow="nearest").reset(seed=0)
    assert info["entities_dropped"]["cells"] > 0


def test_checkers_and_kinds():
    env = make_env(DOORS)
    check_env(env, warn=False)
    spec = EntitySpec.from_env(env)
    assert spec.common_values("colour") == [("red", "green", "blue", "purple", "yellow", "grey")]
    assert {"door", "key", "ball", "box", "goal", "lava"} <= set(spec.common_values("type")[0])


def test_an_agent_learns_from_it_with_kernels():
    agent = make_agent(make_vec_env(DOORS, 2, seed=0), n_layers=2, n_steps=8, batch_size=16, n_epochs=1)
    agent.learn(16)
    told = str(explain(agent))
    assert "kernels" in told or "no C++" in told
