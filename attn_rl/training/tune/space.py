"""What a sweep searches: settings by name, and the values that each may take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attn_rl.training.policies import find_policy
from attn_rl.training.ranges import did_you_mean


class LogRange(NamedTuple):
    """Numbers from ``low`` to ``high``, all orders of magnitude alike."""

    low: float
    high: float


SPACE: dict[str, LogRange | tuple[object, ...]] = {
    "learning_rate": LogRange(3e-4, 1e-2),
    "ent_coef": LogRange(1e-4, 3e-2),
    "gamma": (0.9, 0.95, 0.97, 0.99),
    "gae_lambda": (0.8, 0.9, 0.95, 0.98),
    "n_steps": (16, 32, 64, 128),
    "n_epochs": (2, 4, 8, 10),
    "clip_range": (0.1, 0.2, 0.3),
    "normalize_advantage": (True, False),
    "d_model": (16, 32, 64),
    "n_heads": (1, 2, 4),
    "n_layers": (1, 2, 3),
}
"""Fields of :class:`attn_rl.training.presets.Settings` that can be searched."""

SEARCHED = ("learning_rate", "ent_coef")
"""Those that are, unless told otherwise: the two that matter most, so that few trials say much."""


def search_space(names: Sequence[str], policy: str) -> dict[str, LogRange | tuple[object, ...]]:
    """The values of the settings with these names.

    Raises:
        ValueError: one that cannot be searched, or that the policy does not take.
    """
    without = find_policy(policy).without
    for name in names:
        if name not in SPACE:
            raise ValueError(f"--search {name}: cannot be searched; {did_you_mean(name, list(SPACE))}")
        if name in without:
            raise ValueError(f"--search {name}: policy {policy!r} takes no {name}; leave it out")
    if not names:
        raise ValueError(f"--search names no setting; choose some of {', '.join(SPACE)}")
    return {name: SPACE[name] for name in names}
