"""Named arms, five seeds each: what geometry is worth in a mine field, and how far Dodge and Forage go.

    python -m benchmarks.arms                           # what docs/results/arms.csv lacks: 25 CPU minutes
    python -m benchmarks.arms --arms "Mines, declared"     # one arm
    python -m benchmarks.arms --table                      # the table that docs/results.md quotes

An arm is an environment with its arguments, the settings over its preset's, and a number of steps. Every seed is
trained, then evaluated on held-out episodes at the trained counts and at each of ``transfer``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from attn_rl.envs.mines import MinesEnv, MinesVectorEnv

from attn_rl import make_agent, make_vec_env
from attn_rl.training.evaluation import evaluate
from attn_rl.training.presets import find_preset
from benchmarks.learning import LearningCurve, run_and_append
from benchmarks.results import read_csv

SCALED = {"normalize_advantage": False, "normalize_reward": True}
"""Rewards by the spread of returns, advantages as they are: the general default, not these presets'."""


class OnTheMap(MinesVectorEnv):
    """Mines as somebody has it who declares nothing."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.metadata = {**self.metadata, "kinds": {}}


class Unturned(MinesVectorEnv):
    """Mines with positions seen from the vehicle, but along the axes of the map."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.metadata = {**self.metadata, "kinds": {"position": {**self.metadata["kinds"]["position"], "heading": {}}}}


class OnTheMapEnv(MinesEnv):
    """One game."""

    rules = OnTheMap


class UnturnedEnv(MinesEnv):
    """One game."""

    rules = Unturned


for _name, _one, _many in (("OnTheMap", OnTheMapEnv, OnTheMap), ("Unturned", UnturnedEnv, Unturned)):
    gym.register(f"Benchmarks/{_name}-v0", entry_point=_one, vector_entry_point=_many)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Arm:
    """What is trained.

    Attributes:
        env_id: of the environment.
        steps: of training.
        settings: over the preset's, and ``policy`` where it is not attention.
        env_kwargs: arguments of the environment.
        transfer: per further evaluation, changes of the arguments.
    """

    env_id: str
    steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    transfer: tuple[Mapping[str, Any], ...] = ({"min_entities": 15, "max_entities": 15, "capacity": 15},)


_MANY = tuple({"min_entities": n, "max_entities": n, "capacity": n} for n in (12, 16))
ARMS: dict[str, Arm] = {
    "Mines, declared": Arm("AttnRL/Mines-v0", 500_000),
    "Mines, nothing declared": Arm("Benchmarks/OnTheMap-v0", 500_000),
    "Mines, positions without heading": Arm("Benchmarks/Unturned-v0", 500_000),
    "Mines in one place, nothing declared": Arm("Benchmarks/OnTheMap-v0", 500_000, {}, {"map_size": 0.0}),
    "Mines, declared, deepsets": Arm("AttnRL/Mines-v0", 500_000, {"policy": "deepsets"}),
    "Mines, declared, flat": Arm("AttnRL/Mines-v0", 500_000, {"policy": "flat"}, transfer=()),
    "Dodge, rewards scaled": Arm("AttnRL/Dodge-v0", 300_000, SCALED, transfer=_MANY),
    "Forage, rewards scaled": Arm(
        *("AttnRL/Forage-v0", 600_000, {**SCALED, "normalize": False, "gamma": 0.95}),
        transfer=find_preset("AttnRL/Forage-v0").transfer,
    ),
}


@dataclass
class Args:
    """Train what is not there yet; see the module's docstring."""

    arms: tuple[str, ...] = tuple(ARMS)
    """Which, by name."""
    seeds: int = 5
    """Seeds 0 to seeds-1."""
    workers: int = 1
    """Processes side by side."""
    out: Path = Path("docs/results/arms.csv")
    """The CSV file."""
    table: bool = False
    """Print the table of what is there, and train nothing."""


def run(cell: tuple[str, int], episodes: int = 1000, steps: int | None = None) -> dict[str, Any]:
    """Train and evaluate one seed of an arm; the row of the CSV.

    Args:
        cell: name of the arm, seed.
        episodes: of every evaluation.
        steps: in place of the arm's.
    """
    torch.set_num_threads(1)
    name, seed = cell
    arm = ARMS[name]
    settings = dict(arm.settings)
    policy = settings.pop("policy", "attention")
    env = make_vec_env(arm.env_id, find_preset(arm.env_id).n_envs, seed=seed, env_kwargs=dict(arm.env_kwargs))
    agent = make_agent(env, policy, seed=seed, **settings)
    agent._stats_window_size = 500
    curve, cpu = LearningCurve(), time.process_time()
    agent.learn(steps or arm.steps, callback=curve)
    cpu = time.process_time() - cpu
    rates = [
        evaluate(agent, arm.env_id, {**arm.env_kwargs, **change}, episodes=episodes).success_rate
        for change in ({}, *arm.transfer)
    ]
    reached = curve.reached(0.95)
    return {
        **{"arm": name, "seed": seed, "steps": agent.num_timesteps, "cpu_seconds": round(cpu, 1)},
        **{"settings": json.dumps(dict(arm.settings)), "success": rates[0], "transfer": json.dumps(rates[1:])},
        "steps_to_95": "" if reached is None else reached[0],
    }


def table(rows: list[dict[str, str]]) -> str:
    """Success of every seed, in ascending order, and where it never was, as Markdown."""
    lines = ["| arm, steps | success | elsewhere, mean | 95% at | CPU seconds |", "|---|---|---|---|---:|"]
    for name in ARMS:
        mine = [row for row in rows if row["arm"] == name]
        if not mine:
            continue
        rates = " ".join(f"{float(row['success']):.3f}".lstrip("0") for row in sorted(mine, key=lambda r: r["success"]))
        elsewhere = np.mean([json.loads(row["transfer"]) for row in mine], 0)
        far = ", ".join(f"{rate:.3f}".lstrip("0") for rate in np.atleast_1d(elsewhere))
        first = sorted(int(row["steps_to_95"]) for row in mine if row["steps_to_95"])
        reached = "never" if not first else f"{first[0] // 1000}k to {first[-1] // 1000}k"
        if 0 < len(first) < len(mine):
            reached += f", {len(first)} of {len(mine)}"
        seconds = np.mean([float(row["cpu_seconds"]) for row in mine])
        lines.append(f"| {name}, {ARMS[name].steps // 1000}k | {rates} | {far or '–'} | {reached} | {seconds:.0f} |")
    return "\n".join(lines)


def main(args: Args) -> None:
    """Run what is not there yet, seeds outermost; or print the table."""
    rows = read_csv(args.out) if args.out.exists() else []
    if args.table:
        print(table(rows))
        return
    done = {(row["arm"], int(row["seed"])) for row in rows}
    todo = [(name, seed) for seed in range(args.seeds) for name in args.arms if (name, seed) not in done]
    run_and_append(partial(run), todo, args.out, args.workers)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
