"""Memory: the past as entities against RecurrentPPO's LSTM, stacked frames and no memory, one run for all.

    python -m benchmarks.memory --tasks proof repeat-easy bandit --seeds 5
    python -m benchmarks.memory --sweep                   # learning rates, on a seed of their own
    python -m benchmarks.memory --speed                   # training speed and the buffer, K = 32

Trains what ``docs/results/memory.csv`` does not hold yet, appends each agent when it is finished and prints the table.
The score is the share of right answers (or of goals reached), mean of the last 200 training episodes, exploration
included; ``solved_at`` is when it first passed .95, in steps and in CPU seconds; ``three_times`` is the score on a line
three times as long, without more training. RecurrentPPO needs sb3-contrib.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from attn_rl import EntityAttentionExtractor, make_agent
from attn_rl.vec_envs.memory import VecMemory
from benchmarks.learning import run_and_append
from benchmarks.memory_tasks import Bandit, LastDeed, Proof, Repeat, Task
from benchmarks.results import read_csv
from benchmarks.tables import markdown

N_ENVS = 16
SWEEP_SEED = 100
SOLVED = 0.95
LAST_EPISODES = 200
METHODS = ("entities", "lstm", "lstm-entities", "stack", "none")
TASKS: dict[str, tuple[Callable[[int], Task], dict[str, Any], int, float]] = {
    "proof": (lambda seed: Proof(N_ENVS, seed), {"steps": 20}, 50_000, 0.99),
    "repeat-easy": (lambda seed: Repeat(N_ENVS, seed), {"steps": 8}, 100_000, 0.5),
    "repeat-medium": (lambda seed: Repeat(N_ENVS, seed, 32, 2), {"steps": 40}, 150_000, 0.5),
    "repeat-hard": (lambda seed: Repeat(N_ENVS, seed, 64, 3), {"steps": 72}, 300_000, 0.5),
    "bandit": (lambda seed: Bandit(N_ENVS, seed), {"steps": 8, "actions": True, "rewards": True}, 200_000, 0.9),
}
"""Task -> what makes it, what is remembered of it, training steps, discount."""
SHARED: dict[str, Any] = {"n_steps": 128, "batch_size": 256, "n_epochs": 4, "gae_lambda": 0.95, "ent_coef": 0.01}
RATES = {"entities": (1e-3, 3e-3, 5e-3), "lstm": (3e-4, 1e-3, 3e-3), "lstm-entities": (3e-4, 1e-3, 3e-3)}
DEFAULT_RATE = {"entities": 3e-3, "lstm": 1e-3, "lstm-entities": 1e-3, "stack": 1e-3, "none": 1e-3}
Cell = tuple[str, str, float, int]  # task, method, learning rate, seed


class Watch(BaseCallback):
    """When the mean score of the last episodes first passed :data:`SOLVED`, in steps and CPU seconds."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores, self.begun, self.solved = scores, time.process_time(), ("", "")

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        last = self.scores[-LAST_EPISODES:]
        if not self.solved[0] and len(last) >= N_ENVS and np.mean(last) >= SOLVED:
            self.solved = str(self.num_timesteps), f"{time.process_time() - self.begun:.1f}"


def make(method: str, env: VecEnv, memory: dict[str, Any], gamma: float, rate: float, seed: int) -> PPO:
    """An agent with one kind of memory; about as many parameters each."""
    settings = {**SHARED, "gamma": gamma, "seed": seed}
    if method == "entities":
        return make_agent(env, memory=memory, learning_rate=rate, **settings)
    schedule = lambda left: rate * (0.1 + 0.9 * left)  # noqa: E731
    rest: dict[str, Any] = {**settings, "learning_rate": schedule, "device": "cpu"}
    if method in ("stack", "none"):
        stacked = VecFrameStack(env, memory["steps"] + 1) if method == "stack" else env
        return PPO("MlpPolicy", stacked, policy_kwargs={"net_arch": [64, 64]}, **rest)
    from sb3_contrib import RecurrentPPO

    network: dict[str, Any] = {"lstm_hidden_size": 64, "net_arch": [64], "enable_critic_lstm": False}
    network |= {"shared_lstm": True}
    if method == "lstm":
        return RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=network, **rest)
    network |= {"features_extractor_class": EntityAttentionExtractor}
    return RecurrentPPO("MultiInputLstmPolicy", VecMemory(env, steps=1), policy_kwargs=network, **rest)


