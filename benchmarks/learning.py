"""Train environments x policies x seeds and append every finished cell to one tidy CSV.

    python benchmarks/learning.py                                   # everything that is not there yet
    python benchmarks/learning.py --envs Seek Boxes --policies attention deepsets --seeds 5
    python benchmarks/learning.py --sweep --envs Dodge              # learning rates, on seeds of their own

Cells run in parallel over processes of one thread each. A finished cell is never run again nor overwritten; stop the
command whenever you like and start it again. ``benchmarks/report.py`` turns the CSV into tables and plots.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback

from attn_rl import make_agent, make_vec_env
from attn_rl.training.evaluation import evaluate
from attn_rl.training.loading import DoesNotFit
from attn_rl.training.presets import Settings, find_preset, override

ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "Match": ("AttnRL/Match-v0", {}),
    "Match odd": ("AttnRL/Match-v0", {"rule": "odd"}),
    "Seek": ("AttnRL/Seek-v0", {}),
    "Dodge": ("AttnRL/Dodge-v0", {}),
    "Boxes": ("AttnRL/Boxes-v0", {}),
    "Forage": ("AttnRL/Forage-v0", {}),
    "Triage": ("AttnRL/Triage-v0", {}),
    "Tiles": ("AttnRL/Tiles-v0", {}),
    "CherryPick": ("AttnRL/CherryPick-v0", {}),
    "Match odd, 500k": ("AttnRL/Match-v0", {"rule": "odd"}),
    "Dodge, 800k": ("AttnRL/Dodge-v0", {}),
}
LONGER: dict[str, tuple[int, dict[str, dict[str, Any]]]] = {
    "Match odd, 500k": (500_000, {"plain attention": {"learning_rate": 6e-3}, "deepsets": {}}),
    "Dodge, 800k": (800_000, {"attention": {}, "deepsets": {}}),
}
"""Do the policies that fail merely need more steps? Steps, policies and their settings; no part of the comparison. Each
at the better of two rates on a seed of its own: odd, plain attention .891 at 6e-3, .815 at 3e-3; Dodge, with
normalisation, attention .967 (.753 among 16) at 5e-3, .966 (.726) at 8e-3, DeepSets .953 (.727) and .960 (.756)."""
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": ("attention", {}),
    "plain attention": ("attention", {"relations": "off"}),
    "deepsets": ("deepsets", {}),
    "relations=features": ("attention", {"relations": "features", "learning_rate": 5e-3}),
    "flat": ("flat", {}),
    "flat, sorted": ("flat", {"sort_by": "distance"}),
}
ONLY_IN = {  # where entities have a distance; where entities attend to entities of one type
    "flat, sorted": ("Seek", "Dodge"),
    "relations=features": ("Match odd",),
}
SWEEP_RATES = (2e-3, 3e-3, 5e-3, 8e-3)
SWEEP_SEED = 100
THRESHOLDS = (0.9, 0.95)


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        environment: key of ``ENVIRONMENTS``.
        policy: key of ``POLICIES``.
        seed: of everything in the run.
        learning_rate: at the start.
    """

    environment: str
    policy: str
    seed: int
    learning_rate: float


@dataclass
class Args:
    """Train environments x policies x seeds; see the module's docstring."""

    envs: tuple[str, ...] = tuple(ENVIRONMENTS)
    """Environments, by name."""
    policies: tuple[str, ...] = tuple(POLICIES)
    """Policies, by name."""
    seeds: int = 5
    """Seeds 0 to seeds-1."""
    sweep: bool = False
    """Compare learning rates on seeds of their own instead; into sweep.csv."""
    workers: int = 2
    """Processes side by side; no more than there are cores."""
    out: Path = Path("docs/results")
    """Folder of the CSV files."""
    models: Path = Path("runs/learning")
    """Folder of the trained agents."""


