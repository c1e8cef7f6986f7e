"""How fast Intersection-v0 steps, beside HighwayEnv's intersection-v2 in the same run (docs/driving.md)::

    pip install -e ".[highway]"
    python -m benchmarks.intersection_speed --rounds 5        # some three minutes

Environment steps per second of CPU time on one thread, resets included, random actions, both at 15 frames and one
decision a second. ``--density 1.5``: 15 instead of 10 first vehicles. All rows take turns in every round; shown is the
best round of each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np

from benchmarks.intersection import ENV_ID, ROAD_ID, traffic
from benchmarks.tables import markdown


def batched(n_envs: int, density: float) -> Callable[[], int]:
    """A function that steps a batch once and returns how many steps that were."""
    env = gym.make_vec(ENV_ID, num_envs=n_envs, **traffic(density))
    env.reset(seed=0)
    random = np.random.default_rng(0)

    def step() -> int:
        env.step(random.integers(3, size=n_envs))
        return n_envs

    return step


def highway(density: float) -> Callable[[], int]:
    """The same of HighwayEnv."""
    env = gym.make(ROAD_ID, config=traffic(density))
    env.reset(seed=0)
    random = np.random.default_rng(0)

    def step() -> int:
        _, _, terminated, truncated, _ = env.step(int(random.integers(3)))
        if terminated or truncated:
            env.reset()
        return 1

    return step


def rate(step: Callable[[], int], seconds: float) -> float:
    """Steps per second of CPU time, over about so many seconds."""
    start, steps = time.process_time(), 0
    while (elapsed := time.process_time() - start) < seconds:
        steps += step()
    return steps / elapsed


def main(arguments: argparse.Namespace) -> None:
    """Print the table."""
    rows = {f"Intersection-v0, {n} at once": batched(n, arguments.density) for n in arguments.n_envs}
    rows["HighwayEnv intersection-v2"] = highway(arguments.density)
    best = dict.fromkeys(rows, 0.0)
    for _ in range(arguments.rounds):
        for name, step in rows.items():
            best[name] = max(best[name], rate(step, arguments.seconds))
    slowest = best["HighwayEnv intersection-v2"]
    lines = [[name, f"{value:,.0f}", f"{value / slowest:,.0f}"] for name, value in best.items()]
    print(markdown(["", "steps/s", "times HighwayEnv's"], lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-envs", type=int, nargs="+", default=[1, 16, 64, 256, 1024])
    parser.add_argument("--density", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of CPU time of each measurement")
    main(parser.parse_args())
