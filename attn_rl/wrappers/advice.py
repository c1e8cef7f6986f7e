"""Which wrapper helps an observation space whose observations have no fixed shape."""

from __future__ import annotations

import gymnasium as gym
from gymnasium import spaces

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
        found = f"{IN_PLACE} with a function that gives each part a key of its own at the top level"
    elif not space.shape and not isinstance(space, spaces.Box | spaces.Discrete):
        found = f"{IN_PLACE} with a function that turns it into a Box"
    else:
        return ""
    return f"Wrap the environment: {found}."
