"""Whole runs of ``train.py`` in processes of their own: killed, stopped, resumed, repeated, compared bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attn_rl.training.run.checkpoint import list_checkpoints, read_checkpoint
from benchmarks.campaign import Outcome

ROOT = Path(__file__).resolve().parents[2]
NATIVE = (
    *("--env", "AttnRL/Seek-v0", "--n-envs", "16", "--n-steps", "16", "--batch-size", "64", "--n-epochs", "2"),
    *("--total-timesteps", "3840", "--save-every", "2", "--record-every", "4", "--eval-episodes", "0"),
)
"""15 rollouts of Seek, batched."""
THIRD_PARTY = (
    *("--env", "minigrid:MiniGrid-Fetch-5x5-N2-v0", "--n-envs", "4", "--n-steps", "16", "--batch-size", "32"),
    *(
        "--n-epochs",
        "1",
        "--total-timesteps",
        "640",
        "--save-every",
        "2",
        "--record-every",
        "4",
        "--eval-episodes",
        "0",
    ),
)
"""10 rollouts of MiniGrid in a ``DummyVecEnv``."""
CLOCK = ("time/fps",)
"""Scalars that belong to the clock, not to the run: their steps are compared, not their values."""


class Campaign:
    """Runs in one folder; uninterrupted ones are made once and kept for comparison.

    Args:
        folder: for all runs.
        rng: draws the moments of kills.
    """

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.rng = folder, rng
        self._whole: dict[tuple[str, ...], tuple[Path, float]] = {}
        self._count = 0

    def begin(self, *argv: str) -> tuple[subprocess.Popen, Path]:
        """Start a run of its own name; returns the process and the run folder."""
        self._count += 1
        run = self.folder / f"run{self._count}"
        return start("--runs-dir", str(self.folder), "--run-name", run.name, *argv), run

    def whole(self, *argv: str) -> tuple[Path, float]:
        """An uninterrupted run, and the seconds from its first checkpoint to its end."""
        if argv not in self._whole:
            process, run = self.begin(*argv)
            wait_for_checkpoint(process, run)
            since = time.monotonic()
            finish(process)
            self._whole[argv] = run, time.monotonic() - since
        return self._whole[argv]

    def stopped(self, number: signal.Signals, *argv: str) -> tuple[Path, int]:
        """A run that gets a signal at a random moment after its first checkpoint; run folder and exit code."""
        _, window = self.whole(*argv)
        for _ in range(10):  # one that had written its last file before the signal is no trial
            process, run = self.begin(*argv)
            wait_for_checkpoint(process, run)
            time.sleep(self.rng.uniform(0, window))
            if process.poll() is None:
                process.send_signal(number)
                process.communicate()
                if process.returncode != 0 and not (run / "evaluation.json").exists():
                    return run, process.returncode
        raise RuntimeError("ten runs in a row ended before the signal; the machine's load changes too much")


def killed_and_resumed(campaign: Campaign, trials: int, argv: tuple[str, ...], seeds: int = 5) -> Outcome:
    """kill -9 at a random moment, resumed in a fresh process: the run must be the one that was not killed."""
    outcome = Outcome()
    for trial in range(trials):
        with_seed = (*argv, "--seed", str(trial % seeds))
        run, _ = campaign.stopped(signal.SIGKILL, *with_seed)
        outcome.add(after_resume(campaign, run, with_seed))
    return outcome


def terminated_and_resumed(campaign: Campaign, trials: int, argv: tuple[str, ...]) -> Outcome:
    """SIGTERM at a random moment: exit code 143, everything saved; resumed, the run must be the uninterrupted one."""
    outcome = Outcome()
    for trial in range(trials):
        with_seed = (*argv, "--seed", str(trial))
        run, code = campaign.stopped(signal.SIGTERM, *with_seed)
        outcome.add(after_resume(campaign, run, with_seed) if code == 143 else f"{run.name}: exit code {code}")
    return outcome


def repeated(campaign: Campaign, trials: int, argv: tuple[str, ...]) -> Outcome:
    """The same seed twice."""
    outcome = Outcome()
    for trial in range(trials):
        with_seed = (*argv, "--seed", str(trial))
        process, run = campaign.begin(*with_seed)
        finish(process)
        outcome.add(first_difference(run, campaign.whole(*with_seed)[0]))
    return outcome


def after_resume(campaign: Campaign, run: Path, argv: tuple[str, ...]) -> str | None:
    """Resume a run; the first difference from the uninterrupted one, None = there is none."""
    finish(start("--resume", str(run)))
    return first_difference(run, campaign.whole(*argv)[0])


def start(*argv: str) -> subprocess.Popen:
    """Start ``train.py`` in a fresh process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "train.py", *argv]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> None:
    """Wait for the end of a run that must succeed."""
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{process.args} failed with {process.returncode}: {errors[-2000:]}")


def wait_for_checkpoint(process: subprocess.Popen, run: Path) -> None:
    """Wait until a run has written its first checkpoint."""
    while not list_checkpoints(run):
        if process.poll() is not None:
            finish(process)
            raise RuntimeError(f"{process.args} ended without a checkpoint")
        time.sleep(0.002)


def first_difference(one: Path, other: Path) -> str | None:
    """What differs between two finished runs: weights, optimiser, environments, generators, every logged point."""
    first, second = (read_checkpoint(list_checkpoints(run)[0]) for run in (one, other))
    for part in ("model", "optimizer", "environment"):
        arrays, others = getattr(first, part), getattr(second, part)
        if arrays.keys() != others.keys():
            return f"{one.name}: {part} has other arrays"
        for name in arrays:
            if arrays[name].dtype != others[name].dtype or not np.array_equal(arrays[name], others[name]):
                return f"{one.name}: {part} {name} differs"
    for name in ("counters", "generators", "successes", "rollouts", "logger", "callbacks"):
        if first.state[name] != second.state[name]:
            return f"{one.name}: {name} differs"
    points, expected = logged(one), logged(other)
    different = [tag for tag in points.keys() | expected.keys() if points.get(tag) != expected.get(tag)]
    return f"{one.name}: logged points differ: {sorted(different)[:3]}" if different else None


def logged(run: Path) -> dict[str, list]:
    """Every point of every scalar and picture of a run, and the steps of every text."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    points: dict[str, list] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    points |= {tag: [step for step, _ in points[tag]] for tag in CLOCK if tag in points}
    points |= {tag: [(e.step, e.encoded_image_string) for e in events.Images(tag)] for tag in tags["images"]}
    return points | {tag: [e.step for e in events.Tensors(tag)] for tag in tags["tensors"]}
