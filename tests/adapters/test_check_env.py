"""Gymnasium's own check accepts what our wrappers make, and ``spec.make()`` makes it again."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.utils.env_checker import check_env

import attn_rl.adapters
import attn_rl.vec_envs
import attn_rl.wrappers
from attn_rl import EntitySpec
from attn_rl.adapters import make_env
from attn_rl.vec_envs.replayable import ReplayableEnv
from attn_rl.wrappers import (
    ArraysToEntities,
    BoxToEntities,
    DiscreteToBox,
    FlattenDict,
    GraphToEntities,
    GridToEntities,
    ImageToEntities,
    MemoryWrapper,
    SequenceToEntities,
    TextToEntities,
)
from attn_rl.wrappers.base import ToEntities

POINT = spaces.Box(-1, 1, (2,), np.float32)
TABLE = spaces.Box(0, 1, (4, 3), np.float32)
ARRAYS = spaces.Dict({"dx": spaces.Box(-1, 1, (4,)), "here": spaces.MultiBinary(4)})


class Sampler(gym.Env):
    """Observes samples of a space, of which a third column says what is there."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space, render_mode: str | None = None):
        self.observation_space, self.render_mode = space, render_mode

    def look(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        seen = self.observation_space.sample()
        if self.observation_space == TABLE:
            seen[:, 2] = seen[:, 2] > 0.5
        return seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action):
        return self.look(), 0.0, False, False, {}

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


gym.register("Test/Sampler-v0", Sampler)
GRAPH = spaces.Graph(POINT, spaces.Box(0, 9, (1,), np.float32))


def sampler(space: spaces.Space) -> gym.Env:
    return gym.make("Test/Sampler-v0", space=space, render_mode="rgb_array")


WRAPPED: dict[type, Callable[[], gym.Env]] = {
    SequenceToEntities: lambda: SequenceToEntities(
        sampler(spaces.Sequence(POINT)), "ships", capacity=3, features=("x", "y"), overflow="nearest", by=("x", "y")
    ),
    GraphToEntities: lambda: GraphToEntities(
        sampler(GRAPH), "ports", capacity=40, edge_capacity=200, edge_features=("d",)
    ),
    BoxToEntities: lambda: BoxToEntities(sampler(TABLE), "ships", presence="there", features=("x", "y", "there")),
    ArraysToEntities: lambda: ArraysToEntities(sampler(ARRAYS), "ships", keys=["dx"], presence="here"),
    DiscreteToBox: lambda: DiscreteToBox(sampler(spaces.MultiDiscrete([[3, 2], [3, 2]])), "ships"),
    FlattenDict: lambda: FlattenDict(sampler(spaces.Dict(a=spaces.Dict(b=POINT), c=spaces.Box(0, 1, (3, 2))))),
    GridToEntities: lambda: GridToEntities(sampler(spaces.Box(0, 4, (3, 5), np.int8)), "cells", absent=[0]),
    ImageToEntities: lambda: ImageToEntities(sampler(spaces.Box(0, 255, (6, 4, 3), np.uint8)), "patches", patch=2),
    MemoryWrapper: lambda: MemoryWrapper(gym.make("AttnRL/Hidden-v0"), steps=3, sightings=2, actions=True),
    TextToEntities: lambda: TextToEntities(
        sampler(spaces.Text(12, charset="ab ")), "words", vocabulary=("a", "b"), capacity=6
    ),
    ReplayableEnv: lambda: ReplayableEnv(gym.make("AttnRL/Seek-v0", render_mode="rgb_array")),
}
FAMILIES = {
    "minatar": ("minatar:MinAtar/Asterix-v1", {"capacity": 20}),
    "minigrid": ("minigrid:MiniGrid-Fetch-8x8-N3-v0", {"view": "whole", "capacity": 5}),
    "minigrid.wrappers": ("minigrid:MiniGrid-GoToDoor-5x5-v0", {"empty": True}),
    "highway_env": ("highway_env:highway-fast-v0", {"capacity": 9, "order": "sorted"}),
}


def assert_checked_and_made_again(env: gym.Env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "different from the unwrapped version": that is meant
        check_env(env)
    again = env.spec.make()
    assert again.observation_space == env.observation_space
    assert EntitySpec.from_env(again) == EntitySpec.from_env(env)
    seen, seen_again = env.reset(seed=7)[0], again.reset(seed=7)[0]
    assert all(np.array_equal(seen[key], seen_again[key]) for key in seen)


@pytest.mark.parametrize("wrapper", WRAPPED, ids=lambda w: w.__name__)
def test_what_a_wrapper_makes_passes_and_can_be_made_again(wrapper):
    assert_checked_and_made_again(WRAPPED[wrapper]())


@pytest.mark.parametrize("package", FAMILIES)
def test_so_does_what_a_family_makes(package: str):
    pytest.importorskip(package)
    env_id, arguments = FAMILIES[package]
    env = make_env(env_id, render_mode="rgb_array", **arguments)
    assert_checked_and_made_again(env)


def wrappers() -> list[type]:
    found = []
    for room in (attn_rl.wrappers, attn_rl.adapters, attn_rl.vec_envs):
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            try:
                names = vars(importlib.import_module(module.name))
            except ModuleNotFoundError:  # an extra that is not installed
                continue
            found += [c for c in names.values() if isinstance(c, type) and issubclass(c, gym.Wrapper)]
    return sorted(
        {c for c in found if c.__module__.startswith("attn_rl") and c.__name__[0] != "_"} - {ToEntities},
        key=lambda c: c.__name__,
    )


def test_every_wrapper_of_ours_is_among_them():
    assert {w.__name__ for w in wrappers()} - {"HighwayEntities", "MinAtarEntities", "MiniGridEntities"} == {
        w.__name__ for w in WRAPPED
    }
    assert [w for w in wrappers() if not issubclass(w, RecordConstructorArgs)] == []
