"""How fast the environments step: the native batch against single environments in SB3's DummyVecEnv. One command::

    python -m benchmarks.stepping                   # every environment, 64 sub-environments
    python -m benchmarks.stepping --names Seek Dodge --n-envs 256

Random actions, infos and episode statistics included, one thread. Each number is the best of several rounds, in
which the two take turns, so that a slow minute hits both.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from attn_rl import make_vec_env
from attn_rl.envs import NAMES

N_ACTIONS = 16  # batches of actions drawn beforehand, played in turn


def draw_actions(env: VecEnv) -> list[np.ndarray]:
    """Draw batches of random actions."""
    env.action_space.seed(0)
    return [np.array([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(N_ACTIONS)]


def steps_per_second(env: VecEnv, actions: list[np.ndarray], seconds: float) -> float:
    """Step for about so many seconds; return environment steps per second."""
    steps, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        env.step(actions[steps % N_ACTIONS])
        steps += 1
    return steps * env.num_envs / elapsed


def measure(env_id: str, n_envs: int, rounds: int, seconds: float) -> tuple[float, float]:
    """Return the best rates of the native batch and of single environments, in steps per second."""
    pair = [make_vec_env(env_id, n_envs, 0), make_vec_env(env_id, n_envs, 0, vec_env_cls=DummyVecEnv)]
    actions = draw_actions(pair[0])
    best = [0.0, 0.0]
    for env in pair:
        env.reset()
    for _ in range(rounds):
        for i, env in enumerate(pair):
            best[i] = max(best[i], steps_per_second(env, actions, seconds))
    return best[0], best[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--n-envs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement")
    args = parser.parse_args()
    print(f"{args.n_envs} sub-environments, environment steps per second\n")
    print("| environment | native batch | DummyVecEnv | ratio |\n|---|---:|---:|---:|")
    for name in args.names:
        batch, single = measure(f"AttnRL/{name}-v0", args.n_envs, args.rounds, args.seconds)
        print(f"| {name} | {batch:,.0f} | {single:,.0f} | {batch / single:.1f} |", flush=True)


if __name__ == "__main__":
    main()
