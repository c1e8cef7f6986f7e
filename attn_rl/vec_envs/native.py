"""Native batches: ids that are registered with many games in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, VectorizeMode
from gymnasium.vector import AutoresetMode, VectorEnv


def make_native(spec: EnvSpec, n_envs: int, env_kwargs: Mapping[str, object]) -> VectorEnv | None:
    """The batch that an id has, or None: nothing is registered, or it does not reset in the step that ends an episode.

    ``gym.make_vec`` itself cannot be asked: without an entry point it silently loops over single environments.
    """
    if spec.vector_entry_point is None or spec.additional_wrappers:
        return None
    kwargs: dict[str, Any] = {"render_mode": "rgb_array", **env_kwargs}
    env = gym.make_vec(spec, num_envs=n_envs, vectorization_mode=VectorizeMode.VECTOR_ENTRY_POINT, **kwargs)
    if env.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP:
        return env
    env.close()
    return None
