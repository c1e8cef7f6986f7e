"""What a file may say about the environment to build: known arguments, as data. Nothing in it may name code.

Environments take class paths, file names and callables; a run folder may come from a stranger. So arguments out of a
file are numbers, truth values and null for parameters that the environment's constructor has, and words that the
constructor declares (``Literal``) or the family lists. Whoever trusts more repeats it on the command line.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from attn_rl.adapters.families import FAMILIES, family_of, find_spec, plain_id

TRUSTED_MODULES = ("attn_rl", *FAMILIES)
"""Modules that an environment id in a file may import; others must have been imported by the user."""

MAX_NUMBER = 4096
"""Largest whole number among an environment's arguments: sizes are what they mostly are."""

MAX_PARTS = 1000
"""Most values in an environment's arguments."""

MAX_SLOTS = 1 << 22
"""Environments times the largest whole number of their arguments."""

MAX_PROCESSES = 256
"""Environments that get a process each: of a slow family, or on request."""

GYMNASIUM = ("max_episode_steps",)
"""Arguments of ``gymnasium.make`` that are data."""

NOT_DATA = ("self", "env", "num_envs", "render_mode", "mission_space")
"""Parameters of constructors that no argument of a run may set."""


def refuse_stored_arguments(
    env_id: str,
    env_kwargs: Mapping[str, object],
    n_envs: int = 1,
    repeated: Collection[str] = (),
    processes: bool = False,
) -> None:
    """Raise where building an environment out of a file would do more than fill known parameters with data.

    Args:
        env_id: Gymnasium id, out of the file too; its module is imported here (:func:`refuse_foreign_module` first).
        env_kwargs: its arguments out of the file.
        n_envs: how many the file asks for.
        repeated: names of arguments that the user repeated.
        processes: whether the file asks for a process each, as slow families get anyway.

    Raises:
        ValueError: naming what is refused and how to allow it.
    """
    spec = find_spec(env_id)
    family = family_of(spec)
    given = {name: value for name, value in env_kwargs.items() if name not in repeated}
    if given:
        known, listed = _parameters(spec), family.words if family is not None else {}
        for name, value in given.items():
            if name not in known:
                _refuse(name, value, f"it has no argument of this name, but {sorted(known)}", env_id)
            why = why_no_data(value, listed, {name: known[name]}, name)
            if why is not None:
                _refuse(name, value, why, env_id)
    largest = max([1, *(x for _, x in _leaves(given, "") if type(x) is int)])
    slow = processes or (family is not None and family.slow)
    most = MAX_PROCESSES if slow else MAX_SLOTS // largest
    if not 1 <= n_envs <= most:
        raise ValueError(
            f"the file asks for n_envs={n_envs:,} environments {env_id!r}; expected 1 to {most:,}. If you trust it, "
            "pass env=, or start a new run with --load"
        )


def refuse_foreign_module(env_id: str) -> None:
    """Raise where an environment id out of a file would import a module that the user did not.

    Raises:
        ValueError: with what to do.
    """
    module = plain_id(env_id).rpartition(":")[0]
    if module and module not in TRUSTED_MODULES and module not in sys.modules:
        raise ValueError(
            f"the file names the environment {env_id!r}: making it imports {module!r}, which runs that module's code. "
            f"If you trust it, import {module} first or pass env=; on the command line, repeat --env {env_id}"
        )


def why_no_data(
    value: object, listed: Mapping[str, Collection[object]], declared: Mapping[str, Collection[object]], name: str
) -> str | None:
    """Why a JSON value out of a file is more than data; None: it is not.

    Args:
        value: numbers, truth values, null, known words, and lists and objects of them.
        listed: key, however deep -> all that may stand there.
        declared: key -> words that may stand there beside numbers, truth values and null.
        name: of the argument.
    """
    for count, (key, leaf) in enumerate(_leaves(value, name)):
        if count >= MAX_PARTS:
            return f"it holds more than {MAX_PARTS} values"
        words = listed.get(key, declared.get(key, ()))
        if key in listed or isinstance(leaf, str):
            if leaf not in words:
                expected = f"; expected one of {sorted(map(str, words))}" if words else ""
                return f"{key or 'a key'} is {str(leaf)[:80]!r}, which might name code or a file{expected}"
        elif isinstance(leaf, (int, float)) and not abs(leaf) <= (MAX_NUMBER if isinstance(leaf, int) else 1e9):
            return f"{key} is {leaf}; expected at most {MAX_NUMBER:,}"
    return None


def _leaves(value: object, key: str) -> Iterator[tuple[str, object]]:
    """Every value that is no list or object, and the key that it stands under; keys themselves as ``("", key)``."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                yield "", name
            yield from _leaves(each, name)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _leaves(each, key)
    else:
        yield key, value


def _parameters(spec: EnvSpec) -> dict[str, set[object]]:
    """Arguments that environments of a specification take, and the words declared for each."""
    found: dict[str, set[object]] = {name: set() for name in GYMNASIUM}
    family = family_of(spec)
    entries = [entry for entry in (spec.entry_point, spec.vector_entry_point) if entry is not None]
    try:
        makers: list[object] = [load_env_creator(entry) if isinstance(entry, str) else entry for entry in entries]
    except (ImportError, gym.error.Error) as error:
        raise ValueError(
            f"the file gives the environment {spec.id!r} arguments, and it cannot be looked at: {error}"
        ) from error
    for maker in [*makers, *([family.load()] if family is not None else [])]:
        for function in _constructors(maker):
            found |= {name: words for name, words in _declared(function).items() if name not in NOT_DATA}
    return found


def _constructors(maker: object) -> Iterator[object]:
    """The constructor, and those of base classes that it hands its ``**kwargs`` to."""
    if not inspect.isclass(maker):
        yield maker
        return
    for cls in maker.__mro__:
        constructor = vars(cls).get("__init__")
        if constructor is None or cls in (object, gym.Env, gym.Wrapper):
            continue
        yield constructor
        kinds = {p.kind for p in inspect.signature(constructor).parameters.values()}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return


def _declared(function: Any) -> dict[str, set[object]]:
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):  # an annotation that only a type checker can read declares no words
        hints = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [p.name for p in inspect.signature(function).parameters.values() if p.kind in named]
    return {name: set(_words(hints.get(name))) for name in parameters}


def _words(hint: object) -> Iterator[object]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for inner in get_args(hint):
            yield from _words(inner)


def _refuse(name: str, value: object, why: str, env_id: str) -> None:
    text = repr(value) if len(repr(value)) <= 120 else f"{repr(value)[:117]}..."
    raise ValueError(
        f"the file gives the environment {env_id!r} the argument {name}={text}: {why}. If you trust it, repeat it: "
        f'--env-kwargs {name} "..." on the command line, or pass env=make_vec_env(...)'
    )
