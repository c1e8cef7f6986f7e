"""Environments as the runners step them: native batches where there are some, else copies side by side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from attn_rl.adapters import family_of, find_spec, make_env
from attn_rl.entities import env_metadata
from attn_rl.vec_envs.native import make_native
from attn_rl.wrappers.memory import MemoryOptions, MemoryWrapper

MEMORY = "attn_rl.memory"
"""Key of what is remembered among the arguments of the environment; no argument of Python has a dot in its name."""


def make_batch(env_id: str, n_envs: int, env_kwargs: Mapping[str, Any], memory: MemoryOptions | None) -> VectorEnv:
    """A vector environment in which a step that ends an episode also begins the next one (``SAME_STEP``).

    Args:
        env_id: Gymnasium id; one of a known family gets its wrapper.
        n_envs: environments side by side.
        env_kwargs: arguments of the environment.
        memory: what to remember of the past; None = nothing.
    """
    spec = find_spec(env_id)
    native = None if memory is not None or family_of(spec) else make_native(spec, n_envs, env_kwargs)
    copies: list[Any] = [partial(make_one, env_id, env_kwargs, memory) for _ in range(n_envs)]
    env: Any = SyncVectorEnv(copies, autoreset_mode=AutoresetMode.SAME_STEP) if native is None else native
    for name in env_metadata(env).get("evaluation_only", ()):  # costly reports that training has no use for
        env.set_attr(name, False)
    return env  # type: ignore[no-any-return]


def make_one(env_id: str, env_kwargs: Mapping[str, Any], memory: MemoryOptions | None = None) -> gym.Env:
    """A single environment; to read spaces and metadata, to draw, or to play."""
    env = make_env(env_id, render_mode="rgb_array", **env_kwargs)
    return env if memory is None else MemoryWrapper(env, **memory.as_dict())


def env_config(env_kwargs: Mapping[str, Any], memory: MemoryOptions | None) -> dict[str, Any]:
    """What RLlib hands to the runners: the environment's arguments, and what is remembered, if anything."""
    return {**env_kwargs, **({} if memory is None else {MEMORY: memory.as_dict()})}


def split_env_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], MemoryOptions | None]:
    """What :func:`env_config` has put together."""
    env_kwargs = dict(config)
    memory = env_kwargs.pop(MEMORY, None)
    return env_kwargs, None if memory is None else MemoryOptions(**memory)
