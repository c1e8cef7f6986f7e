"""Settings that follow from the number of environments, where there is no preset and a user says nothing else.

Each rule was earned on the tasks of ``benchmarks/exam.py`` (docs/tuning.md).
"""

from __future__ import annotations

FEW_ENVIRONMENTS = 8
"""So few environments are played side by side where steps are dear."""
EPOCHS, MANY_EPOCHS = 4, 10
"""Passes over a rollout that is cheap, and over one that is dear."""


def adapted(n_envs: int) -> dict[str, object]:
    """The settings that the rules choose, by name."""
    return {"n_epochs": MANY_EPOCHS if n_envs <= FEW_ENVIRONMENTS else EPOCHS}


def reasons(n_envs: int) -> dict[str, str]:
    """A line for every setting that is not what it would be with many environments, by its name."""
    if n_envs > FEW_ENVIRONMENTS:
        return {}
    few = "1 environment" if n_envs == 1 else f"{n_envs} environments"
    change = f"{MANY_EPOCHS} epochs instead of {EPOCHS}: with {few} ({FEW_ENVIRONMENTS} or fewer)"
    return {"n_epochs": f"{change} steps are dear, so each is learned from more."}
