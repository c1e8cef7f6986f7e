"""How an update grows with the number of slots and with what is in them. One command::

    python -m benchmarks.growth

Printed per network: the median time of a whole update (4 epochs over 2048 transitions, minibatches of 1024, half of the
slots present) at 16 to 256 slots, the exponents of its growth, what half-full observations cost of full ones, and the
most memory that a process takes for one rollout and one update, PyTorch's own included. All rows take turns in every
round, on one thread.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from benchmarks.speed import Contender
from benchmarks.speed_rows import ROWS, SETTINGS

COUNTS = (16, 32, 64, 128, 256)
NETWORKS = ("ours-1", "ours-2")
SPANS = ((16, 64), (64, 256))
RIVALS = ("mlp", "ours-1", "ours-2", "encoder-2")
NEARLY_FULL = 0.999  # of the slots; a share of 1 leaves the crowd nothing to draw


def setting(n_slots: int, presence: float = 0.5):
    """The reference setting with so many slots."""
    return replace(SETTINGS["large"], n_slots=n_slots, presence=presence)


def update_times(cases: dict[object, Contender], rounds: int) -> dict[object, list[float]]:
    """Seconds of an update, round by round."""
    for contender in cases.values():
        contender.round()  # warm up
    times: dict[object, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, contender in cases.items():
            times[case].append(contender.round()["update"])
    return times


def exponent(times: dict[object, list[float]], network: str, span: tuple[int, int]) -> float:
    """Of the growth of the median time between two numbers of slots."""
    few, many = (median(times[network, n]) for n in span)
    return math.log(many / few) / math.log(span[1] / span[0])


def peak_memory(row: str, n_slots: int) -> float:
    """MiB that a fresh process takes at most for one rollout and one update, imports included."""
    command = [sys.executable, "-m", "benchmarks.growth", "--memory-of", row, "--slots", str(n_slots)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def print_own_memory(row: str, n_slots: int) -> None:
    """What this process took at most, in MiB (Linux)."""
    Contender(ROWS[row], setting(n_slots)).round()
    status = Path("/proc/self/status").read_text()  # getrusage would count the parent's memory
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    if arguments.memory_of:
        return print_own_memory(arguments.memory_of, arguments.slots)
    times = update_times(
        {(name, n): Contender(ROWS[name], setting(n)) for name in NETWORKS for n in COUNTS}, arguments.rounds
    )
    spans = [f"exponent {few} to {many}" for few, many in SPANS]
    print("| network | " + " | ".join([*(f"{n} slots" for n in COUNTS), *spans]) + " |")
    print("|---|" + "---|" * (len(COUNTS) + len(SPANS)))
    for name in NETWORKS:
        cells = [f"{1e3 * median(times[name, n]):.0f} ms" for n in COUNTS]
        print("| " + " | ".join([name, *cells, *(f"{exponent(times, name, span):.2f}" for span in SPANS)]) + " |")
    print("\n| network | slots | half-present / full |\n|---|---|---|")
    for name in NETWORKS:
        for n in (16, 64):
            pair = {share: Contender(ROWS[name], setting(n, share)) for share in (0.5, NEARLY_FULL)}
            half, full = update_times(pair, arguments.rounds).values()
            print(f"| {name} | {n} | {median(h / f for h, f in zip(half, full, strict=True)):.2f} |")
    print("\n| row | " + " | ".join(f"{n} slots" for n in (16, 256)) + " |\n|---|---|---|")
    for name in RIVALS:
        print(f"| {name} | " + " | ".join(f"{peak_memory(name, n):.0f} MiB" for n in (16, 256)) + " |")
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--memory-of", choices=ROWS, help="print the memory of one row and leave (used by the command itself)"
    )
    parser.add_argument("--slots", type=int, default=16)
    main(parser.parse_args())
