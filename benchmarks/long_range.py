"""How far trained agents reach: success against chain length (Boxes) and against the number of entities.

    python benchmarks/learning.py --envs Match "Match odd" Seek Boxes   # trains and keeps the agents
    python benchmarks/long_range.py --models runs/learning

Evaluates the agents of the cells in learning.csv, without further training, and appends to long_range.csv; what is
there already is not played again. ``benchmarks/report.py`` plots it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that the script finds its neighbours

from attn_rl import load, make_vec_env
from attn_rl.training.evaluation import evaluate
from attn_rl.training.loading import DoesNotFit
from benchmarks.learning import ENVIRONMENTS, Cell, append, finished, model_path
from benchmarks.results import read_csv

TASKS: dict[str, tuple[str, tuple[int, ...]]] = {
    "Match": ("entities", (4, 8, 16, 32, 64, 128, 256)),
    "Match odd": ("entities", (4, 8, 16, 32, 64, 128, 256)),
    "Seek": ("entities", (4, 8, 16, 32, 64)),
    "Boxes": ("depth", (2, 3, 4, 5, 6)),
}
MOST_COLOURS = 4**3  # of Match's usual lattice


@dataclass
class Args:
    """Evaluate kept agents far outside of what they were trained on; see the module's docstring."""

    models: Path = Path("runs/learning")
    """Folder of the agents that benchmarks/learning.py keeps."""
    results: Path = Path("docs/results")
    """Folder of learning.csv and long_range.csv."""
    episodes: int = 1000
    """Episodes for each agent and point."""


def changes(environment: str, axis: str, value: int, slots: int) -> dict[str, Any]:
    """Arguments of the environment at one point of the axis.

    Args:
        environment: key of ``TASKS``.
        axis: ``"depth"`` or ``"entities"``.
        value: boxes on the way to the gem, or entities.
        slots: slots in training; never fewer, so that networks of a fixed size can take part while they fit.
    """
    if axis == "depth":
        most = value + 3 * (value - 1)  # up to three dead ends at each fork
        return {"min_depth": value, "max_depth": value, "capacity": max(most, slots)}
    counts = {"min_entities": value, "max_entities": value, "capacity": max(value, slots)}
    colours = {"Match": value, "Match odd": (value - 1) // 2 + 1}.get(environment, 0)
    return counts | ({"levels": 7} if colours > MOST_COLOURS else {})


def trained_range(environment: str, axis: str) -> tuple[int, int, int]:
    """Least and greatest value of the axis in training, and the number of slots."""
    env_id, env_kwargs = ENVIRONMENTS[environment]
    env = make_vec_env(env_id, 1, env_kwargs=env_kwargs)
    low, high, slots = (env.get_attr(name)[0] for name in (f"min_{axis}", f"max_{axis}", "capacity"))
    env.close()
    return low, high, slots


def rows_of(cell: Cell, path: Path, done: Iterable[int], episodes: int) -> list[dict[str, Any]]:
    """Evaluate one agent at the points that are not done yet; where its network does not fit, the axis ends."""
    axis, values = TASKS[cell.environment]
    env_id, env_kwargs = ENVIRONMENTS[cell.environment]
    low, high, slots = trained_range(cell.environment, axis)
    agent = load(path, trust=True)
    rows = []
    for value in sorted(set(values) - set(done)):
        try:
            row = evaluate(
                agent, env_id, {**env_kwargs, **changes(cell.environment, axis, value, slots)}, episodes=episodes
            )
        except DoesNotFit:
            break
        point = {"axis": axis, "value": value, "trained_from": low, "trained_to": high}
        figures = {name: asdict(row)[name] for name in ("episodes", "success_rate", "top1_relevant")}
        rows.append({**asdict(cell), **point, **figures})
    return rows


def main(args: Args) -> None:
    """Evaluate what is not there yet."""
    torch.set_num_threads(1)
    out = args.results / "long_range.csv"
    done: dict[Cell, list[int]] = {}
    for row in read_csv(out) if out.exists() else []:
        cell = Cell(row["environment"], row["policy"], int(row["seed"]), float(row["learning_rate"]))
        done.setdefault(cell, []).append(int(row["value"]))
    order = list(TASKS)
    cells = [cell for cell in finished(args.results / "learning.csv") if cell.environment in TASKS]
    for cell in sorted(cells, key=lambda cell: (order.index(cell.environment), cell.seed, cell.policy)):
        path = model_path(args.models, cell)
        if not path.exists():
            print(f"{path} is not there; run benchmarks/learning.py to train it")
            continue
        rows = rows_of(cell, path, done.get(cell, []), args.episodes)
        if rows:
            append(out, rows)
            points = ", ".join(f"{row['value']}: {row['success_rate']:.3f}" for row in rows)
            print(
                f"{cell.environment} {cell.policy} seed {cell.seed}, success by {rows[0]['axis']}: {points}", flush=True
            )


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
