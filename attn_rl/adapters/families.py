"""Which environment belongs to which family, and the wrapper that makes its observation fit."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator


@dataclass(frozen=True)
class Family:
    """Environments of one package.

    Attributes:
        extra: the optional dependency of attn_rl that installs it.
        wrapper: ``module:class`` of the wrapper that gives it entities.
        slow: a step takes so long that each environment gets a process of its own.
        register: ``module:function`` that registers the ids, where importing the package does not.
        words: key in the arguments, however deep -> all that a run's file may give there; nothing where the package
            takes names of code or files. Texts under other keys are refused out of a file anyway.
    """

    extra: str
    wrapper: str
    slow: bool = False
    register: str | None = None
    words: Mapping[str, Collection[object]] = field(default_factory=dict)

    def load(self) -> type[gym.Wrapper]:
        """Import the wrapper."""
        wrapper: type[gym.Wrapper] = _import(self.wrapper)
        return wrapper


def _import(place: str) -> Any:
    """What ``module:name`` stands for."""
    module, _, name = place.partition(":")
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
    "minatar": Family(
        "minatar", "attn_rl.adapters.minatar:MinAtarEntities", register="attn_rl.adapters.minatar:register"
    ),
    "minigrid": Family("minigrid", "attn_rl.adapters.minigrid:MiniGridEntities"),
}
"""Top-level package -> family."""


OURS = "AttnRL/"
"""Namespace of this project's ids, which importing attn_rl registers."""


def plain_id(env_id: str) -> str:
    """The id without a module that it does not need: ids of this project once had ``envs:`` in front."""
    return env_id.removeprefix("envs:") if env_id.startswith(f"envs:{OURS}") else env_id


def find_spec(env_id: str) -> EnvSpec:
    """Return the registered specification of an id, after importing the module that the id names.

    A module ``envs`` in front of one of our ids is not imported: it may be a user's own.

    Raises:
        ValueError: no such module or environment, with the nearest one that there is, or the package of a known family
            is not installed.
    """
    module, colon, name = plain_id(env_id).rpartition(":")
    if colon:
        import_named_module(module, env_id)
        family = FAMILIES.get(module.split(".")[0])
        if family is not None and family.register is not None:
            _import(family.register)()
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        raise ValueError(f"there is no environment {env_id!r}; {_nearest_id(module, name)}") from error


def _nearest_id(module: str, name: str) -> str:
    near = difflib.get_close_matches(name, gym.registry, n=1, cutoff=0.7)
    if near:
        return f"did you mean {near[0] if near[0].startswith(OURS) or not module else f'{module}:{near[0]}'}?"
    if module:
        return f"importing {module} registers nothing like it"
    return "there is nothing like it; the module that registers one goes in front, as in my_module:My-v0"


def import_named_module(module: str, name: str) -> None:
    """Import the module that a user named in front of a colon.

    Args:
        module: to import.
        name: all that the user typed, for the message.

    Raises:
        ValueError: there is no such module, or it needs one that is not there.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{name!r}: {module!r} is no name of a module; expected module:name")
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing in FAMILIES:
            extra = FAMILIES[missing].extra
            raise ValueError(f"{name!r} needs {missing}; install it with: pip install 'attn_rl[{extra}]'") from error
        if missing != module and not module.startswith(f"{missing}."):
            raise ValueError(f"{name!r}: the module {module!r} imports {missing!r}, which is not installed") from error
        short = name.rpartition(":")[2]
        near = [short] if short in gym.registry else difflib.get_close_matches(module, FAMILIES, n=1)
        hint = f"did you mean {near[0]!r}? If not, install it" if near else "install it"
        raise ValueError(
            f"{name!r}: there is no module {missing!r}; {hint}, or start in the folder that holds it"
        ) from error


def family_of(spec: EnvSpec) -> Family | None:
    """Return the family of an environment's class; None if its observation needs no wrapper."""
    entry = spec.entry_point
    module = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return FAMILIES.get(module.split(".")[0].split(":")[0])


def make_env(env_id: str, **kwargs: object) -> gym.Env:
    """Make an environment; one of a known family gets the family's wrapper.

    Args:
        env_id: a Gymnasium id, e.g. ``"highway_env:highway-fast-v0"``.
        kwargs: arguments of the environment, and of the family's wrapper (``capacity``, ...).
            ``render_mode="rgb_array"`` is left out where the environment draws no such pictures.

    Raises:
        ValueError: the package is not installed, or the wrapper cannot serve this environment.
    """
    spec = find_spec(env_id)
    if kwargs.get("render_mode") == "rgb_array" and not draws(spec):
        del kwargs["render_mode"]
    family = family_of(spec)
    if family is None:
        return _make(spec, kwargs)
    wrapper = family.load()
    known = list(inspect.signature(wrapper.__init__).parameters)[2:]  # after self and env
    own = {name: kwargs.pop(name) for name in known if name in kwargs}
    return wrapper(_make(spec, kwargs), **own)


def draws(spec: EnvSpec) -> bool:
    """Whether the class of an environment offers ``render_mode="rgb_array"``; True where a function makes it."""
    entry = spec.entry_point
    metadata = getattr(load_env_creator(entry) if isinstance(entry, str) else entry, "metadata", None)
    modes = metadata.get("render_modes") if isinstance(metadata, Mapping) else None
    return modes is None or "rgb_array" in modes


def _make(spec: EnvSpec, kwargs: dict[str, Any]) -> gym.Env:
    """``gymnasium.make``; without the render mode where the constructor does not take it, as SB3 does."""
    try:
        return gym.make(spec, **kwargs)
    except TypeError:
        if kwargs.get("render_mode") != "rgb_array":
            raise
    return gym.make(spec, **{name: value for name, value in kwargs.items() if name != "render_mode"})
