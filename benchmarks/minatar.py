"""MinAtar's five games with non-empty cells as entities: attention, DeepSets and SB3's CNN, advantages scaled or not.

    pip install -e ".[minatar]"
    python -m benchmarks.minatar --games Asterix Freeway Breakout --steps 500000 --seeds 5
    python -m benchmarks.minatar --sweep             # learning rates, on a seed of their own

Trains what ``docs/results/minatar.csv`` does not hold yet, appends each agent when it is finished, and prints the
table: mean return of the last 200 training episodes, exploration included, of each seed. The CNN is MinAtar's own (16
filters of 3 x 3, one hidden layer of 128) in SB3's PPO on the picture; everything around it is the same.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env as sb3_make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from attn_rl import make_agent, make_vec_env
from attn_rl.adapters import make_env
from attn_rl.training.presets import Settings, find_preset
from benchmarks.intervals import interquartile_mean, interval
from benchmarks.learning import run_and_append
from benchmarks.results import read_csv
from benchmarks.tables import NONE, markdown

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
POLICIES = ("attention", "deepsets", "cnn")
RATES = (1e-3, 2e-3, 4e-3)
SWEEP_SEED = 100
LAST_EPISODES = 200
Cell = tuple[str, str, bool, float, int]  # game, policy, advantages normalised, learning rate, seed


class MinAtarCNN(BaseFeaturesExtractor):
    """The network of Young & Tian 2019: one convolution, one hidden layer."""

    def __init__(self, observation_space: gym.spaces.Box) -> None:
        super().__init__(observation_space, 128)
        channels = observation_space.shape[-1]
        self.network = nn.Sequential(
            nn.Conv2d(channels, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 128), nn.ReLU()
        )

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Features (B, 128) of pictures (B, 10, 10, channels)."""
        return self.network(picture.float().movedim(-1, 1))


def make(policy: str, game: str, normalize: bool, rate: float, seed: int) -> PPO:
    """An agent in its environments."""
    env_id = f"minatar:MinAtar/{game}-v1"
    preset = find_preset(env_id)
    if policy != "cnn":
        env = make_vec_env(env_id, preset.n_envs, seed=seed)
        return make_agent(env, policy, seed=seed, learning_rate=rate, normalize_advantage=normalize)
    settings: Settings = preset.settings("flat")
    names = ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "ent_coef", "clip_range", "vf_coef")
    env = sb3_make_vec_env(lambda: make_env(env_id).unwrapped, preset.n_envs, seed=seed)
    network = {"features_extractor_class": MinAtarCNN, "net_arch": list(settings.net_arch), "normalize_images": False}
    return PPO(
        "CnnPolicy",
        env,
        learning_rate=lambda left: rate * (0.1 + 0.9 * left),
        normalize_advantage=normalize,
        policy_kwargs=network,
        seed=seed,
        device="cpu",
        **{name: getattr(settings, name) for name in names},
    )


def run(cell: Cell, steps: int) -> dict[str, Any]:
    """Train one agent: a row of the CSV."""
    torch.set_num_threads(1)
    game, policy, normalize, rate, seed = cell
    agent = make(policy, game, normalize, rate, seed)
    agent._stats_window_size = LAST_EPISODES
    start = time.process_time()
    agent.learn(steps)
    episodes: deque[dict[str, Any]] = agent.ep_info_buffer
    return {
        "game": game,
        "policy": policy,
        "normalize_advantage": normalize,
        "learning_rate": rate,
        "seed": seed,
        "steps": steps,
        "parameters": sum(p.numel() for p in agent.policy.parameters()),
        "cpu_seconds": round(time.process_time() - start),
        "mean_return": round(float(np.mean([episode["r"] for episode in episodes])), 2),
    }


def key(row: dict[str, str]) -> tuple[Any, ...]:
    """The cell that a row of the CSV holds, and its steps."""
    normalize = row["normalize_advantage"] == "True"
    return (row["game"], row["policy"], normalize, float(row["learning_rate"]), int(row["seed"]), int(row["steps"]))


def table(rows: list[dict[str, str]]) -> str:
    """One line per game, policy and scaling: interquartile mean with its interval, every seed, and the cost."""
    lines = []
    for group in dict.fromkeys((*key(row)[:4], row["steps"]) for row in rows):
        mine = [row for row in rows if (*key(row)[:4], row["steps"]) == group]
        scores = np.array([float(row["mean_return"]) for row in mine])
        low, high = interval([scores]) if len(scores) > 2 else (np.nan, np.nan)
        figure = f"{interquartile_mean(scores):.1f} [{low:.1f}, {high:.1f}]" if len(scores) > 2 else NONE
        cost = f"{np.median([float(row['cpu_seconds']) for row in mine]):.0f}"
        game, policy, normalize, rate, steps = group
        scaling = "to unit variance" if normalize else "as they are"
        seeds = ", ".join(f"{score:.1f}" for score in scores)
        line = [game, policy, scaling, f"{rate:g}", f"{int(steps):,}", f"{int(mine[0]['parameters']):,}"]
        lines.append([*line, cost, figure, seeds])
    head = ["", "policy", "advantages", "rate", "steps", "parameters", "CPU s", "mean return", "each seed"]
    return markdown(head, sorted(lines, key=lambda line: line[:5]))


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the table."""
    held = {key(row) for row in read_csv(arguments.out)} if arguments.out.exists() else set()
    seeds = [SWEEP_SEED] if arguments.sweep else range(arguments.seeds)
    rates = RATES if arguments.sweep else [arguments.rate]
    scalings = [choice == "on" for choice in arguments.normalize]
    cells = [
        (game, policy, normalize, rate, seed)
        for seed in seeds
        for game in arguments.games
        for policy in arguments.policies
        for normalize in scalings
        for rate in rates
    ]
    todo = [cell for cell in cells if (*cell, arguments.steps) not in held]
    run_and_append(partial(run, steps=arguments.steps), todo, arguments.out, arguments.workers)
    print(table(read_csv(arguments.out)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=GAMES, choices=GAMES)
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=POLICIES)
    parser.add_argument("--normalize", nargs="+", default=["on", "off"], choices=["on", "off"], help="advantages")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument("--sweep", action="store_true", help="learning rates, on a seed of their own")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="agents side by side")
    parser.add_argument("--out", type=Path, default=Path("docs/results/minatar.csv"))
    main(parser.parse_args())
