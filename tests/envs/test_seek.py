"""The rules of Seek, on games laid out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from attn_rl.envs.seek import MIN_GAP, REACH, STRIDE, TAKE, SeekVectorEnv

EAST = 1


def scene(*items, ego=(0.0, 0.0), target=0, **kwargs) -> SeekVectorEnv:
    n = len(items)
    env = SeekVectorEnv(1, min_entities=n, max_entities=n, **kwargs)
    env.reset(seed=0)
    state = env.get_state()
    state["game.ego"][0], state["game.position"][0], state["game.target"][0] = ego, items, target
    env.set_state(state)
    return env


def play(env, action):
    return env.play(np.array([action]))


def test_taking_the_right_item():
    _, outcome, _ = play(scene((REACH, 0.0), (0.5, 0.5)), TAKE)
    assert outcome.reward[0] == pytest.approx(1 - 0.01)
    assert outcome.terminated[0]
    assert outcome.success[0]


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_taking_a_wrong_item(penalty):
    _, outcome, _ = play(scene((0.14, 0.0), (0.0, 0.1), penalty=penalty), TAKE)
    assert outcome.reward[0] == pytest.approx(-penalty - 0.01)
    assert outcome.terminated[0]
    assert not outcome.success[0]


def test_taking_where_nothing_is_within_reach():
    _, outcome, _ = play(scene((REACH + 0.01, 0.0), (0.5, 0.5)), TAKE)
    assert outcome.reward[0] == pytest.approx(-0.01)
    assert not outcome.terminated[0]


@pytest.mark.parametrize("shaping", [0.5, 0.0])
def test_walking_pays_by_the_distance_to_the_right_item(shaping):
    obs, outcome, _ = play(scene((0.5, 0.0), (-0.5, 0.5), shaping=shaping), EAST)
    assert outcome.reward[0] == pytest.approx(shaping * STRIDE - 0.01)
    np.testing.assert_allclose(obs["ego"][0, 3:], [STRIDE, 0, 1 / 24], atol=1e-6)


def test_walls_stop_the_walker():
    obs, _, _ = play(scene((0.5, 0.0), ego=(0.95, 0.0)), EAST)
    assert obs["ego"][0, 3] == 1


def test_items_are_told_relative_to_the_walker_and_the_cue_is_the_colour_of_the_right_one():
    env = scene((0.3, 0.4), (-0.5, 0.5), ego=(0.0, 0.0), target=1)
    obs, slot = env.observation(), env.relevant()[0]
    np.testing.assert_allclose(obs["items"][0, slot, :3], [-0.5, 0.5, 0.5**0.5], atol=1e-6)
    np.testing.assert_allclose(obs["items"][0, 1 - slot, :3], [0.3, 0.4, 0.5], atol=1e-6)
    np.testing.assert_array_equal(obs["items"][0, slot, 3:], obs["ego"][0, :3])


def test_slots_are_shuffled_at_every_step():
    env = SeekVectorEnv(1, min_entities=8, max_entities=8)
    env.reset(seed=0)
    slots = set()
    for _ in range(20):
        play(env, 1)
        slots.add(int(env.relevant()[0]))
    assert len(slots) > 4


def test_truncated_after_24_steps():
    env = SeekVectorEnv(3)
    env.reset(seed=0)
    for _ in range(23):
        _, outcome, truncated = env.play(np.array([1, 3, 5]))
        assert not truncated.any()
    _, outcome, truncated = env.play(np.array([1, 3, 5]))
    assert truncated.all()
    assert not outcome.terminated.any()


@pytest.mark.parametrize("count", [8, 35, 64])
def test_things_start_apart_inside_the_arena(count):
    env = SeekVectorEnv(20, min_entities=count, max_entities=count)
    env.reset(seed=0)
    state = env.get_state()
    things = np.concatenate([state["game.ego"][:, None], state["game.position"]], axis=1)
    gaps = np.linalg.norm(things[:, :, None] - things[:, None], axis=-1)
    gaps[:, np.arange(count + 1), np.arange(count + 1)] = np.inf
    assert gaps.min() >= MIN_GAP - 1e-9
    assert np.abs(things).max() <= 1


def test_more_items_than_colours_are_refused():
    with pytest.raises(ValueError, match="65 different colours are needed, levels=4 gives 64"):
        SeekVectorEnv(1, max_entities=65)
