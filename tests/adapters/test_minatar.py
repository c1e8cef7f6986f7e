"""MinAtar as entities: rows are the cells that hold something, a batch plays what single games play."""

import numpy as np
import pytest

pytest.importorskip("minatar", reason="needs an extra: pip install 'attn_rl[minatar]'")

from attn_rl import EntitySpec, make_vec_env
from attn_rl.adapters import make_env
from attn_rl.adapters.minatar import GAMES
from attn_rl.adapters.minatar_batch import MinAtarVectorEnv
from attn_rl.training.presets import find_preset

IDS = [f"minatar:MinAtar/{game}-v1" for game in GAMES]


def played(env_id: str, steps: int, **kwargs):
    """A game after some random steps."""
    env = make_env(env_id, **kwargs)
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(steps):
        if env.step(env.action_space.sample())[2]:
            env.reset()
    return env


@pytest.mark.parametrize("env_id", IDS)
def test_every_cell_that_holds_something_is_a_row_and_nothing_else(env_id):
    env = played(env_id, 200)
    obs = env.step(0)[0]
    picture = env.unwrapped.game.state()
    rebuilt = np.zeros_like(picture)
    features = EntitySpec.from_env(env).features["cells"]
    column, row = np.rint(obs["ego"] * 10).astype(int)
    rebuilt[row, column, 0] = True
    for cell in obs["cells"][obs["cells_present"] == 1]:
        x, y = np.rint(cell[2:4] * 10).astype(int)
        assert cell[:2] == pytest.approx([(x - column) / 10, (y - row) / 10])
        rebuilt[y, x, 1:] = cell[4:] == 1
    assert (rebuilt == picture).all() or picture[..., 0].sum() > 1
    assert features[4:] == tuple(env.unwrapped.game.env.channels)[1:]
    assert not obs["cells"][obs["cells_present"] == 0].any()


@pytest.mark.parametrize("env_id", IDS)
def test_a_batch_plays_what_single_games_play_and_goes_on_exactly(env_id):
    batch, single = make_vec_env(env_id, n_envs=3, seed=3), make_env(env_id)
    seen, expected = batch.reset(), single.reset(seed=5)[0]
    rng, resumed = np.random.default_rng(0), None
    for step in range(300):
        assert all(np.array_equal(seen[key][2], expected[key]) for key in expected)
        actions = rng.integers(batch.action_space.n, size=3)
        seen, rewards, dones, infos = batch.step(actions)
        expected, reward, terminated, *_ = single.step(actions[2])
        assert (rewards[2], dones[2]) == (reward, terminated)
        if terminated:
            assert all(np.array_equal(infos[2]["terminal_observation"][key], expected[key]) for key in expected)
            expected = single.reset()[0]
        if resumed is not None:
            again, rewards_again, _, _ = resumed.step(actions)
            assert all(np.array_equal(again[key], seen[key]) for key in seen)
            assert np.array_equal(rewards, rewards_again)
        if step == 200:
            resumed = make_vec_env(env_id, n_envs=3, seed=99)
            resumed.reset()
            resumed.set_state(batch.get_state())


def test_too_many_cells_are_refused_with_the_capacity_that_is_needed():
    env = make_env(IDS[1], capacity=10)
    with pytest.raises(ValueError, match=r"30 cells do not fit into capacity=10; pass capacity=30 or more"):
        env.reset(seed=0)


def test_positions_lie_on_the_picture():
    env = played(IDS[0], 50, render_mode="rgb_array")
    places, present = env.entity_positions(), env.step(0)[0]["cells_present"]
    places = env.entity_positions()
    assert np.isfinite(places[present == 1]).all()
    assert np.isnan(places[present == 0]).all()
    picture = env.render()
    assert picture.shape == (160, 160, 3)
    for x, y in [*places[present == 1], env.ego_positions()]:
        assert picture[int((1 - y) * 80), int((x + 1) * 80)].any()


def test_the_batch_draws_and_refuses_a_state_that_is_not_its_own():
    batch = MinAtarVectorEnv(2, "asterix", use_minimal_action_set=True, render_mode="rgb_array")
    batch.reset(seed=[4, None])
    assert [picture.shape for picture in batch.render()] == [(160, 160, 3)] * 2
    state = batch.get_state()
    with pytest.raises(ValueError, match="not one of 3 games"):
        MinAtarVectorEnv(3, "asterix").set_state(state)
    with pytest.raises(ValueError, match="actions that this game does not have"):
        batch.set_state(state | {"actions": np.array([9]), "lengths": np.array([1, 0])})


def test_all_five_games_have_a_preset_that_leaves_advantages_as_they_are():
    for env_id in IDS:
        preset = find_preset(env_id)
        assert (preset.n_envs, preset.settings("attention").normalize_advantage) == (32, False)
