"""Read the CSV files of the learning benchmark: one row per trained agent and per entity count it was evaluated on."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Evaluated:
    """One agent on one entity count.

    Attributes:
        environment, policy: names, as in ``benchmarks/learning.py``.
        seed: of the training run.
        learning_rate: at its start.
        parameters: of the network.
        steps: environment steps trained.
        cpu_seconds: of the training.
        curve: (T,3) steps, CPU seconds and success while training; empty (0,3) but in the first row of an agent.
        steps_to_95: when success while training first reached .95; inf = never.
        seconds_to_95: CPU seconds at that point; inf = never.
        trained: the entity count is the one trained on, not a zero-shot one.
        entities: that count, "4-8".
        success: share of successful episodes; the deterministic policy.
        mean_return: undiscounted, over the same episodes.
    """

    environment: str
    policy: str
    seed: int
    learning_rate: float
    parameters: int
    steps: int
    cpu_seconds: float
    curve: np.ndarray
    steps_to_95: float
    seconds_to_95: float
    trained: bool
    entities: str
    success: float
    mean_return: float


def read(path: Path) -> list[Evaluated]:
    """All rows of learning.csv or sweep.csv, in its order.

    Raises:
        ValueError: the file is not there.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not there; python benchmarks/learning.py writes it")
    return [_evaluated(row) for row in read_csv(path)]


def read_csv(path: Path) -> list[dict[str, str]]:
    """All rows of any CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Reach:
    """Success of one agent at one point of a long axis.

    Attributes:
        environment, policy, seed: the agent.
        learning_rate: it was trained with.
        axis: "entities" or "depth".
        value: the point.
        trained: least and greatest value in training.
        success: share of successful episodes.
    """

    environment: str
    policy: str
    seed: int
    learning_rate: float
    axis: str
    value: int
    trained: tuple[int, int]
    success: float


def read_reach(path: Path) -> list[Reach]:
    """All rows of long_range.csv."""
    return [
        Reach(
            environment=row["environment"],
            policy=row["policy"],
            seed=int(row["seed"]),
            learning_rate=float(row["learning_rate"]),
            axis=row["axis"],
            value=int(row["value"]),
            trained=(int(row["trained_from"]), int(row["trained_to"])),
            success=float(row["success_rate"]),
        )
        for row in read_csv(path)
    ]


def check_one_rate(rows: Iterable[Evaluated | Reach]) -> None:
    """Check that seeds of one policy are not mixed over learning rates.

    Raises:
        ValueError: they are.
    """
    rates: dict[tuple[str, str], set[float]] = {}
    for row in rows:
        rates.setdefault((row.environment, row.policy), set()).add(row.learning_rate)
    for (environment, policy), found in rates.items():
        if len(found) > 1:
            raise ValueError(
                f"{policy} on {environment} was trained with learning rates {sorted(found)}; one policy is compared "
                "at one rate: remove the rows of the others"
            )


def unique(values: Iterable[str]) -> list[str]:
    """Each value once, in order of appearance."""
    return list(dict.fromkeys(values))


def common(rows: Iterable[Evaluated]) -> list[str]:
    """The environments that all the usual policies were run in: those found in more than three quarters of them."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.environment, []).append(row.policy)
    policies = unique(policy for names in found.values() for policy in names)
    usual = [policy for policy in policies if sum(policy in names for names in found.values()) > 0.75 * len(found)]
    return [environment for environment, names in found.items() if set(usual) <= set(names)]


def success(rows: Iterable[Evaluated], environment: str, policy: str, entities: str | None = None) -> np.ndarray:
    """Success of each seed (R,), in the order of seeds; at the trained counts where no others are given."""
    chosen = [row for row in rows if (row.environment, row.policy) == (environment, policy)]
    chosen = [row for row in chosen if (row.trained if entities is None else row.entities == entities)]
    return np.array([row.success for row in sorted(chosen, key=lambda row: row.seed)])


def strata(rows: list[Evaluated], policy: str, environments: Iterable[str]) -> list[np.ndarray]:
    """Success at the trained counts, one array of seeds per environment; empty where one of them is missing."""
    found = [success(rows, environment, policy) for environment in environments]
    return found if all(len(scores) for scores in found) else []


def _evaluated(row: dict[str, str]) -> Evaluated:
    return Evaluated(
        environment=row["environment"],
        policy=row["policy"],
        seed=int(row["seed"]),
        learning_rate=float(row["learning_rate"]),
        parameters=int(row["parameters"]),
        steps=int(row["total_timesteps"]),
        cpu_seconds=float(row["cpu_seconds"]),
        curve=np.array(json.loads(row["curve"] or "[]")).reshape(-1, 3),
        steps_to_95=float(row["steps_to_0.95"] or "inf"),
        seconds_to_95=float(row["seconds_to_0.95"] or "inf"),
        trained=row["evaluated_on"] == "{}",
        entities=_counts(row["min_entities"], row["max_entities"]),
        success=float(row["success_rate"]),
        mean_return=float(row["mean_return"]),
    )


def _counts(low: str, high: str) -> str:
    """``5-9``; the sum where the counts are given type by type."""
    low_count, high_count = (_total(ast.literal_eval(text)) for text in (low, high))
    return str(low_count) if low_count == high_count else f"{low_count}-{high_count}"


def _total(count: int | dict[str, int]) -> int:
    return sum(count.values()) if isinstance(count, dict) else count
