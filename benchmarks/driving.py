"""Driving in HighwayEnv: how doing nothing, chance and trained agents fare. Needs the extra [highway]. One command::

    python -m benchmarks.driving                                              # IDLE and random
    python -m benchmarks.driving --envs intersection-v2 --runs runs/intersection-v2__attention__0__...

Printed per row, over whole episodes on held-out seeds: success (arrived; on a highway, drove to the end), crash rate
and mean return, each with its standard error, and environment steps per second over all processes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from attn_rl import load, make_vec_env
from attn_rl.third_party import make_env
from attn_rl.training.evaluation import EVALUATION_SEED

ENVS = ("highway-fast-v0", "intersection-v1", "intersection-v2")
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


def trained(run: Path, vec_env: VecEnv) -> Policy:
    """The deterministic policy of a run folder."""
    agent = load(run, env=vec_env)
    return lambda observations: agent.predict(observations, deterministic=True)[0]


def play(vec_env: VecEnv, policy: Policy, episodes: int) -> tuple[list[Outcome], float]:
    """Play equally many episodes in each sub-environment; return them and the steps per second."""
    left = np.full(vec_env.num_envs, -(-episodes // vec_env.num_envs))
    outcomes, steps = [], 0
    observations = vec_env.reset()
    start = time.perf_counter()
    while left.any():
        observations, _, dones, infos = vec_env.step(policy(observations))
        steps += vec_env.num_envs
        for i in np.flatnonzero(dones & (left > 0)):
            left[i] -= 1
            told = infos[i]
            ended = told["episode"]
            outcomes.append(Outcome(told["is_success"], told["crashed"], float(ended["r"]), int(ended["l"])))
    return outcomes, steps / (time.perf_counter() - start)


def row(env_id: str, name: str, outcomes: list[Outcome], steps_per_second: float) -> str:
    """One line of the Markdown table."""
    figures = []
    for field in ("success", "crashed", "ret"):
        values = np.array([getattr(outcome, field) for outcome in outcomes], float)
        figures.append(f"{values.mean():.2f} ± {values.std() / np.sqrt(len(values)):.2f}")
    length = np.mean([outcome.length for outcome in outcomes])
    cells = [env_id, name, str(len(outcomes)), *figures, f"{length:.1f}", f"{steps_per_second:.0f}"]
    return f"| {' | '.join(cells)} |"


def main(arguments: argparse.Namespace) -> None:
    """Play every policy in every environment and print the table."""
    print("| environment | policy | episodes | success | crashed | return | steps per episode | steps/s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.envs:
        env_id = f"highway_env:{name}"
        vec_env = make_vec_env(env_id, arguments.processes)
        policies = {"IDLE": idle(env_id, vec_env.num_envs), "random": chance(vec_env)}
        policies |= {run.name: trained(run, vec_env) for run in arguments.runs}
        for label, policy in policies.items():
            vec_env.seed(EVALUATION_SEED)
            print(row(name, label, *play(vec_env, policy, arguments.episodes)), flush=True)
        vec_env.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=ENVS, help="ids without the module prefix")
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="run folders of trained agents")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2, help="one environment each")
    main(parser.parse_args())
