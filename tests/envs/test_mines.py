"""The rules of Mines, on games laid out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from attn_rl.envs.mines import REACH, TOUCH, TURN, MinesVectorEnv

RIGHT, STRAIGHT, LEFT = range(3)
SLOWER, SAME, FASTER = 0, 3, 6
CENTRE = np.array([300.0, -200.0])


def scene(mine=(5.0, 5.0), ego=(0.0, 0.0), heading=0.0, speed=0.4, target=(8.0, 0.0), **kwargs) -> MinesVectorEnv:
    env = MinesVectorEnv(1, min_entities=1, max_entities=1, **kwargs)
    env.reset(seed=0)
    state = env.get_state()
    for name, place in {"ego": ego, "target": target, "middle": (0, 0)}.items():
        state[f"game.{name}"][0] = CENTRE + place
    state["game.position"][0, 0] = CENTRE + mine
    state["game.heading"][0], state["game.speed"][0] = heading, speed
    env.set_state(state)
    return env


def play(env, action):
    return env.play(np.array([action]))


def test_it_turns_changes_its_speed_and_drives():
    obs, outcome, _ = play(scene(), FASTER + LEFT)
    x, y, heading, speed = obs["ego"][0, :4]
    assert heading == pytest.approx(TURN)
    assert speed == pytest.approx(0.6)
    np.testing.assert_allclose([x, y] - CENTRE, 0.6 * np.array([np.cos(TURN), np.sin(TURN)]), atol=1e-4)
    left = np.hypot(8 - 0.6 * np.cos(TURN), 0.6 * np.sin(TURN))
    assert outcome.reward[0] == pytest.approx(0.05 * (8 - left) - 0.005)


def test_speed_stays_between_standing_and_full():
    assert play(scene(speed=0.8), FASTER + STRAIGHT)[0]["ego"][0, 3] == pytest.approx(0.8)
    assert play(scene(speed=0.1), SLOWER + STRAIGHT)[0]["ego"][0, 3] == 0


def test_the_heading_stays_within_half_a_turn():
    obs, _, _ = play(scene(heading=np.pi - 0.1), SAME + LEFT)
    assert obs["ego"][0, 2] == pytest.approx(TURN - 0.1 - np.pi)


def test_a_mine_ends_the_game_also_when_it_is_passed_within_a_step():
    for across, expected in ((TOUCH - 0.01, True), (TOUCH + 0.01, False)):
        _, outcome, _ = play(scene(mine=(0.2, across), penalty=0.5), SAME + STRAIGHT)
        assert outcome.terminated[0] == expected
        assert not outcome.success[0]
        assert outcome.reward[0] == pytest.approx(0.05 * 0.4 - 0.005 - 0.5 * expected)


def test_the_target_ends_the_game_with_success():
    _, outcome, _ = play(scene(target=(REACH + 0.39, 0)), SAME + STRAIGHT)
    assert outcome.success[0]
    assert outcome.terminated[0]


@pytest.mark.parametrize(
    ("mine", "expected"), [((3, 0.5), 0), ((3, 2.0), -1), ((-3, 0), -1), ((7.9, 0.1), 0), ((9, 0), -1)]
)
def test_the_decisive_mine_is_in_the_way(mine, expected):
    assert scene(mine=mine).relevant()[0] == expected


def test_games_lie_anywhere_on_the_map_and_mines_clear_of_both_ends():
    env = MinesVectorEnv(500, min_entities=10)
    obs, _ = env.reset(seed=0)
    ego, target, mines = obs["ego"][:, :2], obs["ego"][:, 4:], obs["mines"]
    assert np.ptp(ego[:, 0]) > 900
    assert (np.hypot(*(ego - target).T) >= 5.999).all()
    for end in (ego, target):
        assert (np.hypot(*np.moveaxis(mines - end[:, None], -1, 0)) >= 2.499).all()


def test_a_map_too_large_for_float32_is_refused():
    with pytest.raises(ValueError, match="0 to 10000"):
        MinesVectorEnv(1, map_size=1e6)
