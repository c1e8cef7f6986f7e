"""Whatever is wrong with an environment's observation is said in words, whichever way the environment came in."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from attn_rl import make_agent, make_vec_env
from attn_rl.vec_envs.adapter import VectorEnvAdapter
from attn_rl.vec_envs.guarded import GuardedVecEnv
from attn_rl.vec_envs.observation_form import GuardError
from attn_rl.vec_envs.supervised import SupervisedVecEnv

N, F, A = 5, 4, 3
pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


class Honest(gym.Env):
    """Three steps an episode; every second one ends by time, the others by themselves."""

    observation_space = spaces.Dict(
        {
            "items": spaces.Box(-1, 1, (N, F), np.float32),
            "items_present": spaces.MultiBinary(N),
            "ego": spaces.Box(-1, 1, (2,), np.float32),
            "action_mask": spaces.MultiBinary(A),
        }
    )
    action_space = spaces.Discrete(A)
    episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return self.look(), {}

    def step(self, action):
        self.t += 1
        over, late = self.t == 3, self.episode % 2 == 0
        return self.look(), 0.0, over and not late, over and late, {}

    def look(self) -> Any:
        return {
            "items": np.full((N, F), 0.5, np.float32),
            "items_present": np.ones(N, np.int8),
            "ego": np.zeros(2, np.float32),
            "action_mask": np.ones(A, np.int8),
        }


class Liar(Honest):
    """Tells something else at one moment: (episode, step)."""

    def __init__(self, lie: Callable[[dict], Any], moment: tuple[int, int]):
        self.lie, self.moment = lie, moment

    def look(self):
        told = super().look()
        return self.lie(told) if (self.episode, self.t) == self.moment else told


def put(key: str, change: Callable[[np.ndarray], Any]) -> Callable[[dict], Any]:
    return lambda told: told | {key: change(told[key])}


F32 = r"float32 of shape \(5, 4\)"
WRONG = {  # what is wrong -> (the lie, what is said)
    "one row that would be repeated": (put("items", lambda x: x[:1]), rf"'items' is .* \(1, 4\), expected {F32}"),
    "a row without its axis": (put("items", lambda x: x[0]), rf"'items' is .* \(4,\), expected {F32}"),
    "one column that would be repeated": (put("items", lambda x: x[:, :1]), r"'items' is .* \(5, 1\), expected"),
    "a number that would fill the block": (put("items", lambda x: 0.25), r"'items' is float64 of shape \(\), expected"),
    "an axis too many": (put("items", lambda x: x[None]), r"'items' is .* \(1, 5, 4\), expected"),
    "rows too many": (put("items", lambda x: np.vstack([x, x])), r"'items' is .* \(10, 4\), expected"),
    "rows of unequal length": (put("items", lambda x: [[0.5], [0.5, 0.5]]), r"'items' is a list that is no array"),
    "one flag for all rows": (put("items_present", lambda x: x[:1]), r"'items_present' is .* \(1,\), expected int8"),
    "one entry for the whole ego": (put("ego", lambda x: x[:1]), r"'ego' is .* \(1,\), expected float32 of shape \(2,"),
    "one flag for all actions": (put("action_mask", lambda x: x[:1]), r"'action_mask' is .* \(1,\), expected int8"),
    "numbers in strings": (put("items", lambda x: x.astype(str)), r"'items' is <U\d+ of shape \(5, 4\), expected"),
    "Python objects": (put("ego", lambda x: x.astype(object)), r"'ego' is object of shape \(2,\), expected float32"),
    "complex numbers": (put("ego", lambda x: x.astype(complex)), r"'ego' is complex128 of shape \(2,\), expected"),
    "nothing": (put("ego", lambda x: None), r"'ego' is object of shape \(\), expected"),
    "fractions of a flag": (
        put("items_present", lambda x: x * 0.9),
        r"'items_present' is float64 of .*, expected int8",
    ),
    "flags that would wrap around": (
        put("items_present", lambda x: x.astype(int) + 256),
        "holds 257, which int8 cannot",
    ),
    "a key too many": (lambda told: told | {"wind": told["ego"]}, r"has keys \[.*'wind'\], expected \['action_mask'"),
    "a key too few": (lambda told: {k: told[k] for k in told if k != "ego"}, r"keys .*, expected \[.*'ego', 'items'"),
    "keys that are no strings": (lambda told: told | {7: 0}, r"has keys \['7', .*\], expected"),
    "a bare array": (lambda told: told["items"], "the observation is a ndarray, expected a dict with keys"),
    "observation and info": (lambda told: (told, {}), "the observation is a tuple, expected a dict with keys"),
    "no observation": (lambda told: None, "the observation is None, expected a dict with keys"),
}
MOMENTS = {
    "the first observation": (1, 0),
    "an observation in between": (1, 2),
    "the last of an episode that ended": (1, 3),
    "the last of an episode that ran out of time": (2, 3),
    "the first of a later episode": (2, 0),
}
WAYS = {
    "Gymnasium's SyncVectorEnv": lambda liar: VectorEnvAdapter(SyncVectorEnv([Honest, liar, Honest])),
    "DummyVecEnv in make_agent": lambda liar: DummyVecEnv([Honest, liar, Honest]),
    "DummyVecEnv in a wrapper": lambda liar: VecMonitor(DummyVecEnv([Honest, liar, Honest])),
    "make_vec_env": lambda liar: copies(iter([Honest, liar, Honest])),
}


def copies(makers):
    return make_vec_env(lambda: next(makers)(), 3)


def learn(env):
    make_agent(env, seed=0, n_steps=3, batch_size=9, n_epochs=1).learn(9)


def play(env):
    """What learning asks of an environment, without a network."""
    guarded = GuardedVecEnv(env)
    guarded.reset()
    for _ in range(7):
        guarded.step(np.zeros(env.num_envs, int))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_observation_stops_an_agent_in_words(wrong: str, way: str):
    lie, message = WRONG[wrong]
    with pytest.raises(GuardError, match=rf"^environment 1, step 2.*: .*{message}"):
        learn(WAYS[way](lambda: Liar(lie, MOMENTS["an observation in between"])))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("wrong", WRONG)
def test_at_whatever_moment_it_comes(wrong: str, moment: str, way: str):
    lie, message = WRONG[wrong]
    with pytest.raises(GuardError, match=rf"^environment 1, (reset|step \d).*: .*{message}"):
        play(WAYS[way](lambda: Liar(lie, MOMENTS[moment])))


HARMLESS = {
    "a wider float": put("items", lambda x: x.astype(np.float64)),
    "an integer where a float belongs": put("ego", lambda x: x.astype(int)),
    "lists": lambda told: {key: block.tolist() for key, block in told.items()},
    "Booleans as flags": put("items_present", lambda x: x.astype(bool)),
    "flags in a wider integer": put("action_mask", lambda x: x.astype(np.int64)),
    "keys in another order": lambda told: dict(reversed(told.items())),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("form", HARMLESS)
def test_a_form_that_loses_nothing_passes(form: str, moment: str, way: str):
    play(WAYS[way](lambda: Liar(HARMLESS[form], MOMENTS[moment])))


class Table(Honest):
    """A bare Box with a presence column."""

    observation_space = spaces.Box(-1, 1, (N, F), np.float32)

    def look(self):
        return super().look()["items"] * 0 + 1


class LyingTable(Liar, Table):
    pass


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lambda x: x[:1], rf"observation is .* \(1, 4\), expected {F32}"),
        (lambda x: {"items": x}, "the observation is a dict, expected an array"),
        (lambda x: x.astype(str), "observation is <U"),
    ],
    ids=["one row that would be repeated", "a dict", "strings"],
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_so_is_one_in_a_plain_box(lie, message: str, moment: str):
    env = DummyVecEnv([Table, lambda: LyingTable(lie, MOMENTS[moment])])
    with pytest.raises(GuardError, match=f"^environment 1, (reset|step).*: {message}"):
        play(env)


def test_a_second_agent_on_the_same_environment_counts_its_own_steps():
    env = DummyVecEnv([lambda: Liar(WRONG["a bare array"][0], (3, 1))])
    small = {"seed": 0, "n_steps": 5, "batch_size": 5, "n_epochs": 1}
    make_agent(env, **small).learn(5)
    with pytest.raises(GuardError, match="environment 0, step 1: the observation is a ndarray"):
        make_agent(env, **small).learn(5)


PROCESSES = {
    "SubprocVecEnv": lambda liar: SubprocVecEnv([Honest, liar], start_method="fork"),
    "SupervisedVecEnv": lambda liar: SupervisedVecEnv([Honest, liar], start_method="fork"),
    "SubprocVecEnv in a wrapper": lambda liar: VecMonitor(SubprocVecEnv([Honest, liar], start_method="fork")),
}


@pytest.mark.parametrize(("wrong", "way", "moment"), list(zip(WRONG, cycle(PROCESSES), cycle(MOMENTS), strict=False)))
def test_so_is_one_from_a_process_of_its_own(wrong: str, way: str, moment: str):
    lie, message = WRONG[wrong]
    env = PROCESSES[way](lambda: Liar(lie, MOMENTS[moment]))
    try:
        with pytest.raises(GuardError, match=rf"^environment 1, (reset|step \d).*: .*{message}"):
            play(env)
    finally:
        env.close()  # nobody waits for an answer that was read already


@pytest.mark.parametrize(("form", "way", "moment"), list(zip(HARMLESS, cycle(PROCESSES), cycle(MOMENTS), strict=False)))
def test_what_loses_nothing_passes_from_a_process_of_its_own_too(form: str, way: str, moment: str):
    env = PROCESSES[way](lambda: Liar(HARMLESS[form], MOMENTS[moment]))
    play(env)
    env.close()


def test_a_second_guard_takes_the_place_of_the_first_over_processes():
    env = SubprocVecEnv([lambda: Liar(WRONG["a key too many"][0], (3, 1))], start_method="fork")
    for _ in range(2):
        GuardedVecEnv(env).reset()
    with pytest.raises(GuardError, match="environment 0, step 1: the observation has keys"):
        play(env)  # the first two began episodes 1 and 2
    env.close()
