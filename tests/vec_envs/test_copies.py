"""make_vec_env takes what SB3's takes, ids and whatever returns an environment, and says what else was given."""

from __future__ import annotations

import re
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env as sb3_make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from attn_rl import make_agent, make_vec_env
from attn_rl.vec_envs.replayable import ReplayableEnv
from attn_rl.vec_envs.supervised import SupervisedVecEnv, WorkerFailed
from attn_rl.wrappers import BoxToEntities, SequenceToEntities
from tests.toys import Toy
from tests.wrappers.scripted import Scripted

SEEK = "AttnRL/Seek-v0"
POINT = spaces.Box(-1, 1, (2,), np.float32)


def a_table() -> gym.Env:
    """A plain Box, wrapped, as on the pages about wrappers."""
    return BoxToEntities(Scripted(spaces.Box(0, 1, (5, 3)), [np.ones((5, 3), np.float32)] * 3), presence=2)


def of_points(space: spaces.Space) -> gym.Env:
    return Scripted(space, [space.sample()] * 3)


CALLABLES = {
    "a class": (Toy, {}),
    "a class and its arguments": (Toy, {"masked": True}),
    "a function": (lambda: Toy(length=4), {}),
    "a function with arguments": (lambda length: Toy(length=length), {"length": 5}),
    "a partial": (partial(Toy, length=2), {}),
    "a function that makes an id": (lambda: gym.make(SEEK), {}),
}


@pytest.mark.parametrize("way", CALLABLES)
def test_whatever_returns_an_environment_rolls_out_as_with_sb3(way: str):
    make, env_kwargs = CALLABLES[way]
    env = make_vec_env(make, 3, seed=5, env_kwargs=env_kwargs)
    reference = sb3_make_vec_env(make, 3, seed=5, env_kwargs=env_kwargs)
    assert isinstance(env, DummyVecEnv)
    assert env.env_is_wrapped(Monitor) == env.env_is_wrapped(ReplayableEnv) == [True] * 3
    obs, expected = env.reset(), reference.reset()
    for _ in range(9):
        for key, block in expected.items():
            np.testing.assert_array_equal(obs[key], block)
        obs, expected = env.step(np.ones(3, int))[0], reference.step(np.ones(3, int))[0]


def test_a_wrapped_environment_trains():
    agent = make_agent(make_vec_env(a_table, 2, seed=0), n_steps=4, batch_size=8, n_epochs=1)
    agent.learn(8)
    assert agent.observation_space["items"].shape == (5, 2)


def test_processes_make_it_too():
    env = make_vec_env(a_table, 2, seed=0, vec_env_cls=SubprocVecEnv)
    try:
        assert isinstance(env, SupervisedVecEnv)
        assert env.reset()["items"].shape == (2, 5, 2)
    finally:
        env.close()


NO_MAKER = {
    "an environment": (
        Toy,
        r"is an environment \(Toy\), and copies are needed: pass its class, or a function .* `lambda:",
    ),
    "a wrapped environment": (a_table, r"is an environment \(BoxToEntities\), and copies are needed"),
    "SB3's vector environment": (lambda: DummyVecEnv([Toy]), r"is a vector environment \(DummyVecEnv\) already"),
    "Gymnasium's": (
        lambda: gym.vector.SyncVectorEnv([Toy]),
        r"is a vector environment \(SyncVectorEnv\) already.*VectorEnvAdapter\(env\)",
    ),
    "None": (lambda: None, r"is None; expected an id .* a class, or a function that returns a new"),
    "a number": (lambda: 3, "is an int; expected an id"),
    "a specification": (lambda: gym.spec("CartPole-v1"), "is an EnvSpec; expected an id"),
    "a list of functions": (lambda: [Toy, Toy], "is a list; expected an id"),
}


@pytest.mark.parametrize("what", NO_MAKER)
def test_what_makes_no_environments_is_refused_by_type(what: str):
    make, message = NO_MAKER[what]
    with pytest.raises(TypeError, match=f"^env_id {message}"):
        make_vec_env(make(), 2)


