"""What a second core is worth, and whether weights are the same bits. One command::

    python -m benchmarks.cores --threads 1 2

The reference setting of ``benchmarks.speed``: each row trains once per number of threads, side by side, a rollout and
an update in turns. Printed are medians, the quartiles of the ratios round by round, and a digest of the final weights.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from statistics import median, quantiles

import numpy as np
import torch
from stable_baselines3 import PPO

from benchmarks.speed_rows import ROWS, SETTINGS


def begin(row: str, threads: int) -> tuple[PPO, object]:
    """An agent that is ready to train on so many threads."""
    torch.set_num_threads(threads)
    agent = ROWS[row](SETTINGS["large"])
    _, callback = agent._setup_learn(10**9)
    callback.on_training_start({}, {})
    return agent, callback


def train(agent: PPO, callback: object, threads: int) -> tuple[float, float]:
    """Seconds of a rollout and of an update."""
    torch.set_num_threads(threads)
    torch.manual_seed(agent.num_timesteps)
    np.random.seed(agent.num_timesteps)
    start = time.perf_counter()
    agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, agent.n_steps)
    middle = time.perf_counter()
    agent.train()
    return middle - start, time.perf_counter() - middle


def digest(agent: PPO) -> str:
    """Of all weights and statistics."""
    numbers = b"".join(x.detach().numpy().tobytes() for x in agent.policy.state_dict().values())
    return hashlib.sha256(numbers).hexdigest()[:12]


def ratios(slow: list[float], fast: list[float]) -> str:
    """Median and quartiles of how many times as fast."""
    lower, middle, upper = quantiles([a / b for a, b in zip(slow, fast, strict=True)], n=4, method="inclusive")
    return f"{middle:.2f} ({lower:.2f} to {upper:.2f})"


def main(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    print("| row | threads | rollout | update | update, times | both, times | weights |\n|---|---|---|---|---|---|---|")
    for row in arguments.rows:
        agents = {threads: begin(row, threads) for threads in arguments.threads}
        seconds: dict[int, list[tuple[float, float]]] = {threads: [] for threads in agents}
        for _ in range(1 + arguments.rounds):  # the first warms up
            for threads, (agent, callback) in agents.items():
                seconds[threads].append(train(agent, callback, threads))
        base = seconds[arguments.threads[0]][1:]
        for threads, (agent, _) in agents.items():
            own = seconds[threads][1:]
            update = ratios([u for _, u in base], [u for _, u in own])
            both = ratios([sum(x) for x in base], [sum(x) for x in own])
            rollout, whole = (1e3 * median(x[part] for x in own) for part in (0, 1))
            print(f"| {row} | {threads} | {rollout:.0f} ms | {whole:.0f} ms | {update} | {both} | {digest(agent)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["ours-default", "ours-1", "ours-2"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    main(parser.parse_args())
