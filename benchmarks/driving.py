"""Driving in HighwayEnv: attention, DeepSets and a flat MLP after equally many steps, against doing nothing and chance.

    pip install -e ".[highway]" && python -m benchmarks.driving --envs highway-fast-v0     # what the page shows
    python -m benchmarks.driving --envs intersection-v2 --steps 50000 --seeds 5            # with patience

Trains what ``docs/results/driving.csv`` does not hold yet, one process for each agent, and prints the table. Slots are
shuffled at every step. Rows: success (arrived; on a highway, drove to the end), crash rate and mean return over whole
episodes on held-out seeds, deterministic policy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from attn_rl import make_agent, make_vec_env
from attn_rl.third_party import make_env
from attn_rl.training.evaluation import EVALUATION_SEED
from benchmarks.learning import append
from benchmarks.results import read_csv
from benchmarks.tables import markdown

ENVS = ("highway-fast-v0", "intersection-v1", "intersection-v2")
LEARNERS = ("attention", "deepsets", "flat")
FIELDS = ("success", "crashed", "ret")
Policy = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """How one episode ended."""

    success: bool
    crashed: bool
    ret: float
    length: int


def idle(env_id: str, n_envs: int) -> Policy:
    """Keep lane and speed: HighwayEnv's IDLE; with continuous actions, zero."""
    env: Any = make_env(env_id).unwrapped
    indexes = getattr(env.action_type, "actions_indexes", None)
    action = np.zeros(env.action_space.shape, np.float32) if indexes is None else np.array(indexes["IDLE"])
    return lambda observations: np.stack([action] * n_envs)


def chance(vec_env: VecEnv, seed: int = 0) -> Policy:
    """Uniform actions."""
    vec_env.action_space.seed(seed)
    return lambda observations: np.stack([vec_env.action_space.sample() for _ in range(vec_env.num_envs)])


def trained(agent: Any) -> Policy:
    """The deterministic policy of an agent."""
    return lambda observations: agent.predict(observations, deterministic=True)[0]


def play(vec_env: VecEnv, policy: Policy, episodes: int) -> list[Outcome]:
    """Play equally many episodes in each sub-environment."""
    left = np.full(vec_env.num_envs, -(-episodes // vec_env.num_envs))
    outcomes = []
    observations = vec_env.reset()
    while left.any():
        observations, _, dones, infos = vec_env.step(policy(observations))
        for i in np.flatnonzero(dones & (left > 0)):
            left[i] -= 1
            told = infos[i]
            ended = told["episode"]
            outcomes.append(Outcome(told["is_success"], told["crashed"], float(ended["r"]), int(ended["l"])))
    return outcomes


def run(name: str, policy: str, seed: int, steps: int, episodes: int) -> dict[str, Any]:
    """Train (where there is something to train) and evaluate: a row of the CSV."""
    torch.set_num_threads(1)
    env_id, start = f"highway_env:{name}", time.process_time()
    facts: dict[str, Any] = {"environment": name, "policy": policy, "seed": seed, "steps": 0, "parameters": 0}
    games = make_vec_env(env_id, 4, seed=EVALUATION_SEED, vec_env_cls=DummyVecEnv)
    if policy in LEARNERS:
        agent = make_agent(make_vec_env(env_id, 8, seed=seed, vec_env_cls=DummyVecEnv), policy, seed=seed)
        agent.learn(steps)
        facts |= {"steps": agent.num_timesteps, "parameters": sum(p.numel() for p in agent.policy.parameters())}
        acting = trained(agent)
    else:
        acting = idle(env_id, games.num_envs) if policy == "IDLE" else chance(games)
    facts["cpu_seconds"] = round(time.process_time() - start)
    outcomes = play(games, acting, episodes)
    facts["episodes"] = len(outcomes)
    for field in FIELDS:
        values = np.array([getattr(outcome, field) for outcome in outcomes], float)
        facts[field], facts[f"{field}_error"] = values.mean().round(4), (values.std() / len(values) ** 0.5).round(4)
    return facts


def driving_table(rows: list[dict[str, str]]) -> str:
    """Mean over seeds and each seed's figure per environment, policy and number of steps, as Markdown."""
    lines = []
    for environment, policy, steps in dict.fromkeys((r["environment"], r["policy"], r["steps"]) for r in rows):
        mine = [r for r in rows if (r["environment"], r["policy"], r["steps"]) == (environment, policy, steps)]
        cells = []
        for field in FIELDS:
            seeds = [float(r[field]) for r in mine]
            alone = f"± {float(mine[0][f'{field}_error']):.2f}"
            cells.append(f"{np.mean(seeds):.2f} ({', '.join(f'{x:.2f}' for x in seeds) if len(mine) > 1 else alone})")
        trained_for = f"{int(steps):,}" if int(steps) else "–"
        lines.append([environment, policy, trained_for, mine[0]["parameters"], mine[0]["episodes"], *cells])
    return markdown(["", "policy", "steps", "parameters", "episodes each", "success", "crashed", "return"], lines)


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the table."""
    held = read_csv(arguments.out) if arguments.out.exists() else []
    done = {(r["environment"], r["policy"], int(r["seed"])) for r in held}
    cells = [(name, policy, 0) for name in arguments.envs for policy in ("IDLE", "random")]
    cells += [(name, policy, seed) for name in arguments.envs for seed in range(arguments.seeds) for policy in LEARNERS]
    with ProcessPoolExecutor(arguments.workers) as pool:
        todo = [cell for cell in cells if cell not in done]
        for future in as_completed([pool.submit(run, *cell, arguments.steps, arguments.episodes) for cell in todo]):
            append(arguments.out, [future.result()])
            print(future.result(), flush=True)
    print(driving_table(read_csv(arguments.out)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=ENVS[:1], choices=ENVS, help="ids without the module prefix")
    parser.add_argument("--steps", type=int, default=10_000, help="environment steps of each agent")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1, help="agents side by side")
    parser.add_argument("--out", type=Path, default=Path("docs/results/driving.csv"))
    main(parser.parse_args())
