"""Grids as cells and pictures as patches: contents, places, and every refusal in words."""

import numpy as np
import pytest
from gymnasium import spaces

from attn_rl import EntitySpec, make_agent, make_vec_env
from attn_rl.wrappers import GridToEntities, ImageToEntities
from tests.wrappers.scripted import Scripted
from tests.wrappers.test_sets import refusal

GRID = spaces.Box(0, 3, (2, 5), np.int8)
CELLS = np.array([[0, 1, 0, 0, 3], [2, 0, 0, 0, 0]])
SORTS = ("empty", "wall", "food", "ghost")


def grid(cells: np.ndarray = CELLS, space: spaces.Space = GRID, **keywords) -> GridToEntities:
    return GridToEntities(Scripted(space, [cells]), **keywords)


def test_every_cell_is_an_entity_with_its_place():
    env = grid()
    obs, _ = env.reset()
    assert obs["grid_present"].all()
    np.testing.assert_allclose(obs["grid"][:, 2], CELLS.reshape(-1))
    np.testing.assert_allclose(obs["grid"][[1, 5], :2], [[0, 0.2], [0.2, 0]])
    spec = EntitySpec.from_env(env)
    assert spec.names == {"grid": ("row", "column", "value")}
    assert spec.categories == {"grid": {"value": ("0", "1", "2", "3")}}
    assert env.observation_space.contains(obs)


def test_empty_cells_are_absent_on_request():
    for absent in ([0], ["empty"]):
        env = grid(channels=["sort"], values={"sort": SORTS}, absent=absent, capacity=4)
        obs, _ = env.reset()
        np.testing.assert_array_equal(obs["grid"][:, 2], [1, 3, 2, 0])
        np.testing.assert_array_equal(obs["grid_present"], [1, 1, 1, 0])
        assert EntitySpec.from_env(env).categories == {"grid": {"sort": SORTS}}


def test_channels_are_categories_of_their_own():
    space = spaces.Box(0, 2, (2, 3, 2), np.uint8)
    cells = np.arange(12).reshape(2, 3, 2) % 3
    env = grid(cells, space, channels=("sort", "colour"), values={"colour": ("red", "green", "blue")})
    obs, _ = env.reset()
    np.testing.assert_array_equal(obs["grid"][:, 2:], cells.reshape(6, 2))
    assert EntitySpec.from_env(env).categories["grid"] == {"sort": ("0", "1", "2"), "colour": ("red", "green", "blue")}


@pytest.mark.parametrize("space", [spaces.MultiBinary((2, 5)), spaces.MultiDiscrete(np.full((2, 5), 4))])
def test_other_grids_of_whole_numbers(space):
    obs, _ = grid(np.minimum(CELLS, 1), space).reset()
    assert obs["grid"][:, 2].sum() == 3


def test_refused_grids():
    assert "expected a grid of whole numbers" in refusal(lambda: grid(space=spaces.Box(0, 1, (2, 5), np.float32)))
    assert "expected a grid of whole numbers" in refusal(lambda: grid(space=spaces.Box(0, 1, (5,), np.int8)))
    assert "give one name per channel" in refusal(lambda: grid(channels=("a", "b")))
    assert "the channels are ('value',)" in refusal(lambda: grid(values={"sort": 3}))
    assert "absent='hole' is none of the values" in refusal(lambda: grid(absent=["hole"]))
    assert "expected values from 0" in refusal(lambda: grid(space=spaces.Box(-1, 3, (2, 5), np.int8)))
    assert refusal(grid(CELLS + 1).reset) == "'grid': 'value' of a cell is 4; expected 0 to 3"
    assert refusal(grid(CELLS[:1]).reset) == "'grid': got an observation of shape (1, 5); expected (2, 5)"
    assert "10 entities do not fit into capacity=9" in refusal(grid(capacity=9).reset)


def test_patches_hold_their_pixels_and_their_place():
    space = spaces.Box(0, 255, (4, 6, 3), np.uint8)
    picture = np.arange(72).reshape(4, 6, 3)
    env = ImageToEntities(Scripted(space, [picture]), patch=2)
    obs, _ = env.reset()
    assert obs["image"].shape == (6, 2 + 12)
    np.testing.assert_allclose(obs["image"][4, :2], [1 / 3, 1 / 3])
    np.testing.assert_allclose(obs["image"][4, 2:], picture[2:4, 2:4].reshape(-1) / 255, rtol=1e-6)
    assert EntitySpec.from_env(env).names["image"][:4] == ("row", "column", "y0x0c0", "y0x0c1")
    assert env.observation_space.contains(obs)


def test_refused_pictures():
    space = spaces.Box(0, 255, (4, 6), np.uint8)
    assert refusal(lambda: ImageToEntities(Scripted(space, []), patch=3)) == (
        "patch=3 does not divide 4 x 6 pixels; choose one of [1, 2]"
    )
    line = spaces.Box(0, 1, (4,), np.float32)
    assert "expected a picture" in refusal(lambda: ImageToEntities(Scripted(line, []), patch=2))
    wrong = ImageToEntities(Scripted(space, [np.zeros((4, 4))]), patch=2)
    assert refusal(wrong.reset) == "'image': got an observation of shape (4, 4); expected (4, 6)"


def test_an_agent_learns_from_cells():
    env = make_vec_env(lambda: grid(absent=[0]), n_envs=2)
    make_agent(env, n_steps=8, batch_size=16, n_epochs=1).learn(16)
