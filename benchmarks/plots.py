"""Plots of the learning benchmark; one colour per policy throughout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import intervals
from benchmarks.results import Evaluated, Reach, common, strata, unique
from benchmarks.results import success as success_of

COLOURS = {
    "attention": "#1b5fb8",
    "plain attention": "#6fb1e8",
    "relations=features": "#12908e",
    "deepsets": "#e07b2a",
    "flat": "#8b8f97",
    "flat, sorted": "#4b4f57",
    "untrained, relations off": "#b8a03a",
}
SPARE = ("#a2469c", "#5b9a3c", "#c23b4b", "#c9a227")
STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a8",
    "axes.labelcolor": "#3c4149",
    "xtick.color": "#3c4149",
    "ytick.color": "#3c4149",
    "axes.grid": True,
    "grid.color": "#e8eaed",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
WIDTH = 10  # inches at 130 dots: shown at README width, a dot of the picture is a dot of the screen
DPI = 130
N_POINTS = 120


def colour_of(policy: str) -> str:
    """A policy's colour; unknown ones share the spare colours."""
    return COLOURS.get(policy) or SPARE[sum(policy.encode()) % len(SPARE)]


@contextmanager
def sheet(path: Path, rows: int, columns: int, height: float, **options) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure of ``rows`` x ``columns`` axes that is saved at the end."""
    with plt.rc_context(STYLE):
        drawn, axes = plt.subplots(
            rows, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False, **options
        )
        yield drawn, axes
        drawn.savefig(path, dpi=DPI)
        plt.close(drawn)


@contextmanager
def panels(path: Path, names: list[str], policies: Iterable[str]) -> Iterator[dict[str, Axes]]:
    """One panel per environment and a legend of the policies in the place after the last."""
    rows, columns = _arranged(len(names) + 1)
    with sheet(path, rows, columns, 2.6 * rows) as (_, grid):
        free = list(grid.flat)
        for axes, name in zip(free, names, strict=False):
            axes.set_title(name, loc="left")
        yield dict(zip(names, free, strict=False))
        for axes in free[len(names) :]:
            axes.axis("off")
        keys = [plt.Line2D([], [], color=colour_of(p), linewidth=3, label=p) for p in policies]
        free[len(names)].legend(handles=keys, loc="center left", fontsize=10.5)


def _arranged(n_panels: int) -> tuple[int, int]:
    """Rows and columns: up to four side by side, five where that saves a row."""
    columns = min(n_panels, 5 if -(-n_panels // 5) < -(-n_panels // 4) else 4)
    return -(-n_panels // columns), columns


def success(rows: list[Evaluated], path: Path) -> None:
    """Interquartile mean and interval of every policy, one panel per environment and one for all together."""
    names, policies = unique(row.environment for row in rows), unique(row.policy for row in rows)
    shared = common(rows)
    together = {f"{len(shared)} together": shared} if len(shared) > 1 else {}
    groups = {name: [name] for name in names} | together
    n_rows, columns = _arranged(len(groups))
    with sheet(path, n_rows, columns, n_rows * (0.9 + 0.24 * len(policies)), sharey=True) as (_, grid):
        for axes, (title, members) in zip(grid.flat, groups.items(), strict=False):
            axes.set_title(title, loc="left")
            for height, policy in enumerate(policies):
                scores = strata(rows, policy, members)
                if scores:
                    _interval(axes, height, scores, colour_of(policy))
            axes.set(xlim=(-0.02, 1.02), ylim=(len(policies) - 0.4, -0.6), yticks=range(len(policies)))
            axes.set_yticklabels(policies)
            axes.tick_params(left=False)
        for axes in grid.flat[len(groups) :]:
            axes.axis("off")
        for axes in grid[-1]:
            axes.set_xlabel("success, IQM [95%]")


def _interval(axes: Axes, height: float, scores: list[np.ndarray], colour: str) -> None:
    """Every seed as a tick, the interval as a bar, the interquartile mean as a dot."""
    low, high = intervals.interval(scores)
    each = np.concatenate(scores)
    axes.plot(each, np.full(len(each), height), "|", color=colour, alpha=0.45, markersize=7)
    axes.barh(height, high - low, 0.42, low, color=colour, alpha=0.35, linewidth=0)
    axes.plot(intervals.interquartile_mean(each), height, "o", color=colour, markersize=5.5)


def curves(rows: list[Evaluated], against: str, path: Path) -> None:
    """Success while training against steps or CPU seconds: interquartile mean of the seeds and its 95% band."""
    names, policies = unique(row.environment for row in rows), unique(row.policy for row in rows)
    column, unit = (0, 1000) if against == "steps" else (1, 1)
    with panels(path, names, policies) as axes_of:
        for name, axes in axes_of.items():
            for policy in policies:
                runs = [r.curve for r in rows if (r.environment, r.policy) == (name, policy) and len(r.curve)]
                if runs:
                    _curve(axes, [(run[:, column] / unit, run[:, 2]) for run in runs], colour_of(policy))
            axes.set(ylim=(-0.02, 1.03), xlabel="thousand steps" if unit > 1 else against)
            axes.set_xlim(left=0)
        next(iter(axes_of.values())).set_ylabel("success while training")


def _curve(axes: Axes, runs: list[tuple[np.ndarray, np.ndarray]], colour: str) -> None:
    first, last = (np.median([x[i] for x, _ in runs]) for i in (0, -1))
    grid = np.linspace(first, last, N_POINTS)
    middle, low, high = intervals.band(np.stack([np.interp(grid, x, y) for x, y in runs]))
    axes.fill_between(grid, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(grid, middle, color=colour, linewidth=1.8)


def transfer(rows: list[Evaluated], path: Path) -> None:
    """Success against the number of entities; the leftmost count is the trained one."""
    names = [name for name in unique(row.environment for row in rows) if len(_counts(rows, name)) > 1]
    policies = [p for p in unique(row.policy for row in rows) if any(r.policy == p and not r.trained for r in rows)]
    with panels(path, names, policies) as axes_of:
        for name, axes in axes_of.items():
            counts = _counts(rows, name)
            here = [policy for policy in policies if len(success_of(rows, name, policy))]
            for i, policy in enumerate(here):
                found = [(x, success_of(rows, name, policy, count)) for x, count in enumerate(counts)]
                shift = 0.06 * (i - (len(here) - 1) / 2)
                _points(axes, [(x + shift, scores) for x, scores in found if len(scores)], colour_of(policy))
            labels = [count.replace("-", "–") for count in counts]
            axes.set_xticks(range(len(counts)), [labels[0] + "\n(trained)", *labels[1:]])
            axes.set(xlim=(-0.3, len(counts) - 0.7), ylim=(-0.02, 1.03), xlabel="entities")
        next(iter(axes_of.values())).set_ylabel("success, IQM [95%]")


def _counts(rows: list[Evaluated], environment: str) -> list[str]:
    return unique(row.entities for row in rows if row.environment == environment)


def _points(axes: Axes, found: list[tuple[float, np.ndarray]], colour: str) -> None:
    """Interquartile means joined by a line, each with its 95% interval."""
    if not found:
        return
    x = [place for place, _ in found]
    middle = [intervals.interquartile_mean(scores) for _, scores in found]
    low, high = np.array([intervals.interval([scores]) for _, scores in found]).T
    axes.vlines(x, low, high, color=colour, alpha=0.4, linewidth=4)
    axes.plot(x, middle, "-o", color=colour, linewidth=1.6, markersize=4.5)


def long_range(rows: list[Reach], path: Path) -> None:
    """Success against chain length or number of entities, far beyond the values of training (shaded)."""
    with panels(path, unique(row.environment for row in rows), unique(row.policy for row in rows)) as axes_of:
        for name, axes in axes_of.items():
            here = [row for row in rows if row.environment == name]
            values = sorted({row.value for row in here})
            for policy in unique(row.policy for row in here):
                scores = [
                    (value, np.array([r.success for r in here if (r.policy, r.value) == (policy, value)]))
                    for value in values
                ]
                _points(axes, [(x, seeds) for x, seeds in scores if len(seeds)], colour_of(policy))
            if here[0].axis == "entities":
                axes.set_xscale("log", base=2)
            axes.axvspan(*here[0].trained, color="#f1d77a", alpha=0.35, linewidth=0, zorder=0)
            axes.set_xticks(values, [str(value) for value in values])
            axes.minorticks_off()
            axes.set(ylim=(-0.02, 1.03), xlabel=LONG_AXES[here[0].axis])
        next(iter(axes_of.values())).set_ylabel("success, IQM [95%]")


LONG_AXES = {"entities": "entities", "depth": "boxes on the way to the gem"}


def allocation(rows: list[dict[str, str]], path: Path) -> None:
    """Weight on the decisive entity (above) and normalised entropy (below) by situation; mean over seeds, 95% band."""
    names = unique(row["environment"] for row in rows)
    with sheet(path, 2, len(names), 5.4, sharex="col", sharey="row") as (_, grid):
        for column, name in zip(grid.T, names, strict=True):
            here = [row for row in rows if row["environment"] == name]
            for policy in unique(row["policy"] for row in here):
                seeds = [row for row in here if row["policy"] == policy]
                for axes, quantity in zip(column, ("mass", "entropy"), strict=True):
                    _follow(axes, seeds, quantity, colour_of(policy), policy)
            _follow(column[0], here, "uniform", "#3c4149", "equal weights", linestyle=(0, (4, 3)))
            column[0].set_title(name, loc="left")
            column[1].set_xlabel(here[0]["axis"])
        grid[0, 0].set(ylabel="weight on the decisive entity", ylim=(0, 1.02))
        grid[1, 0].set(ylabel="entropy of the weights\n(1 = equal)", ylim=(0, 1.02))
        grid[0, -1].legend(loc="center right")


def _follow(axes: Axes, rows: list[dict[str, str]], quantity: str, colour: str, label: str, **line: Any) -> None:
    """Mean over seeds of a quantity in every bin that all seeds met, at the mean situation of the bin."""
    by_seed = [
        {float(row["from"]): row for row in rows if (row["seed"], row["policy"]) == key}
        for key in dict.fromkeys((row["seed"], row["policy"]) for row in rows)
    ]
    bins = sorted(set.intersection(*(set(seed) for seed in by_seed)))
    x, y = (np.array([[float(seed[b][q]) for b in bins] for seed in by_seed]) for q in ("situation", quantity))
    middle, low, high = intervals.band(y, lambda values: values.mean(-1))
    axes.fill_between(x.mean(0), low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x.mean(0), middle, color=colour, label=label, linewidth=1.8, **line)


def profiles(rows: list[Evaluated], path: Path) -> None:
    """Share of runs (environments shared by the usual policies) with success above a threshold: higher is better."""
    names, thresholds = common(rows), np.linspace(0, 1, 201)
    with sheet(path, 1, 1, 3.6) as (_, grid):
        axes = grid[0, 0]
        for policy in unique(row.policy for row in rows):
            scores = strata(rows, policy, names)
            if scores:
                low, high = intervals.profile_band(scores, thresholds)
                axes.fill_between(thresholds, low, high, color=colour_of(policy), alpha=0.15, linewidth=0)
                profile = intervals.performance_profile(scores, thresholds)
                axes.plot(thresholds, profile, color=colour_of(policy), linewidth=1.8, label=policy)
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.03), xlabel="success τ", ylabel="share of runs with success > τ")
        axes.set_title(f"Performance profile over {len(names)} environments", loc="left")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


def improvement(rows: list[Evaluated], path: Path, ours: str = "attention") -> None:
    """Probability that a run of ``ours`` beats one of another policy, per environment."""
    names, policies = unique(row.environment for row in rows), unique(row.policy for row in rows if row.policy != ours)
    with sheet(path, 1, len(policies), 1.1 + 0.27 * len(names), sharey=True) as (_, grid):
        for axes, policy in zip(grid[0], policies, strict=True):
            for height, name in enumerate(names):
                scores = strata(rows, ours, [name]), strata(rows, policy, [name])
                if all(scores):
                    middle, low, high = intervals.improvement(*scores)
                    axes.barh(height, high - low, 0.42, low, color=colour_of(policy), alpha=0.35, linewidth=0)
                    axes.plot(middle, height, "o", color=colour_of(policy), markersize=5.5)
            axes.axvline(0.5, color="#3c4149", linewidth=0.9, linestyle=(0, (4, 3)))
            axes.set(xlim=(-0.03, 1.03), ylim=(len(names) - 0.4, -0.6), yticks=range(len(names)), yticklabels=names)
            axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
            axes.set_title(f"against\n{policy}", loc="left")
            axes.tick_params(left=False)
        grid[0, 0].set_xlabel(f"P(a run with {ours} is better)")
