"""Microseconds from one observation to one action, by number of entities. One command::

    python -m benchmarks.latency

Rows: ``predict`` of our default policy, in one call and by the modules; ``predict`` of Stable-Baselines3's
``MlpPolicy``. Every slot is filled. Rows take turns; printed is the median over rounds of the fastest of many short
stretches, so that a busy neighbour counts little. On one thread.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
import torch

from benchmarks.speed_rows import ROWS, SETTINGS

COUNTS = (8, 64, 512)
CONTENDERS = {
    "attn_rl, the default policy": "ours-default",
    "the same by the modules": "ours-default-modules",
    "stock SB3 `MlpPolicy`": "mlp",
}


def chooser(row: str, n_slots: int, deterministic: bool) -> Callable[[], object]:
    """One decision of an untrained agent."""
    agent = ROWS[row](replace(SETTINGS["default"], n_slots=n_slots))
    observation = np.array(agent.env.reset()[0])
    observation[:, -1] = 1.0  # everybody is there
    return lambda: agent.predict(observation, deterministic=deterministic)


def microseconds(choose: Callable[[], object], stretches: int) -> float:
    """Of one decision: the fastest of some stretches of four."""
    return min(timeit.repeat(choose, number=4, repeat=stretches)) / 4 * 1e6


def main(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("| row | " + " | ".join(f"{n} entities" for n in COUNTS) + " |\n" + "|---" * (len(COUNTS) + 1) + "|")
    deterministic = not arguments.drawn
    choosers = {(label, n): chooser(row, n, deterministic) for label, row in CONTENDERS.items() for n in COUNTS}
    found: dict[tuple[str, int], list[float]] = {case: [] for case in choosers}
    for _ in range(arguments.rounds):
        for case, choose in choosers.items():
            found[case].append(microseconds(choose, arguments.stretches))
    for label in CONTENDERS:
        print(f"| {label} | " + " | ".join(f"{median(found[label, n]):.0f}" for n in COUNTS) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stretches", type=int, default=300)
    parser.add_argument("--drawn", action="store_true", help="actions are drawn, not the most probable ones")
    main(parser.parse_args())
