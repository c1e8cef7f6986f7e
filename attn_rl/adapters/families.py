"""Which environment belongs to which family, and the wrapper that makes its observation fit."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec


@dataclass(frozen=True)
class Family:
    """Environments of one package.

    Attributes:
        extra: the optional dependency of attn_rl that installs it.
        wrapper: ``module:class`` of the wrapper that gives it entities.
        slow: a step takes so long that each environment gets a process of its own.
        words: key in the arguments, however deep -> all that a run's file may give there; nothing where the package
            takes names of code or files. Texts under other keys are refused out of a file anyway.
    """

    extra: str
    wrapper: str
    slow: bool = False
    words: Mapping[str, Collection[Any]] = field(default_factory=dict)

    def load(self) -> type[gym.Wrapper]:
        """Import the wrapper."""
        module, _, name = self.wrapper.partition(":")
        return getattr(importlib.import_module(module), name)


HIGHWAY_WORDS = {
    "type": ("Kinematics", "DiscreteMetaAction", "DiscreteAction", "ContinuousAction"),
    "features": (
        *("presence", "x", "y", "vx", "vy", "heading", "cos_h", "sin_h", "cos_d", "sin_d"),
        *("long_off", "lat_off", "ang_off"),
    ),
    "order": ("sorted", "shuffled"),
    "destination": ("o0", "o1", "o2", "o3", None),
    "other_vehicles_type": (),
    "class_path": (),
}

FAMILIES = {
    "highway_env": Family("highway", "attn_rl.adapters.highway:HighwayEntities", slow=True, words=HIGHWAY_WORDS),
    "minigrid": Family("minigrid", "attn_rl.adapters.minigrid:MiniGridEntities"),
}
"""Top-level package -> family."""


def find_spec(env_id: str) -> EnvSpec:
    """Return the registered specification of an id, after importing the module that the id names.

    Raises:
        ValueError: the package of a known family is not installed.
    """
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in FAMILIES:
            raise
        extra = FAMILIES[error.name].extra
        raise ValueError(f"{env_id!r} needs {error.name}; install it with: pip install 'attn_rl[{extra}]'") from error
    return gym.spec(name)


def family_of(spec: EnvSpec) -> Family | None:
    """Return the family of an environment's class; None if its observation needs no wrapper."""
    entry = spec.entry_point
    module = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return FAMILIES.get(module.split(".")[0].split(":")[0])


def make_env(env_id: str, **kwargs: Any) -> gym.Env:
    """Make an environment; one of a known family gets the family's wrapper.

    Args:
        env_id: a Gymnasium id, e.g. ``"highway_env:highway-fast-v0"``.
        kwargs: arguments of the environment, and of the family's wrapper (``capacity``, ...).

    Raises:
        ValueError: the package is not installed, or the wrapper cannot serve this environment.
    """
    spec = find_spec(env_id)
    family = family_of(spec)
    if family is None:
        return gym.make(spec, **kwargs)
    wrapper = family.load()
    known = list(inspect.signature(wrapper.__init__).parameters)[2:]  # after self and env
    own = {name: kwargs.pop(name) for name in known if name in kwargs}
    return wrapper(gym.make(spec, **kwargs), **own)
