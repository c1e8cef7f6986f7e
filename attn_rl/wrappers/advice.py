"""Which wrapper helps an observation space whose observations have no fixed shape."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from attn_rl.edge_keys import is_edge_key
from attn_rl.type_names import with_article

IN_PLACE = "gymnasium.wrappers.TransformObservation(env, function, observation_space)"


def require_fixed_shapes(space: gym.Space[object]) -> None:
    """Raise where observations cannot be stacked into one array per key, as every vector environment of SB3 does.

    Args:
        space: of one environment.

    Raises:
        ValueError: a Sequence, Graph, Tuple, Text, ... or a Dict inside a Dict, with the wrapper that helps.
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    for key, part in parts.items():
        if wrapper := find_wrapper(part, key):
            what = "the observation" if key is None else f"observation {key!r}"
            raise ValueError(
                f"{what} is {part}, which does not fit into one array. {wrapper} "
                "make_vec_env takes a function that returns the wrapped environment"
            )


def find_wrapper(space: gym.Space[object], key: str | None = None) -> str:
    """Say in a sentence which wrapper gives one part of an observation a fixed shape; empty: it has one.

    Args:
        space: the part.
        key: of it; None: the part is the whole observation.
    """
    name = repr(key or "items")
    if isinstance(space, spaces.Sequence):
        found = f"attn_rl.wrappers.SequenceToEntities(env, {name}, capacity=...)"
    elif isinstance(space, spaces.Graph):
        found = f"attn_rl.wrappers.GraphToEntities(env, {name}, capacity=...)"
    elif isinstance(space, spaces.Dict | spaces.Tuple):
        found = "attn_rl.wrappers.FlattenDict(env), which gives each part a key of its own at the top level"
    elif isinstance(space, spaces.Text):
        found = f"attn_rl.wrappers.TextToEntities(env, {name}, vocabulary=...)"
    elif not space.shape and not isinstance(space, spaces.Box | spaces.Discrete):
        found = f"{IN_PLACE} with a function that turns it into a Box"
    else:
        return ""
    return f"Wrap the environment: {found}."


def find_categories(part: gym.Space[object]) -> str:
    """Say in a sentence how whole numbers that are names become categories; empty: ``part`` is no such numbers."""
    is_discrete = isinstance(part, spaces.Discrete | spaces.MultiDiscrete)
    return "Wrap the environment: attn_rl.wrappers.DiscreteToBox(env)." if is_discrete else ""


def find_rows(space: gym.Space[object], ignore: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Say of an observation without entities what it is, and how its things, if it holds any, become rows.

    Args:
        space: of the observation.
        ignore: keys of it that nobody looks at.

    Returns:
        What it is, and one sentence of advice that names a wrapper; of a Dict, for each part that is neither entities
        nor ego, or for all of it. Empty: it has rows, and no such part.
    """
    if not isinstance(space, spaces.Dict):
        what, advice = _find_rows_of_part(space, None)
        return [(f"the observation is {what}", advice)]
    tables = [key for key, part in space.items() if isinstance(part, spaces.Box) and len(part.shape) == 2]
    flags = {"action_mask", *ignore, *(f"{key}_present" for key in tables)}
    strange = [
        (f"observation {key!r} is {what}", f"{advice}, or leave the key out: {_without(space, key)}")
        for key, part in space.items()
        if not (key in flags or is_edge_key(key) or (isinstance(part, spaces.Box) and len(part.shape) in (1, 2)))
        for what, advice in [_find_rows_of_part(part, key)]
    ]
    if strange or tables:
        return strange
    columns = [key for key in space if key not in flags]
    arrays = "attn_rl.wrappers.ArraysToEntities(env, 'items', keys=[...])"
    what = f"the observation is a Dict of vectors, {columns}, without a table of rows (N,F)"
    join = f"where some of them are arrays with one entry per thing, join them: {arrays}"
    return [(what, f"{join}; otherwise there is nothing to attend to, and MultiInputPolicy of Stable-Baselines3 fits")]


def _without(space: spaces.Dict, key: str) -> str:
    return f"gymnasium.wrappers.FilterObservation(env, {[other for other in space if other != key]})"


def _find_rows_of_part(part: gym.Space[object], key: str | None) -> tuple[str, str]:
    if wrapper := find_wrapper(part, key):
        several = isinstance(part, spaces.Dict | spaces.Tuple)
        what = f"of {len(part)} part{'s' * (len(part) != 1)}" if several else "without a fixed shape"  # type: ignore[arg-type]
        return f"{with_article(type(part))} {what}", wrapper[0].lower() + wrapper[1:].removesuffix(".")
    shape = part.shape or ()
    numbers = " x ".join(map(str, shape))
    if isinstance(part, spaces.Box) and len(shape) >= 2:
        what = f"a picture or grid of {numbers} numbers"
        named = repr(key or "items")
        rows = f"attn_rl.wrappers.ImageToEntities(env, {named}, patch=...)"
        if np.issubdtype(part.dtype, np.integer):
            rows = f"attn_rl.wrappers.GridToEntities(env, {named}) where its numbers say what is in a cell, else {rows}"
        rows += f", or {IN_PLACE} with a function that lists the things in it, one row (N,F) each"
        return what, rows if key else f"{rows}; for the picture itself, CnnPolicy of Stable-Baselines3 fits"
    if isinstance(part, spaces.Box) and shape:
        rows = "gymnasium.wrappers.ReshapeObservation(env, (N, F))"
        bare = "" if key else "; otherwise there is nothing to attend to, and MlpPolicy of Stable-Baselines3 fits"
        return (
            f"one vector of {numbers} numbers",
            f"where it lists several things one after the other, use {rows}{bare}",
        )
    if find_categories(part):
        return f"{part}, whole numbers that are names", "use attn_rl.wrappers.DiscreteToBox(env)"
    numbers_or_rows = "turns it into numbers (one-hot)" if key else "returns one row (N,F) for each thing it tells of"
    return f"{part}, which is no set of things", f"use {IN_PLACE} with a function that {numbers_or_rows}"