class LearningCurve(BaseCallback):
    """Success over the last 500 episodes, after every rollout: (steps, CPU seconds, success)."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, float, float]] = []

    def _on_training_start(self) -> None:
        self._start = time.process_time()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        successes = self.model.ep_success_buffer or ()
        if successes:
            seconds = time.process_time() - self._start
            self.points.append((self.num_timesteps, round(seconds, 2), round(float(np.mean(successes)), 4)))

    def reached(self, threshold: float) -> tuple[int, float] | None:
        """Steps and CPU seconds at which success first reached the threshold."""
        return next(((steps, seconds) for steps, seconds, success in self.points if success >= threshold), None)


def model_path(folder: Path, cell: Cell) -> Path:
    """Where the trained agent of a cell is kept."""
    name = f"{cell.environment} {cell.policy} {cell.seed} {cell.learning_rate:g}"
    return folder / f"{name.replace(' ', '-')}.zip"


def run_cell(cell: Cell, models: Path) -> list[dict[str, Any]]:
    """Train, keep and evaluate one cell; returns one row per evaluated entity count."""
    torch.set_num_threads(1)
    env_id, env_kwargs = ENVIRONMENTS[cell.environment]
    base, changes = POLICIES[cell.policy]
    preset = find_preset(env_id, env_kwargs)
    env = make_vec_env(env_id, preset.n_envs, seed=cell.seed, env_kwargs=env_kwargs)
    agent = make_agent(env, base, seed=cell.seed, **changes | {"learning_rate": cell.learning_rate})
    agent._stats_window_size = 500
    curve = LearningCurve()
    cpu = time.process_time()
    steps, _ = LONGER.get(cell.environment, (preset.total_timesteps, {}))
    agent.learn(steps, callback=curve)
    cpu = time.process_time() - cpu
    agent.save(model_path(models, cell))
    facts = {
        "environment": cell.environment,
        "policy": cell.policy,
        "seed": cell.seed,
        "learning_rate": cell.learning_rate,
        "parameters": sum(p.numel() for p in agent.policy.parameters()),
        "total_timesteps": agent.num_timesteps,
        "cpu_seconds": round(cpu, 1),
        "curve": json.dumps(curve.points),
    }
    for threshold in THRESHOLDS:
        steps, seconds = curve.reached(threshold) or ("", "")
        facts |= {f"steps_to_{threshold:g}": steps, f"seconds_to_{threshold:g}": seconds}
    rows = []
    for change in ({}, *preset.transfer):
        try:
            row = asdict(evaluate(agent, env_id, {**env_kwargs, **change}))
        except DoesNotFit:
            continue
        rows.append(facts | {"evaluated_on": json.dumps(change), **row})
        facts = facts | {"curve": ""}  # once per cell is enough
    return rows


def finished(path: Path) -> set[Cell]:
    """The cells that the CSV already holds."""
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {
            Cell(row["environment"], row["policy"], int(row["seed"]), float(row["learning_rate"]))
            for row in csv.DictReader(file)
        }


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add one cell's rows at once, so that an interrupted run never leaves half a cell."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())


def run_and_append(run: Callable[[Any], dict[str, Any]], cells: Iterable[Any], path: Path, workers: int) -> None:
    """Run cells side by side; each adds its row to the CSV, and is printed, when it is finished.

    Args:
        run: cell -> row; must be a module's function, or a partial of one.
        cells: what is to run.
        path: of the CSV.
        workers: processes of one thread each.
    """
    with ProcessPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(run, cell) for cell in cells]):
            append(path, [future.result()])
            print(future.result(), flush=True)


def settings_of(environment: str, policy: str) -> Settings:
    """The settings that a policy is compared with in an environment."""
    base, changes = POLICIES[policy]
    _, longer = LONGER.get(environment, (0, {}))
    return override(find_preset(*ENVIRONMENTS[environment]).settings(base), changes | longer.get(policy, {}))


def planned(args: Args) -> list[Cell]:
    """All cells asked for, each with its learning rate spelled out; seeds outermost, so that all policies progress."""
    seeds = [SWEEP_SEED] if args.sweep else range(args.seeds)
    cells = []
    for environment in args.envs:
        for seed in seeds:
            for policy in args.policies:
                _, wanted = LONGER.get(environment, (0, args.policies))
                if environment not in ONLY_IN.get(policy, args.envs) or policy not in wanted:
                    continue
                rates = SWEEP_RATES if args.sweep else (settings_of(environment, policy).learning_rate,)
                cells += [Cell(environment, policy, seed, rate) for rate in rates]
    return cells


def main(args: Args) -> None:
    """Run what is not there yet."""
    path = args.out / ("sweep.csv" if args.sweep else "learning.csv")
    done = finished(path)
    todo = [cell for cell in planned(args) if cell not in done]
    print(f"{len(done)} cells in {path}, {len(todo)} to run")
    with ProcessPoolExecutor(args.workers) as pool:
        running = {pool.submit(run_cell, cell, args.models): cell for cell in todo}
        for future in as_completed(running):
            rows = future.result()
            append(path, rows)
            cell, first = running[future], rows[0]
            print(
                f"{cell.environment} {cell.policy} seed {cell.seed} lr {cell.learning_rate:g}: success "
                f"{', '.join(str(row['success_rate']) for row in rows)}; 95% at {first['steps_to_0.95'] or '-'} steps",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
