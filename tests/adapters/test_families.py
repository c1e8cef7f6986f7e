"""Which environments get a wrapper, and what is said when a package is missing. Needs no extra."""

import sys

import gymnasium as gym
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import make_vec_env
from attn_rl.adapters import Family, families, family_of, find_spec, make_env
from attn_rl.vec_envs import copies
from attn_rl.wrappers import SequenceToEntities
from tests.wrappers.scripted import Scripted


class Crowd(Scripted):
    """Stands for a foreign environment that observes a Sequence."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, n: int = 2, render_mode: str | None = None) -> None:
        space = spaces.Sequence(spaces.Box(0, 1, (3,)))
        super().__init__(space, [(space.feature_space.sample(),) * n] * 3, **self.metadata)
        self.n, self.render_mode = n, render_mode


@pytest.fixture
def crowd(monkeypatch):
    gym.register("Test/Crowd-v0", Crowd)
    wrapper = f"{SequenceToEntities.__module__}:{SequenceToEntities.__name__}"
    monkeypatch.setitem(families.FAMILIES, "tests", Family("crowd", wrapper, slow=True))
    yield "Test/Crowd-v0"
    del gym.registry["Test/Crowd-v0"]


def test_our_own_environments_are_taken_as_they_are():
    assert family_of(find_spec("AttnRL/Seek-v0")) is None
    assert make_env("AttnRL/Seek-v0", capacity=11).observation_space["items"].shape[0] == 11


def test_a_family_gets_its_wrapper_and_each_its_own_arguments(crowd):
    env = make_env(crowd, n=3, capacity=5)
    assert env.unwrapped.n == 3
    assert env.observation_space["items"].shape == (5, 3)


class Blind(Crowd):
    """Draws nothing."""

    metadata = {"render_modes": []}

    def __init__(self) -> None:
        super().__init__()


class Terminal(Crowd):
    """Draws letters only."""

    metadata = {"render_modes": ["ansi"]}


class Boastful(gym.Env):
    """Says that it draws, and takes no arguments at all."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Sequence(spaces.Box(0, 1, (3,)))
    action_space = spaces.Discrete(2)


CREATORS = {  # how an environment comes to be -> the mode in which it draws pictures
    "a class that draws": (Crowd, "rgb_array"),
    "a class that draws nothing": (Blind, None),
    "a class that draws letters": (Terminal, None),
    "a class that takes no arguments": (Boastful, None),
    "a class by name": (f"{__name__}:Blind", None),
    "a function that takes the mode": (lambda render_mode=None: Crowd(render_mode=render_mode), "rgb_array"),
    "a function that takes anything": (lambda **kwargs: Crowd(**kwargs), "rgb_array"),
    "a function that takes nothing": (lambda: Blind(), None),
    "a function that takes anything but it": (lambda **kwargs: Blind(**kwargs), None),
}


@pytest.mark.parametrize("creator", CREATORS)
def test_pictures_are_asked_for_where_there_are_any_and_nobody_is_warned(creator: str, recwarn):
    entry, mode = CREATORS[creator]
    gym.register("Test/Drawn-v0", entry)
    try:
        env = make_env("Test/Drawn-v0", render_mode="rgb_array")
        wrapped = SequenceToEntities(env, capacity=5)
        assert wrapped.render_mode == mode
    finally:
        del gym.registry["Test/Drawn-v0"]
    assert [str(w.message) for w in recwarn if "render_mode" in str(w.message)] == []


def test_a_wrong_argument_is_still_named():
    gym.register("Test/Drawn-v0", Crowd)
    try:
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            make_env("Test/Drawn-v0", render_mode="rgb_array", colour="red")
    finally:
        del gym.registry["Test/Drawn-v0"]


def test_another_mode_is_passed_on_as_it_is(recwarn):
    gym.register("Test/Drawn-v0", Terminal)
    try:
        assert make_env("Test/Drawn-v0", render_mode="ansi").render_mode == "ansi"
        make_env("Test/Drawn-v0", render_mode="human")
    finally:
        del gym.registry["Test/Drawn-v0"]
    assert any("not in the possible render_modes" in str(w.message) for w in recwarn)


def test_each_copy_of_a_slow_family_gets_a_process(crowd, monkeypatch):
    class Processes(DummyVecEnv):
        """Stands for processes, which would not know the family that this test invents."""

        def __init__(self, env_fns, **limits):
            super().__init__(env_fns)

    monkeypatch.setattr(copies, "SupervisedVecEnv", Processes)
    arguments = {"env_kwargs": {"capacity": 7}, "seed": 0}
    many = make_vec_env(crowd, 2, **arguments)
    assert isinstance(many, Processes)
    assert many.reset()["items"].shape == (2, 7, 3)
    assert not isinstance(make_vec_env(crowd, 1, **arguments), Processes)
    assert not isinstance(make_vec_env(crowd, 2, vec_env_cls=DummyVecEnv, **arguments), Processes)


@pytest.mark.parametrize(
    ("package", "extra"), [("highway_env", "highway"), ("minigrid", "minigrid"), ("minatar", "minatar")]
)
def test_a_missing_package_names_its_extra(package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match="needs") as error:
        make_env(f"{package}:Some-v0")
    assert str(error.value) == (f"'{package}:Some-v0' needs {package}; install it with: pip install 'attn_rl[{extra}]'")


def test_another_missing_package_is_named_with_where_to_start():
    with pytest.raises(ValueError, match=r"there is no module 'no_such_package'; .*start in the folder that holds it"):
        make_vec_env("no_such_package:Some-v0")
