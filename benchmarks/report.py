"""Turn docs/results/learning.csv into the tables and plots that docs/results.md shows.

    pip install -e ".[bench]" && python benchmarks/report.py

Figures are interquartile means over seeds with stratified-bootstrap 95% intervals (Agarwal et al. 2021).
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

N_BOOTSTRAP = 5000
COLOURS = {"attention": "#1d5fb4", "plain attention": "#7aa6dd", "deepsets": "#d9722b", "flat": "#8a8f98"}


@dataclass
class Args:
    """Make tables and plots from the CSV of benchmarks/learning.py."""

    results: Path = Path("docs/results")
    """Folder of learning.csv; tables.md and the plots are written there too."""


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis; a quarter of the values is cut from either end."""
    ordered = np.sort(values, axis=-1)
    cut = int(0.25 * ordered.shape[-1])
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95% interval of the interquartile mean, by resampling seeds."""
    draws = np.random.default_rng(seed).integers(len(values), size=(N_BOOTSTRAP, len(values)))
    low, high = np.percentile(interquartile_mean(values[draws]), [2.5, 97.5])
    return float(low), float(high)


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of pairs of seeds in which ours is better; ties count half (Mann & Whitney)."""
    return float((ours[:, None] > theirs).mean() + 0.5 * (ours[:, None] == theirs).mean())


def read(path: Path) -> list[dict[str, str]]:
    """All rows of the CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def grouped(rows: Iterable[dict[str, str]], *keys: str) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """Rows by the values of some columns, in order of appearance."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def figure(values: np.ndarray) -> str:
    """``.987 [.981, .992]``."""
    low, high = interval(values)
    return f"{interquartile_mean(values):.3f} [{low:.3f}, {high:.3f}]"


def success_table(rows: list[dict[str, str]]) -> str:
    """Success per environment, evaluated counts and policy."""
    lines = [
        "| environment | entities | policy | success, IQM [95%] | worst seed | seeds | parameters |",
        "|---" * 7 + "|",
    ]
    for (environment, low, high, policy), group in grouped(
        rows, "environment", "min_entities", "max_entities", "policy"
    ).items():
        values = np.array([float(row["success_rate"]) for row in group])
        trained = " (trained)" if group[0]["evaluated_on"] == "{}" else ""
        counts = low if low == high else f"{low}-{high}"
        lines.append(
            f"| {environment} | {counts}{trained} | {policy} | {figure(values)} | {values.min():.3f} | {len(values)} "
            f"| {int(group[0]['parameters']):,} |"
        )
    return "\n".join(lines)


def speed_table(rows: list[dict[str, str]]) -> str:
    """Steps and seconds to 95% success."""
    lines = [
        "| environment | policy | steps to 95%, median (each seed) | CPU seconds of the run, median |",
        "|---|---|---|---|",
    ]
    for (environment, policy), group in grouped(
        [r for r in rows if r["evaluated_on"] == "{}"], "environment", "policy"
    ).items():
        reached = [int(row["steps_to_0.95"]) if row["steps_to_0.95"] else None for row in group]
        each = ", ".join("never" if steps is None else f"{steps / 1000:.0f}k" for steps in reached)
        known = sorted(float("inf") if steps is None else steps for steps in reached)
        middle = known[len(known) // 2]
        median = "never" if middle == float("inf") else f"{middle / 1000:.0f}k"
        seconds = np.median([float(row["cpu_seconds"]) for row in group])
        lines.append(f"| {environment} | {policy} | {median} ({each}) | {seconds:.0f} |")
    return "\n".join(lines)


def improvement_table(rows: list[dict[str, str]]) -> str:
    """How probable it is that a run with attention beats one of the other policy, at the trained counts."""
    lines = ["| environment | against | probability of improvement |", "|---|---|---|"]
    trained = grouped([row for row in rows if row["evaluated_on"] == "{}"], "environment", "policy")
    scores = {key: np.array([float(row["success_rate"]) for row in group]) for key, group in trained.items()}
    for (environment, policy), theirs in scores.items():
        ours = scores.get((environment, "attention"))
        if ours is not None and policy != "attention":
            lines.append(f"| {environment} | {policy} | {probability_of_improvement(ours, theirs):.2f} |")
    return "\n".join(lines)


def plot_curves(rows: list[dict[str, str]], environment: str, path: Path) -> None:
    """Success against steps: every seed thin, their mean thick."""
    drawn, axes = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
    cells = [row for row in rows if row["environment"] == environment and row["curve"]]
    for (policy,), group in grouped(cells, "policy").items():
        curves = [np.array(json.loads(row["curve"])) for row in group]
        grid = np.linspace(0, max(curve[-1, 0] for curve in curves), 200)
        resampled = [np.interp(grid, curve[:, 0], curve[:, 2], left=0.0) for curve in curves]
        for line in resampled:
            axes.plot(grid / 1000, line, color=COLOURS.get(policy), alpha=0.25, linewidth=0.8)
        axes.plot(grid / 1000, np.mean(resampled, 0), color=COLOURS.get(policy), linewidth=2, label=policy)
    axes.set(xlabel="thousand steps", ylabel="success while training", ylim=(0, 1.02), title=environment)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    drawn.savefig(path, dpi=110)
    plt.close(drawn)


def main(args: Args) -> None:
    """Write tables.md and one plot per environment."""
    rows = read(args.results / "learning.csv")
    tables = [success_table(rows), speed_table(rows), improvement_table(rows)]
    (args.results / "tables.md").write_text("\n\n".join(tables) + "\n")
    for (environment,) in grouped(rows, "environment"):
        plot_curves(rows, environment, args.results / f"{environment.lower().replace(' ', '-')}.png")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
