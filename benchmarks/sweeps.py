"""Training speed along one size at a time: slots, width, environments, share of slots present. One command::

    python -m benchmarks.sweeps                     # all four
    python -m benchmarks.sweeps --axes d_model      # one

Everything else as in the reference setting (``benchmarks.speed``, ``large``). The rows of a value take turns in every
round, on one thread; printed are medians in steps/s and, round by round, how many times as fast two layers of ours are
as two of ``nn.TransformerEncoder``, with quartiles.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import median

import torch

from benchmarks.speed import measure, ratio
from benchmarks.speed_rows import SETTINGS, Setting

AXES: dict[str, tuple[float, ...]] = {
    "n_slots": (4, 16, 64, 256, 512),
    "d_model": (16, 32, 64, 128, 256),
    "n_envs": (1, 8, 64, 256),
    "presence": (0.125, 0.25, 0.5, 0.75, 0.999),  # a share of 1 leaves the crowd nothing to draw
}
ROWS = ("mlp", "ours-1", "ours-2", "encoder-2")
DEAR = "encoder-2"
MOST_SLOTS = 64  # beyond, a round of the dear row takes minutes


def setting_of(axis: str, value: float) -> Setting:
    """The reference setting with one size changed; the rollout keeps its 2048 transitions."""
    large = SETTINGS["large"]
    if axis == "n_envs":
        return replace(large, n_envs=int(value), n_steps=large.n_envs * large.n_steps // int(value))
    return replace(large, **{axis: value})


def line(axis: str, value: float, rounds: int) -> str:
    """One value of one size, as a line of a table."""
    setting = setting_of(axis, value)
    rows = [row for row in ROWS if row != DEAR or setting.n_slots <= MOST_SLOTS]
    results = measure(rows, setting, rounds)
    transitions = setting.n_envs * setting.n_steps
    cells = [f"{value:g}"]
    for row in ROWS:
        told = results[row]["rounds"] if row in results else []
        cells.append(f"{transitions / median(r['total'] for r in told):,.0f}" if told else "–")
    cells.append("{:.2f} ({:.2f} to {:.2f})".format(*ratio(results, "ours-2", DEAR)) if DEAR in results else "–")
    return f"| {' | '.join(cells)} |"


def main(arguments: argparse.Namespace) -> None:
    """Measure and print, value by value."""
    torch.set_num_threads(1)
    for axis in arguments.axes:
        print(f"\n| {axis} | {' | '.join(ROWS)} | ours-2 / {DEAR} (quartiles) |\n" + "|---" * (len(ROWS) + 2) + "|")
        for value in AXES[axis]:
            print(line(axis, value, arguments.rounds), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args())
