"""Turn the CSV files of docs/results into every plot and table that docs/results.md shows.

    pip install -e ".[bench]" && python benchmarks/report.py

Tables are put into the page between ``<!-- name -->`` and ``<!-- /name -->``; all of them also make up tables.md.
Figures are interquartile means over seeds with stratified-bootstrap 95% intervals (Agarwal et al. 2021), see
``benchmarks/intervals.py``; tables: ``benchmarks/tables.py``, plots: ``benchmarks/plots.py``.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that the script finds its neighbours

from benchmarks import plots, tables, verdicts
from benchmarks.ablation import table as ablation_table
from benchmarks.driving import driving_table
from benchmarks.learning import ENVIRONMENTS, LONGER, POLICIES
from benchmarks.levels import level_table
from benchmarks.results import Evaluated, Reach, check_one_rate, read, read_csv, read_reach

AnyRow = TypeVar("AnyRow", Evaluated, Reach)
LEGEND = "IQM: mean of the middle half of the seeds. – : not run, or the policy cannot take so many entities."


@dataclass
class Args:
    """Make tables and plots from the CSV files of the learning benchmarks."""

    results: Path = Path("docs/results")
    """Folder of the CSV files; tables.md and the plots are written there too."""
    page: Path | None = Path("docs/results.md")
    """Page whose tables are made anew; None: no page."""


def in_order(rows: list[AnyRow]) -> list[AnyRow]:
    """The same rows, environments and policies as the benchmark lists them."""
    rank = {name: i for i, name in enumerate([*ENVIRONMENTS, *POLICIES])}
    last = len(rank)
    return sorted(rows, key=lambda row: (rank.get(row.environment, last), rank.get(row.policy, last)))


def all_tables(
    rows: list[Evaluated], longer: list[Evaluated], sweep: list[Evaluated], reach: list[Reach]
) -> dict[str, tuple[str, str]]:
    """Name -> heading and Markdown; ``longer``: what is no part of the comparison at equal steps."""
    found = {
        "standing": ("Where attention stands", verdicts.standing(rows)),
        "success": ("Success at the trained counts (IQM, 95% interval)", tables.success_table(rows)),
        "transfer": ("Zero-shot success at other counts (IQM, 95% interval)", tables.transfer_table(rows)),
        "improvement": (
            "Probability of improvement [95%], and how the intervals of the two IQMs lie",
            tables.improvement_table(rows),
        ),
        "steps": ("Steps to 95% success while training: median (least-greatest)", tables.steps_table(rows)),
        "seconds": ("CPU seconds to 95%: median (least-greatest); of the whole run", tables.seconds_table(rows)),
        "stability": ("Stability: seeds that reach 90% of the best policy's IQM", tables.stability_table(rows)),
        "levels": ("Levels set before the benchmark was run, and attention's seeds", level_table(rows)),
        "worst": ("Worst seed", tables.worst_table(rows)),
        "not-better": ("Figures in which another policy is ahead", verdicts.not_better(rows)),
        "trained": ("What was trained: parameters; learning rate; steps; seeds", tables.run_table(rows)),
    }
    if any(row.environment in tables.ANCHORS for row in rows):
        found["anchors"] = ("A peer's anchors: IQM [95%]; seeds that reach the level", tables.anchor_table(rows))
    if longer:
        found["longer"] = ("With more steps (IQM, 95% interval)", tables.longer_table(longer))
    if reach:
        found["long-range"] = ("Long range (IQM, 95% interval)", tables.reach_table(reach))
    if sweep:
        found["sweep"] = ("Success by learning rate, sweep on a seed of its own", tables.sweep_table(sweep))
    return found


def other_tables(folder: Path) -> dict[str, tuple[str, str]]:
    """The tables of the benchmarks with a CSV of their own, where they have been run."""
    found = {}
    for name, heading, table in (
        ("driving", "Driving in HighwayEnv: mean (each seed)", driving_table),
        ("ablation", "Ablation: mean (worst seed)", ablation_table),
    ):
        path = folder / f"{name}.csv"
        if path.exists():
            found[name] = (heading, table(read_csv(path)))
    return found


def filled(page: str, found: dict[str, tuple[str, str]]) -> str:
    """The page with every table between its two comments made anew.

    Raises:
        ValueError: the page asks for a table that there is not.
    """

    def table(block: re.Match[str]) -> str:
        name = block[1]
        if name not in found:
            raise ValueError(f"the page asks for the table {name!r}; there are {sorted(found)}")
        return f"<!-- {name} -->\n\n{found[name][1]}\n\n<!-- /{name} -->"

    return re.sub(r"<!-- ([\w-]+) -->\n.*?<!-- /\1 -->", table, page, flags=re.DOTALL)


def draw(rows: list[Evaluated], reach: list[Reach], folder: Path) -> None:
    """All plots."""
    plots.success(rows, folder / "success.png")
    plots.curves(rows, "steps", folder / "curves-steps.png")
    plots.curves(rows, "CPU seconds", folder / "curves-seconds.png")
    plots.transfer(rows, folder / "transfer.png")
    plots.profiles(rows, folder / "profiles.png")
    plots.improvement(rows, folder / "improvement.png")
    if reach:
        plots.long_range(reach, folder / "long-range.png")
    if (folder / "allocation.csv").exists():
        plots.allocation(read_csv(folder / "allocation.csv"), folder / "allocation.png")


def main(args: Args) -> None:
    """Write tables.md, the page's tables and all plots."""
    folder = args.results
    sweep, far = folder / "sweep.csv", folder / "long_range.csv"
    everything = in_order(read(folder / "learning.csv"))
    rows = [row for row in everything if row.environment not in LONGER]
    longer = [row for row in everything if row.environment in LONGER]
    reach = in_order(read_reach(far)) if far.exists() else []
    check_one_rate(everything)
    check_one_rate(reach)
    found = all_tables(rows, longer, in_order(read(sweep)) if sweep.exists() else [], reach) | other_tables(folder)
    text = "\n\n".join(f"## {heading}\n\n{table}" for heading, table in found.values())
    (folder / "tables.md").write_text(f"# Tables\n\nWritten by `python benchmarks/report.py`. {LEGEND}\n\n{text}\n")
    if args.page is not None:
        args.page.write_text(filled(args.page.read_text(), found))
    draw(rows, reach, folder)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
