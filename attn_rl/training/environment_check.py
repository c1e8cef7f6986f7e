"""Whether an environment can be made as it was asked for, found out before anything is built on it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from attn_rl.adapters import family_of, find_spec, make_env
from attn_rl.observation_size import check_observations
from attn_rl.training.agent import check_actions
from attn_rl.training.ranges import did_you_mean
from attn_rl.training.run.json_form import WrongForm, from_json

SET_BY_US = ("num_envs", "render_mode")
"""Arguments of environments that ``make_vec_env`` sets itself."""
WRONG_ARGUMENT = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
)
PLAIN_TYPES = frozenset({bool, int, float, str, NoneType})


def check_environment(env_id: str, env_kwargs: Mapping[str, object]) -> None:
    """Make one environment and close it again.

    Raises:
        ValueError: there is no such environment, an argument that it does not know or cannot work with, or actions that
            PPO cannot take.
    """
    env = make_checked(env_id, env_kwargs)
    env.close()
    check_observations(env.observation_space, 1)
    check_actions(env.action_space)


def make_checked(env_id: str, env_kwargs: Mapping[str, object], **gymnasium: object) -> gym.Env:
    """Make one environment, with its family's wrapper.

    Args:
        env_id: of the environment.
        env_kwargs: its arguments.
        gymnasium: arguments of ``gymnasium.make`` itself.

    Raises:
        ValueError: there is no such environment, or an argument that it does not know or cannot work with.
    """
    spec = find_spec(env_id)
    known = arguments(spec)
    for name in env_kwargs:
        if name in SET_BY_US:
            raise ValueError(f"--env-kwargs {name}: it is set for you; leave it out")
        if known is not None and name not in known:
            raise ValueError(f"{env_id} takes no argument {name!r}; {did_you_mean(name, known)}")
    try:
        return make_env(env_id, **gymnasium, **env_kwargs)
    except WRONG_ARGUMENT as error:
        if not env_kwargs:
            raise
        reason = str(error).partition(" was raised from the environment creator")[0]
        if isinstance(error, ValueError) and any(name in reason for name in env_kwargs):
            raise
        if (wrong := _wrong_type(spec, env_kwargs)) is not None:
            raise ValueError(f"{env_id}: {wrong}") from error
        given = ", ".join(f"{name}={value!r}" for name, value in env_kwargs.items())
        raise ValueError(f"{env_id} cannot be made with {given}: {reason or type(error).__name__}") from error


def arguments(spec: EnvSpec) -> list[str] | None:
    """The names of the arguments that an environment takes; None where it does not say."""
    family = family_of(spec)
    own = _parameters(family.load().__init__)[2:] if family is not None else []  # after self and env
    for entry in (spec.entry_point, spec.vector_entry_point):
        made_by: Any = load_env_creator(entry) if isinstance(entry, str) else entry
        if made_by is not None:
            names = _parameters(made_by)
            if "**" not in names:
                return [name for name in (*names, *own) if name not in SET_BY_US]
    return None


def _wrong_type(spec: EnvSpec, env_kwargs: Mapping[str, object]) -> str | None:
    """What an environment's constructor says of the first argument that is of another type than it declares."""
    for entry in filter(None, (spec.entry_point, spec.vector_entry_point)):
        made_by: Any = load_env_creator(entry) if isinstance(entry, str) else entry
        try:
            hints = get_type_hints(made_by.__init__ if inspect.isclass(made_by) else made_by)
        except (NameError, TypeError):  # annotations that only a type checker can read
            continue
        for name, value in env_kwargs.items():
            hint = hints.get(name)
            if PLAIN_TYPES.issuperset(get_args(hint) or [hint]):
                try:
                    from_json(value, hint, name)
                except WrongForm as wrong:
                    return str(wrong)
    return None


def _parameters(made_by: Callable[..., object]) -> list[str]:
    parameters = inspect.signature(made_by).parameters.values()
    return ["**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters]
