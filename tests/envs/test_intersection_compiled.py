"""The compiled frame of Intersection plays what the NumPy rules play, to the last bit."""

import numpy as np
import pytest
from attn_rl.envs.core.state import State
from attn_rl.envs.intersection import IntersectionVectorEnv, compiled
from attn_rl.envs.intersection.compiled import CompiledTraffic, why_not_compiled
from attn_rl.envs.intersection.traffic import Traffic

pytestmark = pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))
DENSE = {"spawn_probability": 1.0, "initial_vehicle_count": 20}


def later(n_envs: int, steps: int) -> State:
    """Busy junctions after some steps."""
    env = IntersectionVectorEnv(n_envs, **DENSE)
    env.reset(seed=3)
    env.action_space.seed(3)
    for _ in range(steps):
        env.play(env.action_space.sample())
    return env._require_state()


def assert_same_after(state: State, frames: int) -> State:
    one, other = state.copy(), state.copy()
    Traffic(one).play(frames)
    CompiledTraffic(other).play(frames)
    for name, values in one.arrays():
        np.testing.assert_array_equal(getattr(other, name), values, err_msg=name)
    return one


def test_every_bit_of_every_vehicle_is_the_same_while_they_yield_crash_and_wag():
    state = later(32, 4)
    after = assert_same_after(state, 45)
    assert after.crashed.sum() > 10
    assert after.yields.sum() > 10
    assert (after.lane != state.lane).sum() > 50
    assert (np.abs(after.speed[after.present]) < 1).sum() > 20  # where steering blows up the last bit


def test_also_off_the_road_backwards_and_beyond_any_speed_limit():
    state = later(16, 1)
    rng = np.random.default_rng(0)
    state.x += np.where(rng.random(state.x.shape) < 0.3, rng.normal(0, 15, state.x.shape), 0)
    state.heading += rng.normal(0, 1, state.x.shape)
    state.speed[:] = rng.uniform(-50, 50, state.x.shape)
    assert_same_after(state, 9)


def test_no_vehicle_at_all_is_no_difficulty():
    state = later(3, 1)
    state.present[:] = False
    state.ego[:] = -1
    assert_same_after(state, 8)


def test_whole_episodes_are_the_same_without_a_compiler(monkeypatch: pytest.MonkeyPatch):
    one, other = IntersectionVectorEnv(7), IntersectionVectorEnv(7)
    one.reset(seed=11)
    with monkeypatch.context() as without:
        without.setattr(compiled, "library", lambda: "there is no C++ compiler")
        assert why_not_compiled() == "there is no C++ compiler"
        other.reset(seed=11)
    for step in range(20):
        actions = one.action_space.sample()
        mine = one.step(actions)
        with monkeypatch.context() as without:
            without.setattr(compiled, "library", lambda: "there is no C++ compiler")
            theirs = other.step(actions)
        for key, block in mine[0].items():
            np.testing.assert_array_equal(theirs[0][key], block, err_msg=f"{key} after step {step}")
        for got, expected in zip(theirs[1:4], mine[1:4], strict=True):
            np.testing.assert_array_equal(got, expected)
