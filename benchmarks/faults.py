"""The dashboard of faults: what training survives, counted.

python -m benchmarks.faults                      # all but the soak; half an hour, 45 minutes beside busy neighbours

python -m benchmarks.faults --rows truncated payloads

python -m benchmarks.faults --rows soak          # two million steps

python -m benchmarks.faults --scale 0.1          # a tenth of the trials
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro

from benchmarks.campaign import (
    Outcome,
    damaged_records,
    disk,
    forged,
    injection,
    overhead,
    payloads,
    runs,
    soak,
    strangers,
)

KEPT = 5
"""Remarks shown per row."""


@dataclass
class Args:
    """Run the campaign and print k/N per row."""

    rows: tuple[str, ...] = ()
    """Which rows (their short names); none: all but the soak."""
    scale: float = 1.0
    """Trials, as a share of the usual number."""
    seed: int = 0
    """Of the moments and places of faults."""
    out: Path | None = None
    """Write the table as JSON too."""


@dataclass
class Bench:
    """What every row may use."""

    folder: Path
    rng: np.random.Generator
    scale: float
    campaign: runs.Campaign = field(init=False)

    def __post_init__(self) -> None:
        self.campaign = runs.Campaign(self.folder, self.rng)

    def n(self, usual: int) -> int:
        """Number of trials."""
        return max(1, round(usual * self.scale))


def third_party(bench: Bench) -> Outcome:
    """Killed and resumed, in an environment that knows nothing of us."""
    if importlib.util.find_spec("minigrid") is None:
        return Outcome(remarks=["not run: pip install 'attn_rl[minigrid]'"])
    return runs.killed_and_resumed(bench.campaign, bench.n(10), runs.THIRD_PARTY, seeds=2)


def mutants(bench: Bench) -> Outcome:
    """The named mutants of the source, each against its named killer; the sound source against all killers."""
    from tests.mutation import run_jobs  # needs the extra [test]
    from tests.test_mutants import KILLERS, MUTANTS

    *verdicts, sound = run_jobs([(mutant, [mutant.killer]) for mutant in MUTANTS] + [(None, KILLERS)])
    outcome = Outcome()
    for mutant, failed in zip(MUTANTS, verdicts, strict=True):
        outcome.add(None if failed and sound == [] else f"{mutant.name}: {mutant.killer} does not notice")
    return outcome


ROWS: dict[str, tuple[str, Callable[[Bench], Outcome]]] = {
    "killed": (
        "kill -9 at a random moment, resumed: bit-equal (Seek, batched)",
        lambda bench: runs.killed_and_resumed(bench.campaign, bench.n(50), runs.NATIVE),
    ),
    "third_party": ("kill -9 at a random moment, resumed: bit-equal (MiniGrid, DummyVecEnv)", third_party),
    "writing": (
        "kill -9 while checkpoints are written: the newest loads",
        lambda bench: disk.killed_while_writing(bench.folder, bench.rng, bench.n(100)),
    ),
    "full": (
        "disk full: previous checkpoint intact, clear message",
        lambda bench: disk.disk_full(bench.folder, bench.rng, bench.n(20)),
    ),
    "full_run": (
        "disk full in the middle of a run, given room and resumed: bit-equal",
        lambda bench: disk.run_on_full_disk(bench.campaign, bench.n(10), runs.NATIVE),
    ),
    "truncated": (
        "truncated files: detected, older one used",
        lambda bench: disk.damaged(bench.folder, bench.rng, bench.n(100), truncate=True),
    ),
    "flipped": (
        "flipped bits: detected, older one used",
        lambda bench: disk.damaged(bench.folder, bench.rng, bench.n(200), truncate=False),
    ),
    "payloads": ("malicious files: nothing executed, clear refusal", lambda bench: payloads.malicious(bench.folder)),
    "records": (
        "damaged or hostile attention records: shown or explained, no error 500, memory bounded",
        lambda bench: damaged_records.damaged_records(bench.folder),
    ),
    "strangers": (
        "run folders of strangers, read in four ways: nothing executed, nothing outside touched",
        lambda bench: strangers.strangers(bench.folder),
    ),
    "forged": (
        "run folders forged at random, resumed and loaded: refused in words or harmless",
        lambda bench: forged.forged(bench.folder, bench.rng, bench.n(200)),
    ),
    "injected": ("impossible observations and rewards: stopped in time, named", lambda bench: injection.injected()),
    "repeated": (
        "same seed twice: bit-equal",
        lambda bench: runs.repeated(bench.campaign, bench.n(10), runs.NATIVE),
    ),
    "terminated": (
        "SIGTERM at a random moment, resumed: bit-equal",
        lambda bench: runs.terminated_and_resumed(bench.campaign, bench.n(10), runs.NATIVE),
    ),
    "overhead": ("guards cost at most 2% of the training time", lambda bench: overhead.overhead(bench.n(40))),
    "mutants": ("mutants of the source killed by their named test", mutants),
    "soak": (
        "2 million steps of Seek: memory and handles flat",
        lambda bench: soak.soak(bench.folder, int(2_000_000 * bench.scale)),
    ),
}


def main() -> None:
    """Run the rows and print the table."""
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    chosen = args.rows or tuple(name for name in ROWS if name != "soak")
    unknown = sorted(set(chosen) - set(ROWS))
    if unknown:
        sys.exit(f"error: no rows {unknown}; choose from {sorted(ROWS)}")
    results = {}
    print("| fault | passed | seconds |\n|---|---|---|", flush=True)
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = run_row(name, Bench(Path(folder), np.random.default_rng(args.seed), args.scale))
    if args.out is not None:
        args.out.write_text(json.dumps(results, indent=2) + "\n")
    if any(row["passed"] < row["tried"] for row in results.values()):
        sys.exit(1)


def run_row(name: str, bench: Bench) -> dict:
    """Run and print one row."""
    title, run = ROWS[name]
    since = time.monotonic()
    outcome = run(bench)
    seconds = round(time.monotonic() - since)
    print(f"| {title} | {outcome.passed}/{outcome.tried} | {seconds} |", flush=True)
    for remark in outcome.remarks[:KEPT]:
        print(f"  {remark}", file=sys.stderr, flush=True)
    return {"title": title, "seconds": seconds, **vars(outcome)}


if __name__ == "__main__":
    main()
