"""Job shops: trained agents on published test instances, beside rules, optima and published figures.

    python -m benchmarks.scheduling              # attention and DeepSets at 6 x 6, 5 seeds
    python -m benchmarks.scheduling --policies attention --seeds 1 --samples 16
    python -m benchmarks.scheduling --size 10 --n-envs 256 --shared-baseline 1 8
    python -m benchmarks.scheduling --rules      # makespans of rules alone: a minute
    python -m benchmarks.scheduling --optimum 6  # by CP-SAT, with the extra "scheduling"

Trains what ``docs/results/scheduling.csv`` does not hold yet, appends each agent when it is finished, and prints the
table: mean makespans over L2D's 100 instances of each size, those that were not trained on zero-shot, and the mean
distance to the optimum over Taillard's ta01 to ta10. An agent of 500,000 steps takes 105 s of one core at 6 x 6, its
tests 65 s more. The page that quotes it: ``docs/environments.md``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from attn_rl.envs.job_shop_instances import TAILLARD_OPTIMA, Instances, l2d_instances, taillard_instances

from attn_rl import make_agent, make_vec_env, solve
from attn_rl.training.presets import find_preset
from benchmarks.learning import run_and_append
from benchmarks.results import read_csv
from benchmarks.tables import NONE, markdown

ID = "AttnRL/JobShop-v0"
POLICIES = ("attention", "deepsets")
SCHEDULES = ("active", "append", "non-delay", "insertion")
SIZES = (6, 10, 15)
PUBLISHED = {  # greedy makespans, as their papers give them
    "L2D (Zhang et al. 2020)": (574.1, 988.6, 1505.8),
    "Wheatley (Infantes et al. 2024)": (533.0, 920.1, 1414.5),
}


class Cell(NamedTuple):
    """One agent."""

    policy: str
    schedule: str
    normalize: bool
    shared_baseline: int
    size: int
    n_envs: int
    minibatches: int
    steps: int
    samples: int
    seed: int


def make_env(size: int, n_envs: int, schedule: str, seed: int | None = None) -> Any:
    """Job shops of one size."""
    kwargs = {"min_entities": size, "max_entities": size, "schedule": schedule}
    return make_vec_env(ID, n_envs, seed=seed, env_kwargs=kwargs)


def run(cell: Cell) -> dict[str, Any]:
    """Train one agent and test it: a row of the CSV."""
    torch.set_num_threads(1)
    env = make_env(cell.size, cell.n_envs, cell.schedule, cell.seed)
    settings = find_preset(ID).settings(cell.policy)
    agent = make_agent(
        env,
        cell.policy,
        seed=cell.seed,
        normalize_advantage=cell.normalize,
        shared_baseline=cell.shared_baseline,
        batch_size=cell.n_envs * settings.n_steps // cell.minibatches,
    )
    start = time.process_time()
    agent.learn(cell.steps)
    row = {**cell._asdict(), "cpu_seconds": round(time.process_time() - start)}
    row["parameters"] = sum(p.numel() for p in agent.policy.parameters())
    start = time.process_time()
    for size in SIZES:
        if size >= cell.size:
            greedy, best = test(agent, l2d_instances(size, size), cell)
            row |= {f"greedy_{size}": round(float(greedy.mean()), 2), f"best_{size}": round(float(best.mean()), 2)}
        else:
            row |= {f"greedy_{size}": "", f"best_{size}": ""}
    for name, makespans in zip(("greedy", "best"), test(agent, taillard_instances(), cell), strict=True):
        row[f"{name}_taillard_gap"] = round(float(np.mean(makespans / TAILLARD_OPTIMA - 1)), 4)
    return {**row, "test_cpu_seconds": round(time.process_time() - start)}


def test(agent: Any, instances: Instances, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Makespans of the greedy policy and of the best samples, one of each instance."""
    env = make_env(instances.duration.shape[1], len(instances.duration), cell.schedule)
    torch.manual_seed(cell.seed)
    solved = solve(agent, env, cell.samples, options={"instances": instances})
    return solved.greedy.scores["makespan"], (solved.best or solved.greedy).scores["makespan"]


def key(row: dict[str, str]) -> Cell:
    """The cell that a row of the CSV holds."""
    numbers = (
        int(row[name]) for name in ("shared_baseline", "size", "n_envs", "minibatches", "steps", "samples", "seed")
    )
    return Cell(row["policy"], row["schedule"], row["normalize"] == "True", *numbers)


def table(rows: list[dict[str, str]]) -> str:
    """One line per kind of agent, mean over the seeds with their spread: greedy / best of the samples."""
    lines = []
    for group in dict.fromkeys(key(row)[:-1] for row in rows):
        mine = [row for row in rows if key(row)[:-1] == group]
        policy, schedule, normalize, shared, size, n_envs, minibatches, steps, samples = group
        line = [policy, schedule, "to unit variance" if normalize else "as they are", str(shared), f"{size} x {size}"]
        line += [
            str(n_envs),
            str(minibatches),
            f"{steps:,}",
            mine[0]["parameters"],
            f"{np.mean([float(row['cpu_seconds']) for row in mine]):.0f}",
        ]
        line += [f"{figure(mine, f'greedy_{n}')} / {figure(mine, f'best_{n}')}" for n in SIZES]
        line += [" / ".join(figure(mine, f"{name}_taillard_gap", 100) for name in ("greedy", "best"))]
        lines.append([*line, str(samples), str(len(mine))])
    head = ["policy", "schedule", "advantages", "share a baseline", "trained", "n_envs", "minibatches", "steps"]
    head += ["parameters", "CPU s"]
    return markdown([*head, *(f"{n} x {n}" for n in SIZES), "ta01-10, %", "best of", "seeds"], lines)


