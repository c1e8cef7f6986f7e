"""Structured actions against independent ones: Squad, Pick, and a game whose right target differs by verb.

    python -m benchmarks.structured                  # what is not yet in docs/results/structured.csv
    python -m benchmarks.structured --sweep          # learning rates, on a seed of their own
    python -m benchmarks.structured --table          # what docs/actions.md shows
    python -m benchmarks.structured --cost           # steps a second: an order for each of 8 units, one pointer

Every policy trains with the best of the rates in ``structured_sweep.csv``; the same steps for all.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from attn_rl import make_agent, make_vec_env
from attn_rl.training.evaluation import evaluate
from attn_rl.training.loading import DoesNotFit
from attn_rl.training.presets import find_preset
from benchmarks.intervals import interquartile_mean, interval
from benchmarks.learning import run_and_append
from benchmarks.verb_task import ACTIONS as VERBS
from benchmarks.verb_task import VerbTask
from envs.squad import ACTIONS as SQUAD

RATES = (2e-3, 5e-3)
SWEEP_SEED = 100
EPISODES = 1000


@dataclass(frozen=True)
class Task:
    """A game.

    Attributes:
        env: id, or class.
        steps: of training.
        policies: name -> policy of ``make_agent`` and declaration; None = the environment's, {} = none: SB3's heads.
        further: arguments of another evaluation.
    """

    env: Any
    steps: int
    policies: Mapping[str, tuple[str, Mapping[str, Any] | None]]
    further: Mapping[str, Any] | None = None


def independent(actions: Mapping[str, Mapping[str, Any]], masks: bool) -> dict[str, dict[str, Any]]:
    """The same arguments, none of which knows of another."""
    dropped = ("mask_by",) if masks else ("mask", "mask_by")
    return {
        name: {key: value for key, value in fields.items() if key not in dropped} | {"sees": ()}
        for name, fields in actions.items()
    }


def _pick(**fields: object) -> dict[str, dict[str, object]]:
    return {"taken": {"points_at": "items", "take": 4, **fields}}


TASKS = {
    "Squad": Task(
        "AttnRL/Squad-v0",
        60_000,
        {
            "attention": ("attention", None),
            "independent heads": ("attention", independent(SQUAD, masks=False)),
            "attention, SB3's heads": ("attention", {}),
            "deepsets": ("deepsets", None),
            "flat": ("flat", {}),
        },
        {"min_entities": {"units": 16, "enemies": 20}, "max_entities": {"units": 16, "enemies": 20}},
    ),
    "Pick": Task(
        "AttnRL/Pick-v0",
        60_000,
        {
            "attention": ("attention", _pick(draw="in_turn")),
            "attention, set": ("attention", _pick(draw="set")),
            "attention, SB3's heads": ("attention", {}),
            "deepsets": ("deepsets", _pick(draw="in_turn")),
            "flat": ("flat", {}),
        },
        {"min_entities": 16, "max_entities": 16, "capacity": 16},
    ),
    "Verbs": Task(
        VerbTask,
        10_000,
        {
            "attention": ("attention", None),
            "independent heads": ("attention", independent(VERBS, masks=True)),
            "deepsets": ("deepsets", None),
        },
    ),
}


@dataclass(frozen=True)
class Cell:
    """One training run."""

    task: str
    policy: str
    learning_rate: float
    seed: int


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train and evaluate; one row."""
    torch.set_num_threads(1)
    task = TASKS[cell.task]
    base, actions = task.policies[cell.policy]
    n_envs = find_preset(task.env).n_envs if isinstance(task.env, str) else 64
    env = make_vec_env(task.env, n_envs, seed=cell.seed)
    agent = make_agent(env, base, actions=actions, seed=cell.seed, learning_rate=cell.learning_rate)
    start = time.process_time()
    agent.learn(task.steps)
    row: dict[str, Any] = {**vars(cell), "steps": agent.num_timesteps, "cpu_seconds": time.process_time() - start}
    row["mean_return"], row["success"] = played(agent, task, {})
    further = played(agent, task, task.further) if task.further else ("", "")
    return row | {"further_return": further[0], "further_success": further[1]}


