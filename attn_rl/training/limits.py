"""How large a setting may be: what nobody means, and what would fill the memory before anything else complains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIMITS = {
    "d_model": 8192,
    "n_heads": 1024,
    "n_layers": 64,
    "n_steps": 1 << 20,
    "batch_size": 1 << 24,
    "n_epochs": 1000,
    "n_envs": 1 << 16,
    "total_timesteps": 10**12,
    "seed": (1 << 32) - 1,
    "threads": 1024,
    "save_every": 10**9,
    "keep": 10**6,
    "worker_restarts": 10**6,
    "worker_timeout": 10**6,
    "eval_episodes": 10**7,
    "record_every": 10**9,
}
"""Setting or argument of a run -> the largest value."""

MAX_HIDDEN_LAYERS, MAX_HIDDEN_WIDTH = 16, 8192
"""Of ``net_arch``."""

MAX_WEIGHTS = 1 << 28
"""Weights of the blocks of a network, 8 x d_model^2 x n_layers: a gigabyte."""

MAX_ROLLOUT = 1 << 26
"""Steps of a rollout over all environments."""


def refuse_excess(values: Mapping[str, Any]) -> None:
    """Raise where a setting, or the product of two, is larger than anything sensible.

    Args:
        values: settings and arguments of a run by name; others are ignored.

    Raises:
        ValueError: naming the setting, what was got and what is expected.
    """
    for name, most in LIMITS.items():
        value = values.get(name)
        if isinstance(value, (int, float)) and not value <= most:
            raise ValueError(f"{name}={value:,} is too large; expected at most {most:,}")
    widths = values.get("net_arch") or ()
    if len(widths) > MAX_HIDDEN_LAYERS or any(width > MAX_HIDDEN_WIDTH for width in widths):
        raise ValueError(
            f"net_arch={widths} is too large; expected at most {MAX_HIDDEN_LAYERS} layers of at most "
            f"{MAX_HIDDEN_WIDTH:,} units"
        )
    _refuse_product(values, {"d_model": 2, "n_layers": 1}, MAX_WEIGHTS // 8)
    _refuse_product(values, {"n_envs": 1, "n_steps": 1}, MAX_ROLLOUT)


def _refuse_product(values: Mapping[str, Any], powers: Mapping[str, int], most: int) -> None:
    total = 1
    for name, power in powers.items():
        total *= values.get(name, 1) ** power
    if total > most:
        got = ", ".join(f"{name}={values[name]:,}" for name in powers if name in values)
        rule = " x ".join(name if power == 1 else f"{name}^{power}" for name, power in powers.items())
        raise ValueError(f"{got} are too large together; expected {rule} of at most {most:,}, got {total:,}")