@pytest.mark.parametrize(
    "returned",
    [None, "CartPole-v1", DummyVecEnv([Toy]), gym.vector.SyncVectorEnv([Toy])],
    ids=lambda found: type(found).__name__,
)
def test_a_function_that_returns_something_else_is_refused(returned):
    what = "None" if returned is None else f"a {type(returned).__name__}"
    message = rf"returned {what}; expected a new gymnasium\.Env"
    with pytest.raises(TypeError, match=message):
        make_vec_env(lambda: returned, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_envs": 0}, ValueError, "n_envs=0; expected 1 or more"),
        ({"n_envs": -2}, ValueError, "n_envs=-2; expected 1 or more"),
        ({"n_envs": 10**9}, ValueError, "n_envs=1,000,000,000; expected at most 65,536"),
        ({"n_envs": "4"}, TypeError, "n_envs='4'; expected a whole number"),
        ({"n_envs": 2.0}, TypeError, "n_envs=2.0; expected a whole number"),
        ({"seed": "1"}, TypeError, "seed='1'; expected a whole number or None"),
        ({"seed": -1}, ValueError, "seed=-1; expected 0 or more"),
        ({"env_kwargs": "capacity=4"}, TypeError, "env_kwargs='capacity=4'; expected a dict"),
        ({"env_kwargs": [("capacity", 4)]}, TypeError, "env_kwargs=.* expected a dict"),
    ],
)
@pytest.mark.parametrize("made", [SEEK, "CartPole-v1", Toy], ids=["a native batch", "an id", "a class"])
def test_other_arguments_are_checked_first(made, arguments, error, message: str):
    with pytest.raises(error, match=f"^{message}"):
        make_vec_env(made, **arguments)


def test_numbers_of_numpy_are_numbers():
    assert make_vec_env(Toy, np.int64(2), seed=np.int64(3)).num_envs == 2


UNFIT = {
    "a sequence": (spaces.Sequence(POINT), "SequenceToEntities(env, 'items', capacity=...)"),
    "a graph": (spaces.Graph(POINT, None), "GraphToEntities(env, 'items', capacity=...)"),
    "a tuple": (spaces.Tuple([POINT, POINT]), "gives each part a key of its own"),
    "a sequence in a dict": (
        spaces.Dict(ships=spaces.Sequence(POINT)),
        "SequenceToEntities(env, 'ships', capacity=...)",
    ),
    "a dict in a dict": (spaces.Dict(ships=spaces.Dict(a=POINT)), "gives each part a key of its own"),
    "a tuple in a dict": (spaces.Dict(ships=spaces.Tuple([POINT])), "gives each part a key of its own"),
}


@pytest.fixture
def registered():
    gym.register("Test/OfPoints-v0", of_points)
    yield "Test/OfPoints-v0"
    del gym.registry["Test/OfPoints-v0"]


@pytest.mark.parametrize("by", ["id", "function"])
@pytest.mark.parametrize("form", UNFIT)
def test_a_space_that_no_array_holds_names_its_wrapper_before_anything_is_built(form: str, by: str, registered):
    space, wrapper = UNFIT[form]
    made = []

    def make(**kwargs):
        made.append(of_points(space))
        return made[-1]

    with pytest.raises(ValueError, match=re.escape(wrapper) + ".* make_vec_env takes a function"):
        make_vec_env(registered if by == "id" else make, 7, env_kwargs={"space": space} if by == "id" else {})
    assert len(made) <= 1


def test_a_process_says_so_too():
    with pytest.raises(WorkerFailed, match="SequenceToEntities"):
        make_vec_env(partial(of_points, UNFIT["a sequence"][0]), 1, vec_env_cls=SubprocVecEnv)


def test_the_wrapper_named_helps():
    sequence = UNFIT["a sequence"][0]
    env = make_vec_env(lambda: SequenceToEntities(of_points(sequence), "items", capacity=40), 2, seed=0)
    assert env.reset()["items"].shape == (2, 40, 2)


def test_an_id_that_only_the_main_process_registered_is_known_in_its_workers():
    class Local(Toy):  # as in a notebook: no module holds it
        def __init__(self, render_mode=None):
            super().__init__()

    gym.register("TestLocal-v0", Local)
    env = make_vec_env("TestLocal-v0", 1, seed=0, vec_env_cls=SubprocVecEnv)
    assert isinstance(env.reset(), dict)
    env.close()
    del gym.registry["TestLocal-v0"]
