"""MiniGrid on the observation that everybody has: the agent's own 7x7 view and the mission's words.

    pip install -e ".[minigrid]"
    python -m benchmarks.minigrid --steps 300000 --seeds 1        # GoToDoor-5x5, attention: about ten minutes
    python -m benchmarks.minigrid --policies attention raw-advantages mlp --envs GoToDoor-5x5 Fetch-5x5-N2

Trains what ``docs/results/minigrid.csv`` does not hold yet, one agent after the other, appends each agent when it is
finished, and prints the table. Success: share of 200 episodes on held-out seeds that end with a reward, deterministic
policy. ``raw-advantages`` is attention with ``normalize_advantage=False``. ``mlp`` is Stable-Baselines3's own policy
on MiniGrid's ``FlatObsWrapper``, with the hyperparameters that RL Zoo publishes; its benchmark has, for GoToDoor-5x5,
.525 after 5,000,000 steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from minigrid.wrappers import FlatObsWrapper
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from attn_rl import make_agent, make_vec_env
from attn_rl.training.evaluation import EVALUATION_SEED, evaluate
from benchmarks.learning import append
from benchmarks.results import read_csv
from benchmarks.tables import markdown

EPISODES, N_ENVS = 200, 32
OURS: dict[str, dict[str, Any]] = {"attention": {}, "raw-advantages": {"normalize_advantage": False}}
POLICIES = (*OURS, "mlp")
KEYS = ("env", "policy", "seed", "steps")
Score = tuple[float, float]
"""Success and mean return."""


class Curve(BaseCallback):
    """Share of the last 100 training episodes that ended with a reward, every ten rollouts.

    Attributes:
        points: (steps, share).
    """

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, float]] = []
        self._rollouts = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._rollouts += 1
        successes = self.model.ep_success_buffer
        if self._rollouts % 10 == 0 and successes:
            self.points.append((self.num_timesteps, round(float(np.mean(successes)), 3)))
            print(*self.points[-1], flush=True)


def full_id(name: str) -> str:
    """GoToDoor-5x5 -> its id; BabyAI's names begin with BabyAI already."""
    return f"minigrid:{name if name.startswith('BabyAI') else f'MiniGrid-{name}'}-v0"


def train_ours(env_id: str, policy: str, seed: int, steps: int, curve: Curve) -> tuple[Any, Callable[[], Score]]:
    """An agent of the package after ``steps``, and what scores it."""
    agent = make_agent(make_vec_env(env_id, N_ENVS, seed), "attention", seed=seed, **OURS[policy])
    agent.learn(steps, callback=curve)

    def score() -> Score:
        row = evaluate(agent, env_id, episodes=EPISODES)
        return float(row.success_rate or 0.0), row.mean_return

    return agent, score


def train_mlp(env_id: str, seed: int, steps: int, curve: Curve) -> tuple[Any, Callable[[], Score]]:
    """Stable-Baselines3's MlpPolicy with RL Zoo's hyperparameters, and what scores it."""
    env = VecNormalize(flat(env_id, 8))
    env.seed(seed)
    settings = {"n_steps": 128, "batch_size": 64, "n_epochs": 10, "learning_rate": 2.5e-4, "gamma": 0.99}
    agent = PPO("MlpPolicy", env, seed=seed, device="cpu", **settings)  # type: ignore[arg-type]
    agent.learn(steps, callback=curve)
    return agent, lambda: score_flat(agent, env, env_id)


def flat(env_id: str, n_envs: int) -> VecEnv:
    """Copies that show view and mission as one vector."""
    return DummyVecEnv([lambda: FlatObsWrapper(gym.make(env_id))] * n_envs)


def score_flat(agent: PPO, trained_in: VecNormalize, env_id: str) -> Score:
    """Play the first episode of each held-out seed."""
    env = flat(env_id, EPISODES)
    env.seed(EVALUATION_SEED)
    obs, left, returns = env.reset(), np.ones(EPISODES, bool), np.zeros(EPISODES)
    while left.any():
        obs, rewards, dones, _ = env.step(agent.predict(trained_in.normalize_obs(obs), deterministic=True)[0])  # type: ignore[arg-type]
        returns[left] += rewards[left]
        left &= ~dones
    return float((returns > 0).mean()), float(returns.mean())


def run(name: str, policy: str, seed: int, steps: int) -> dict[str, Any]:
    """Train and evaluate: a row of the CSV."""
    torch.set_num_threads(1)
    start, env_id = (time.time(), time.process_time()), full_id(name)
    curve = Curve()
    if policy == "mlp":
        agent, score = train_mlp(env_id, seed, steps, curve)
    else:
        agent, score = train_ours(env_id, policy, seed, steps, curve)
    seconds = {"seconds": round(time.time() - start[0]), "cpu_seconds": round(time.process_time() - start[1])}
    success, mean_return = score()
    facts = dict(zip(KEYS, (name, policy, seed, steps), strict=True)) | seconds
    parameters = sum(p.numel() for p in agent.policy.parameters())
    figures = {"parameters": parameters, "success": round(success, 4), "mean_return": round(mean_return, 4)}
    return facts | figures | {"curve": json.dumps(curve.points)}


def minigrid_table(rows: list[dict[str, str]]) -> str:
    """One line per environment, policy and number of steps, as Markdown; success of every seed in brackets."""
    lines = []
    for key in dict.fromkeys((row["env"], row["policy"], row["steps"]) for row in rows):
        mine = [row for row in rows if (row["env"], row["policy"], row["steps"]) == key]
        success = [float(row["success"]) for row in mine]
        each = f" ({', '.join(f'{value:.3f}' for value in success)})" if len(mine) > 1 else ""
        seconds = np.mean([float(row["cpu_seconds"]) for row in mine])
        figures = [f"{np.mean(success):.3f}{each}", f"{int(mine[0]['parameters']):,}", f"{seconds:.0f}"]
        lines.append([key[0], key[1], f"{int(key[2]):,}", str(len(mine)), *figures])
    return markdown(["", "policy", "steps", "seeds", "success", "parameters", "CPU s"], lines)


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the table."""
    held = read_csv(arguments.out) if arguments.out.exists() else []
    done = {tuple(row[key] for key in KEYS) for row in held}
    for name in arguments.envs:
        for policy in arguments.policies:
            for seed in range(arguments.seeds):
                if (name, policy, str(seed), str(arguments.steps)) not in done:
                    row = run(name, policy, seed, arguments.steps)
                    append(arguments.out, [row])
                    print(row, flush=True)
    print(minigrid_table(read_csv(arguments.out)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["GoToDoor-5x5"], help="names without MiniGrid- and -v0")
    parser.add_argument("--policies", nargs="+", default=["attention"], choices=POLICIES)
    parser.add_argument("--steps", type=int, default=300_000, help="environment steps of each agent")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/results/minigrid.csv"))
    main(parser.parse_args())
