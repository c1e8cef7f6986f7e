"""Every private name of Ray that attn_rl uses from outside of Ray's classes, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.tune.registry import ENV_CREATOR, _global_registry


def registered_env(name: object) -> Callable[[Any], Any] | None:
    """What ``ray.tune.register_env`` was given for a name; None where there is no such name."""
    known = isinstance(name, str) and _global_registry.contains(ENV_CREATOR, name)
    return _global_registry.get(ENV_CREATOR, name) if known else None


def has_own_connectors(config: AlgorithmConfig) -> bool:
    """Whether the user gave connectors between environments and module."""
    return config._env_to_module_connector is not None or config._module_to_env_connector is not None