def play(agent: PPO, env: VecEnv, task: Task, episodes: int = 320) -> float:
    """Mean score of the deterministic policy."""
    obs, state, starts = env.reset(), None, np.ones(env.num_envs, bool)
    while len(task.scores) < episodes:
        actions, state = agent.predict(obs, state, starts, deterministic=True)  # type: ignore[arg-type]
        obs, _, starts, _ = env.step(actions)
    return float(np.mean(task.scores))


def at_three_times_the_length(agent: PPO, method: str, memory: dict[str, Any], seed: int) -> float:
    """The proof of memory on a line three times as long, without more training; stacked frames are of one length."""
    longer = Proof(N_ENVS, 1000 + seed, 0.2 / 3)
    around: dict[str, Callable[[VecEnv], VecEnv]] = {
        "entities": lambda env: VecMemory(env, **memory),
        "lstm-entities": lambda env: VecMemory(env, steps=1),
        "stack": lambda env: VecFrameStack(env, memory["steps"] + 1),
    }
    return play(agent, around.get(method, lambda env: env)(longer), longer)


def run(cell: Cell, steps: int | None = None) -> dict[str, Any]:
    """Train one agent: a row of the CSV."""
    torch.set_num_threads(1)
    name, method, rate, seed = cell
    maker, memory, budget, gamma = TASKS[name]
    task = maker(seed)
    env: VecEnv = LastDeed(task) if "actions" in memory and method != "entities" else task
    agent = make(method, env, memory, gamma, rate, seed)
    watch = Watch(task.scores)
    begun = time.process_time()
    agent.learn(steps or budget, callback=watch)
    seconds = time.process_time() - begun
    return {
        "task": name,
        "method": method,
        "learning_rate": rate,
        "seed": seed,
        "steps": steps or budget,
        "parameters": sum(p.numel() for p in agent.policy.parameters()),
        "cpu_seconds": round(seconds, 1),
        "score": round(float(np.mean(task.scores[-LAST_EPISODES:])), 4),
        "three_times": round(at_three_times_the_length(agent, method, memory, seed), 4) if name == "proof" else "",
        "solved_at": watch.solved[0],
        "solved_cpu_seconds": watch.solved[1],
    }


def table(rows: list[dict[str, str]]) -> str:
    """One line per task, method and learning rate."""
    lines = []
    for group in dict.fromkeys((row["task"], row["method"], row["learning_rate"], row["steps"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["method"], row["learning_rate"], row["steps"]) == group]
        scores = ", ".join(f"{float(row['score']):.2f}" for row in mine)
        at = ", ".join(f"{int(row['solved_at']) / 1000:.0f}k" if row["solved_at"] else "-" for row in mine)
        seconds = ", ".join(f"{float(row['solved_cpu_seconds']):.0f}" if row["solved_at"] else "-" for row in mine)
        speed = np.median([int(row["steps"]) / float(row["cpu_seconds"]) for row in mine])
        longer = ", ".join(f"{float(row['three_times']):.2f}" for row in mine if row["three_times"])
        head = [group[0], group[1], f"{float(group[2]):g}", f"{int(group[3]):,}", f"{int(mine[0]['parameters']):,}"]
        lines.append([*head, f"{speed:,.0f}", scores, at, seconds, longer])
    columns = ["", "memory", "rate", "steps", "parameters", "steps/s", "score", f"{SOLVED} after", "CPU s", "3 x"]
    return markdown(columns, lines)


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the table."""
    rows = read_csv(arguments.out) if arguments.out.exists() else []
    held = {(row["task"], row["method"], float(row["learning_rate"]), int(row["seed"])) for row in rows}
    seeds = [SWEEP_SEED] if arguments.sweep else range(arguments.seeds)
    cells = [
        (task, method, rate, seed)
        for seed in seeds
        for task in arguments.tasks
        for method in arguments.methods
        for rate in (RATES.get(method, (1e-3,)) if arguments.sweep else [arguments.rate or DEFAULT_RATE[method]])
    ]
    run_and_append(
        partial(run, steps=arguments.steps), [c for c in cells if c not in held], arguments.out, arguments.workers
    )
    print(table(read_csv(arguments.out)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--rate", type=float, help="learning rate of all methods")
    parser.add_argument("--sweep", action="store_true", help="learning rates, on a seed of their own")
    parser.add_argument("--steps", type=int, help="instead of the task's own")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="agents side by side")
    parser.add_argument("--out", type=Path, default=Path("docs/results/memory.csv"))
    main(parser.parse_args())
