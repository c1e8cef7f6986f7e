"""The same training over several seeds, each a process with a run folder of its own, and a table over them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attn_rl.training.intervals import interquartile_mean, interval
from attn_rl.training.report import name_row, show
from attn_rl.training.run.folder import compose_name
from attn_rl.training.run.interrupts import Interrupted, hand_back, handle

if TYPE_CHECKING:
    from attn_rl.training.arguments import Args

MOST_SEEDS = 1000
"""Runs of one command."""


@dataclass(frozen=True)
class _Several:
    """The options that a single run does not get."""

    seeds: str
    jobs: int = 1
    seed: int = 0


def read_seeds(text: str) -> list[int]:
    """``"0-4"`` -> 0 to 4, ``"0,2,7"`` -> these.

    Raises:
        ValueError: another text, or too many.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        found = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last or len(seeds) + last - first >= MOST_SEEDS:
            raise ValueError(f"seeds={text!r}; expected numbers such as 0-4 or 0,2,7, {MOST_SEEDS:,} at most")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


def train_seeds(argv: Sequence[str], args: Args) -> None:
    """Train every seed of ``args.seeds``, ``args.jobs`` at a time, then print the table.

    Args:
        argv: the command line, which each run gets with a seed of its own.
        args: what was made of it.

    Raises:
        ValueError: no seeds, a name for several folders, or runs that failed.
        Interrupted: on request, once all running ones have saved.
    """
    seeds = read_seeds(args.seeds or "")
    if args.run_name is not None or args.resume is not None:
        raise ValueError("--seeds begins several runs; leave --run-name and --resume out (--resume goes on with one)")
    _, shared = tyro.cli(_Several, args=list(argv), return_unknown_args=True)
    folders = {seed: args.runs_dir / compose_name(args.env, args.policy, seed) for seed in seeds}
    runs = _Runs(shared, folders, quiet=args.jobs == 1)
    codes = dict(zip(seeds, runs.run(args.jobs), strict=True))
    if runs.signum is not None:
        raise Interrupted(runs.signum)
    done = [folder for seed, folder in folders.items() if codes[seed] == 0]
    if done and args.eval_episodes:
        print_seeds([json.loads((folder / "evaluation.json").read_text()) for folder in done])
    failed = [str(seed) for seed, code in codes.items() if code != 0]
    if failed:
        raise ValueError(f"{len(failed)} of {len(seeds)} runs failed, seeds {', '.join(failed)}; see above")


class _Runs:
    """Processes, some at a time; a signal is passed on to those that run and keeps others from starting."""

    def __init__(self, shared: Sequence[str], folders: dict[int, Path], quiet: bool) -> None:
        self.shared, self.folders, self.quiet = shared, folders, quiet
        self.signum: int | None = None
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, jobs: int) -> list[int]:
        """Exit codes, in the order of the seeds."""
        previous = handle(self._leave)
        try:
            with ThreadPoolExecutor(jobs) as pool:
                return list(pool.map(self._one, self.folders))
        finally:
            hand_back(previous)

    def _one(self, seed: int) -> int:
        if self.signum is not None:
            return 128 + self.signum
        own = ["--seed", str(seed), "--run-name", self.folders[seed].name]
        command = [sys.executable, "-m", "attn_rl", "train", *self.shared, *own]
        here = str(Path(__file__).resolve().parents[2])  # train.py may be started where nothing is installed
        path = os.pathsep.join([here, *sys.path[1:]])  # and files beside it must hide no package: safe path
        environ = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        output = None if self.quiet else subprocess.PIPE
        with subprocess.Popen(
            command, stdout=output, stderr=None if self.quiet else subprocess.STDOUT, text=True, env=environ,
            start_new_session=True,  # a terminal's Ctrl-C comes from here, once
        ) as process:  # fmt: skip
            self._running.add(process)
            for line in process.stdout or ():
                print(f"seed {seed}: {line}", end="", flush=True)
            code = process.wait()
            self._running.discard(process)
        return code

    def _leave(self, signum: int, frame: FrameType | None) -> None:
        first, self.signum = self.signum is None, signum
        name = signal.Signals(signum).name
        print(f"{name}: the running ones save and leave" if first else f"{name}: quits", file=sys.stderr, flush=True)
        for process in list(self._running):
            process.send_signal(signum)


def print_seeds(evaluations: Sequence[dict[str, Any]]) -> None:
    """A row for each number of entities: over seeds, means, and interquartile means with their 95% intervals."""
    first = evaluations[0]
    seeds = ", ".join(str(evaluation["seed"]) for evaluation in evaluations)
    table = Table(title=f"{first['policy']} on {first['env']}, seeds {seeds}")
    for heading in ("entities", "success", "mean return"):
        table.add_column(heading, justify="right")
    for i, row in enumerate(first["results"]):
        results = [evaluation["results"][i] for evaluation in evaluations]
        figures = [over_seeds([result[name] for result in results]) for name in ("success_rate", "mean_return")]
        table.add_row(name_row(row["min_entities"], row["max_entities"], i), *map(escape, figures))
    Console().print(table)


def over_seeds(values: Sequence[float | None]) -> str:
    """The mean, and the interquartile mean with its 95% bootstrap interval; a dash where there are no figures."""
    found = np.array([value for value in values if value is not None], np.float64)
    if not len(found):
        return show(None)
    low, high = interval([found])
    middle = float(interquartile_mean(found))
    return f"mean {found.mean():.3f}\nIQM {middle:.3f} [{low:.3f}, {high:.3f}]"
