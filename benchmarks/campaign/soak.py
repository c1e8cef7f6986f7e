"""A long training with inspection on: memory and file handles must stay where they are after warming up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from benchmarks.campaign import Outcome
from benchmarks.campaign.runs import finish, start, wait_for_checkpoint

GROWTH = 1.05
"""Allowed memory at the end, over that after warm-up."""

PAGE = os.sysconf("SC_PAGE_SIZE")


def soak(folder: Path, steps: int, every: float = 0.5) -> Outcome:
    """Train Seek for ``steps`` steps, with evaluation off; compare the last tenth of the time with the second one.

    Args:
        folder: for the run.
        steps: environment steps.
        every: seconds between two looks at the process.
    """
    argv = ("--total-timesteps", str(steps), "--runs-dir", str(folder), "--run-name", "soak", "--eval-episodes", "0")
    process = start(*argv)
    wait_for_checkpoint(process, folder / "soak")
    memory, handles = [], []
    while process.poll() is None:
        try:
            memory.append(int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * PAGE)
            handles.append(len(os.listdir(f"/proc/{process.pid}/fd")))
        except OSError:  # it has just ended
            break
        time.sleep(every)
    finish(process)
    tenth = len(handles) // 10
    warm, last = (float(np.median(part)) for part in (memory[tenth : 2 * tenth], memory[-tenth:]))
    more = int(np.median(handles[-tenth:]) - np.median(handles[tenth : 2 * tenth]))
    said = (
        f"{steps:,} steps: {warm / 2**20:.0f} MiB after warm-up, {last / 2**20:.0f} MiB at the end "
        f"({100 * (last / warm - 1):+.1f}%), {more:+d} file handles"
    )
    return Outcome(int(last <= GROWTH * warm and more <= 0), 1, [said])
