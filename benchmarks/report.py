"""Turn the CSV files of docs/results into every table and plot that docs/results.md shows.

    pip install -e ".[bench]" && python benchmarks/report.py

Figures are interquartile means over seeds with stratified-bootstrap 95% intervals (Agarwal et al. 2021), see
``benchmarks/intervals.py``; tables: ``benchmarks/tables.py``, plots: ``benchmarks/plots.py``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that the script finds its neighbours

from benchmarks import plots, tables
from benchmarks.learning import ENVIRONMENTS, POLICIES
from benchmarks.results import Evaluated, Reach, check_one_rate, read, read_csv, read_reach

AnyRow = TypeVar("AnyRow", Evaluated, Reach)
LEGEND = "IQM: mean of the middle half of the seeds. – : not run, or the policy cannot take so many entities."


@dataclass
class Args:
    """Make tables and plots from the CSV files of the learning benchmarks."""

    results: Path = Path("docs/results")
    """Folder of the CSV files; tables.md and the plots are written there too."""


def in_order(rows: list[AnyRow]) -> list[AnyRow]:
    """The same rows, environments and policies as the benchmark lists them."""
    rank = {name: i for i, name in enumerate([*ENVIRONMENTS, *POLICIES])}
    last = len(rank)
    return sorted(rows, key=lambda row: (rank.get(row.environment, last), rank.get(row.policy, last)))


def write_tables(rows: list[Evaluated], sweep: list[Evaluated], reach: list[Reach], path: Path) -> None:
    """All tables, each under its heading."""
    sections = {
        "Success at the trained counts (IQM, 95% interval)": tables.success_table(rows),
        "Zero-shot success at other counts (IQM, 95% interval)": tables.transfer_table(rows),
        "Probability of improvement [95%], and how the intervals of the two IQMs lie": tables.improvement_table(rows),
        "Steps to 95% success while training: median (least-greatest)": tables.steps_table(rows),
        "CPU seconds to 95%: median (least-greatest); of the whole run": tables.seconds_table(rows),
        "Stability: seeds that reach 90% of the best policy's IQM": tables.stability_table(rows),
        "Worst seed": tables.worst_table(rows),
        "What was trained: parameters; learning rate; steps; seeds": tables.run_table(rows),
    }
    if reach:
        sections["Long range (IQM, 95% interval)"] = tables.reach_table(reach)
    if sweep:
        sections["Success by learning rate, sweep on a seed of its own"] = tables.sweep_table(sweep)
    text = "\n\n".join(f"## {heading}\n\n{table}" for heading, table in sections.items())
    path.write_text(f"# Tables\n\nWritten by `python benchmarks/report.py`. {LEGEND}\n\n{text}\n")


def main(args: Args) -> None:
    """Write tables.md and all plots."""
    folder = args.results
    rows, sweep, far = (folder / f"{name}.csv" for name in ("learning", "sweep", "long_range"))
    learned, swept = in_order(read(rows)), in_order(read(sweep)) if sweep.exists() else []
    reach = in_order(read_reach(far)) if far.exists() else []
    check_one_rate(learned)
    check_one_rate(reach)
    write_tables(learned, swept, reach, folder / "tables.md")
    plots.success(learned, folder / "success.png")
    plots.curves(learned, "steps", folder / "curves-steps.png")
    plots.curves(learned, "CPU seconds", folder / "curves-seconds.png")
    plots.transfer(learned, folder / "transfer.png")
    plots.profiles(learned, folder / "profiles.png")
    plots.improvement(learned, folder / "improvement.png")
    if reach:
        plots.long_range(reach, folder / "long-range.png")
    if (folder / "allocation.csv").exists():
        plots.allocation(read_csv(folder / "allocation.csv"), folder / "allocation.png")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
