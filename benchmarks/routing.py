"""Tours through published cities: a trained agent beside nearest neighbour, farthest insertion and the optimum.

    python -m benchmarks.routing --rules          # seconds: rules alone
    python -m benchmarks.routing --cities 20 --steps 2000000 --seeds 1

The first 1,000 of the test instances of Kool et al. 2019, in the unit square. Trains what ``docs/results/routing.csv``
does not hold yet, and prints the table. The page that quotes it: ``docs/scheduling.md``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from attn_rl.envs.tours import greedy_length, insertion_length, kool_cities

from attn_rl import make_agent, make_vec_env, solve
from benchmarks.learning import run_and_append
from benchmarks.results import read_csv
from benchmarks.tables import markdown

ID = "AttnRL/Route-v0"
COUNT = 1_000
OPTIMA = {20: 3.84, 50: 5.70}
"""Mean lengths of the shortest tours through all 10,000, as Kool et al. give them."""
N_ENVS, N_STEPS, MINIBATCHES = 512, 20, 8


class Cell(NamedTuple):
    """One agent."""

    policy: str
    shared_baseline: int
    cities: int
    steps: int
    samples: int
    seed: int


def make_env(n_cities: int, n_envs: int, seed: int | None = None) -> Any:
    """Tours through so many cities."""
    return make_vec_env(ID, n_envs, seed=seed, env_kwargs={"min_entities": n_cities, "max_entities": n_cities})


def run(cell: Cell) -> dict[str, Any]:
    """Train one agent and test it: a row of the CSV."""
    torch.set_num_threads(1)
    env = make_env(cell.cities, N_ENVS, cell.seed)
    settings = {"n_steps": N_STEPS, "batch_size": N_ENVS * N_STEPS // MINIBATCHES, "gae_lambda": 1.0}
    agent = make_agent(env, cell.policy, seed=cell.seed, shared_baseline=cell.shared_baseline, **settings)
    start = time.process_time()
    agent.learn(cell.steps)
    row = {**cell._asdict(), "cpu_seconds": round(time.process_time() - start)}
    row["parameters"] = sum(p.numel() for p in agent.policy.parameters())
    for n in OPTIMA:
        torch.manual_seed(cell.seed)
        cities = {"cities": 2 * kool_cities(n, COUNT) - 1}
        solved = solve(agent, make_env(n, COUNT), cell.samples, options=cities)
        for name, found in (("greedy", solved.greedy), ("best", solved.best), ("symmetric", solved.symmetric)):
            row[f"{name}_{n}"] = "" if found is None else round(float(found.scores["tour_length"].mean()) / 2, 4)
    return row


def key(row: dict[str, str]) -> Cell:
    """The cell that a row of the CSV holds."""
    numbers = (int(row[name]) for name in ("shared_baseline", "cities", "steps", "samples", "seed"))
    return Cell(row["policy"], *numbers)


def rules(count: int = COUNT) -> dict[str, list[float]]:
    """Mean tour lengths of rules at each number of cities."""
    found: dict[str, list[float]] = {"nearest neighbour": [], "farthest insertion": []}
    for n in OPTIMA:
        lengths: dict[str, list[np.ndarray]] = {name: [] for name in found}
        for some in np.array_split(kool_cities(n, count), max(count // 200, 1)):
            distance = np.linalg.norm(some[:, :, None] - some[:, None], axis=-1)
            there = np.ones(distance.shape[:2], bool)
            lengths["nearest neighbour"].append(greedy_length(distance, np.zeros(len(some), np.int64), there))
            lengths["farthest insertion"].append(insertion_length(distance))
        for name, parts in lengths.items():
            found[name].append(float(np.concatenate(parts).mean()))
    return found


def figure(length: float, n: int) -> str:
    """A mean length, and how far it is beyond the published optimum."""
    return f"{length:.3f} ({100 * (length / OPTIMA[n] - 1):.1f}%)"


def table(rows: list[dict[str, str]]) -> str:
    """Rules, then a line for each agent and way to solve."""
    lines = [
        [name, "", *map(figure, lengths, OPTIMA)]
        for name, lengths in [("optimum", [*OPTIMA.values()]), *rules().items()]
    ]
    for row in rows:
        cell = key(row)
        name = f"{cell.policy}, {cell.cities} cities, {cell.steps:,} steps, baseline of {cell.shared_baseline}"
        for way in ("greedy", "best", "symmetric"):
            lines.append([f"{name}: {way}", row["cpu_seconds"], *(figure(float(row[f"{way}_{n}"]), n) for n in OPTIMA)])
    return markdown(["", "CPU s", *(f"{n} cities" for n in OPTIMA)], lines)


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the table."""
    rows = read_csv(arguments.out) if arguments.out.exists() else []
    cells = [
        Cell(policy, shared, arguments.cities, arguments.steps, arguments.samples, seed)
        for seed in range(arguments.seeds)
        for policy in arguments.policies
        for shared in arguments.shared_baseline
    ]
    if not arguments.rules:
        held = {key(row) for row in rows}
        run_and_append(run, [cell for cell in cells if cell not in held], arguments.out, arguments.workers)
        rows = read_csv(arguments.out)
    print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=["attention"], choices=["attention", "deepsets"])
    parser.add_argument("--shared-baseline", nargs="+", type=int, default=[8], help="rollouts of each game")
    parser.add_argument("--cities", type=int, default=20, help="in training")
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--samples", type=int, default=32, help="per instance, of which the best counts")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="agents side by side")
    parser.add_argument("--rules", action="store_true", help="nothing else is trained")
    parser.add_argument("--out", type=Path, default=Path("docs/results/routing.csv"))
    main(parser.parse_args())