def played(agent: Any, task: Task, env_kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Mean return and success rate; empty where the policy cannot be asked."""
    if isinstance(task.env, str):
        try:
            found = evaluate(agent, task.env, dict(env_kwargs), episodes=EPISODES)
        except DoesNotFit:
            return "", ""
        return found.mean_return, found.success_rate
    env = make_vec_env(task.env, 100, seed=10_000)
    obs: Any = env.reset()
    rewards = []
    for _ in range(EPISODES // 100):
        obs, reward, _, _ = env.step(agent.predict(obs, deterministic=True)[0])
        rewards.append(reward)
    return float(np.mean(rewards)), float(np.mean(rewards))


def rows_of(path: Path) -> list[dict[str, str]]:
    """What a CSV holds."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def best_rate(rows: list[dict[str, str]], task: str, policy: str) -> float:
    """The rate with the largest mean return in the sweep; 3e-3 where there was none."""
    swept = [row for row in rows if (row["task"], row["policy"]) == (task, policy)]
    best = max(swept, key=lambda row: float(row["mean_return"]), default={"learning_rate": "3e-3"})
    return float(best["learning_rate"])


def table(rows: list[dict[str, str]]) -> str:
    """Interquartile mean over the seeds and its 95% interval, as Markdown."""
    lines = ["| task | policy | rate | seeds | mean return | success | twice the size | CPU s |", "|" + "---|" * 8]
    for name, task in TASKS.items():
        for policy in task.policies:
            found = [row for row in rows if (row["task"], row["policy"]) == (name, policy)]
            if not found:
                continue
            columns = [_told(found, column) for column in ("mean_return", "success", "further_return")]
            seconds = np.mean([float(row["cpu_seconds"]) for row in found])
            rate = float(found[0]["learning_rate"])
            told = [name, policy, f"{rate:g}", str(len(found)), *columns, f"{seconds:.0f}"]
            lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines)


def _told(rows: list[dict[str, str]], column: str) -> str:
    values = np.array([float(row[column]) for row in rows if row[column]])
    if not len(values):
        return "–"
    low, high = interval([values])
    return f"{interquartile_mean(values):.3f} [{low:.3f}, {high:.3f}]"


@dataclass
class Args:
    """Structured actions against independent ones; see the module's docstring."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Games, by name."""
    policies: tuple[str, ...] = ()
    """Policies, by name; none = all."""
    seeds: int = 5
    """Seeds 0 to seeds-1."""
    sweep: bool = False
    """Compare learning rates instead."""
    table: bool = False
    """Print the table."""
    cost: bool = False
    """Measure steps a second."""
    workers: int = 1
    """Processes side by side."""
    out: Path = Path("docs/results")
    """Folder of the CSV files."""


def main(args: Args) -> None:
    """Run what is not there yet, or print what is."""
    if args.cost:
        from benchmarks.structured_cost import print_cost

        print_cost(args.out / "structured_cost.csv")
        return
    swept, path = rows_of(args.out / "structured_sweep.csv"), args.out / "structured.csv"
    if args.table:
        print(table(rows_of(path)))
        return
    path = args.out / "structured_sweep.csv" if args.sweep else path
    done = {(row["task"], row["policy"], float(row["learning_rate"]), int(row["seed"])) for row in rows_of(path)}
    cells = [
        Cell(task, policy, rate, seed)
        for seed in ([SWEEP_SEED] if args.sweep else range(args.seeds))
        for task in args.tasks
        for policy in TASKS[task].policies
        if not args.policies or policy in args.policies
        for rate in (RATES if args.sweep else [best_rate(swept, task, policy)])
    ]
    todo = [cell for cell in cells if tuple(vars(cell).values()) not in done]
    run_and_append(run_cell, todo, path, args.workers)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
