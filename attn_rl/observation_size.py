"""What observations may cost in bytes, found out before the memory is filled."""

from __future__ import annotations

import math
import os

import gymnasium as gym
from gymnasium import spaces

MAX_OBSERVATION = 1 << 26
"""Bytes of one environment's observation: a million entities of fifteen features."""
MAX_OBSERVATIONS = 1 << 32
"""Bytes of the observations of all environments side by side."""
FEWER = "fewer slots (capacity) or features"


def check_slots(name: str, capacity: int, width: int) -> None:
    """Raise where a block of ``capacity`` rows of ``width`` float32 features costs too much; nothing is made yet.

    Raises:
        ValueError: naming the block, its bytes and what may be smaller.
    """
    size = capacity * (4 * width + 1)
    if size > MAX_OBSERVATION:
        raise ValueError(
            f"{name!r}: capacity={capacity:,} rows of {width} features are {size:,} bytes an observation; expected at "
            f"most {MAX_OBSERVATION:,}: {FEWER}"
        )


def observation_bytes(space: gym.Space[object]) -> int:
    """Bytes of one observation; parts without a shape count nothing."""
    if isinstance(space, spaces.Dict):
        return sum(observation_bytes(part) for part in space.spaces.values())
    shape, dtype = space.shape, space.dtype
    return 0 if shape is None or dtype is None else math.prod(shape) * dtype.itemsize


def check_observations(space: gym.Space[object], n_envs: int) -> None:
    """Raise where observations cost too much, one or those of all environments.

    Args:
        space: of one environment.
        n_envs: environments side by side.

    Raises:
        ValueError: with the bytes and what may be smaller.
    """
    one = observation_bytes(space)
    if one > MAX_OBSERVATION:
        raise ValueError(f"an observation is {one:,} bytes; expected at most {MAX_OBSERVATION:,}: {FEWER}")
    if one * n_envs > MAX_OBSERVATIONS:
        raise ValueError(
            f"n_envs={n_envs:,} observations of {one:,} bytes are {one * n_envs:,}; expected at most "
            f"{MAX_OBSERVATIONS:,}: fewer environments, {FEWER}"
        )


def check_rollout(space: gym.Space[object], n_envs: int, n_steps: int) -> None:
    """Raise where the observations of one rollout do not fit into this machine's memory.

    Raises:
        ValueError: with the bytes, the memory and what may be smaller.
    """
    size, memory = observation_bytes(space) * n_envs * n_steps, physical_memory()
    if size > memory:
        raise ValueError(
            f"a rollout of n_steps={n_steps:,} x n_envs={n_envs:,} observations of {observation_bytes(space):,} bytes "
            f"is {size:,} bytes, this machine has {memory:,.0f}: fewer steps, environments, {FEWER}"
        )


def physical_memory() -> float:
    """Bytes of this machine's memory; infinite where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no such question on this system
        return math.inf