def figure(rows: list[dict[str, str]], name: str, scale: float = 1.0) -> str:
    """Mean and, of several seeds, standard deviation of a column."""
    found = [scale * float(row[name]) for row in rows if row[name]]
    if not found:
        return NONE
    return f"{np.mean(found):.1f}" + (f" +- {np.std(found, ddof=1):.1f}" if len(found) > 1 else "")


def rules() -> str:
    """Makespans of rules without delay, and what others have published."""
    lines = []
    for name, feature in (("most work remaining", "work"), ("most work behind it", "after"), ("at random", None)):
        makespans = [play_rule(l2d_instances(n, n), feature).mean() for n in SIZES]
        gap = np.mean(play_rule(taillard_instances(), feature) / TAILLARD_OPTIMA - 1)
        lines.append([f"rule: {name}", *(f"{makespan:.1f}" for makespan in makespans), f"{100 * gap:.1f}"])
    lines += [[name, *map(str, figures), NONE] for name, figures in PUBLISHED.items()]
    return markdown(["", *(f"{n} x {n}" for n in SIZES), "ta01-10, %"], lines)


def play_rule(instances: Instances, feature: str | None) -> np.ndarray:
    """Makespans if, of the jobs that can start first, the one with most of a feature is named."""
    env = make_env(instances.duration.shape[1], len(instances.duration), "non-delay", seed=0)
    env.set_options({"instances": instances})
    obs, rng = env.reset(), np.random.default_rng(0)
    names = env.get_attr("metadata")[0]["entities"]["jobs"]
    while True:
        column = rng.random(obs["action_mask"].shape) if feature is None else obs["jobs"][..., names.index(feature)]
        obs, _, ended, infos = env.step(np.where(obs["action_mask"] == 1, column, -1).argmax(axis=-1))
        if ended.all():
            return np.array([info["makespan"] for info in infos])


def optimum(duration: np.ndarray, machine: np.ndarray, seconds: float) -> tuple[float, bool]:
    """The least makespan that CP-SAT finds in so many seconds, and whether it proved that there is no smaller one."""
    from ortools.sat.python import cp_model

    model, horizon = cp_model.CpModel(), int(duration.sum())
    makespan, on_machine = model.new_int_var(0, horizon, ""), [[] for _ in range(machine.shape[1])]  # type: ignore[var-annotated]
    for job in range(len(duration)):
        ready: Any = 0
        for length, k in zip(duration[job].tolist(), machine[job].tolist(), strict=True):
            start = model.new_int_var(0, horizon, "")
            model.add(start >= ready)
            on_machine[k].append(model.new_interval_var(start, length, start + length, ""))
            ready = start + length
        model.add(makespan >= ready)
    for intervals in on_machine:
        model.add_no_overlap(intervals)
    model.minimize(makespan)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds, solver.parameters.num_workers = seconds, 1
    status = solver.solve(model)
    return solver.objective_value, status == cp_model.OPTIMAL


def print_optima(size: int, seconds: float) -> None:
    """Mean optimum of L2D's instances of a size."""
    found = [optimum(*one, seconds) for one in zip(*l2d_instances(size, size), strict=True)]
    makespans, proven = zip(*found, strict=True)
    print(f"{size} x {size}: mean {np.mean(makespans):.2f}, {sum(proven)} of {len(proven)} proven optimal")


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the tables."""
    if arguments.optimum is not None:
        print_optima(arguments.optimum, arguments.seconds)
        return
    print(rules())
    if arguments.rules:
        return
    held = {key(row) for row in read_csv(arguments.out)} if arguments.out.exists() else set()
    how_long = arguments.minibatches, arguments.steps, arguments.samples
    cells = [
        Cell(policy, schedule, choice == "on", shared, arguments.size, arguments.n_envs, *how_long, seed)
        for seed in range(arguments.seeds)
        for policy in arguments.policies
        for schedule in arguments.schedules
        for choice in arguments.normalize
        for shared in arguments.shared_baseline
    ]
    run_and_append(run, [cell for cell in cells if cell not in held], arguments.out, arguments.workers)
    print(table(read_csv(arguments.out)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=POLICIES)
    parser.add_argument("--schedules", nargs="+", default=["active"], choices=SCHEDULES)
    parser.add_argument("--normalize", nargs="+", default=["on"], choices=["on", "off"], help="advantages")
    parser.add_argument("--shared-baseline", nargs="+", type=int, default=[8], help="rollouts of each game")
    parser.add_argument("--size", type=int, default=6, help="jobs and machines in training")
    parser.add_argument("--n-envs", type=int, default=512)
    parser.add_argument("--minibatches", type=int, default=8, help="of a rollout")
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--samples", type=int, default=16, help="per instance, of which the best counts")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="agents side by side")
    parser.add_argument("--rules", action="store_true", help="nothing else")
    parser.add_argument("--optimum", type=int, metavar="SIZE", help="of L2D's instances, by CP-SAT, and nothing else")
    parser.add_argument("--seconds", type=float, default=60, help="at most, for each optimum")
    parser.add_argument("--out", type=Path, default=Path("docs/results/scheduling.csv"))
    main(parser.parse_args())
