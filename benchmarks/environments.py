"""What docs/environments.md shows: scores of the random and the scripted policy, and a picture of every game.

python -m benchmarks.environments                       # the table
python -m benchmarks.environments --pictures docs/images/environments
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from attn_rl.envs import NAMES

N_ENVS = 128
SIZE = 192  # pixels
COLOURS = 32  # of a picture's palette: a few kB each
SCENES = {
    **{"Boxes": (16, 3), "CherryPick": (3, 7), "Dodge": (2, 6), "Forage": (5, 6), "Intersection": (3, 4)},
    **{"Hidden": (2, 3), "JobShop": (1, 14), "Match": (6, 0), "Mines": (3, 6), "Recall": (1, 5), "Remember": (5, 0)},
    **{"Route": (5, 6), "Seek": (2, 2), "Tiles": (7, 0), "Triage": (2, 5)},
    **{"Pick": (3, 0), "Squad": (4, 3)},
}
"""Of each picture: the seed, and how many steps the scripted policy has made."""


def play(env: Any, scripted: bool, episodes: int) -> tuple[float, float]:
    """Play the first ``episodes // num_envs`` episodes of each sub-environment.

    Returns:
        Success rate, mean return.
    """
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    quota = episodes // env.num_envs
    played, success, total = np.zeros(env.num_envs, int), 0.0, 0.0
    while (played < quota).any():
        actions = env.oracle(obs) if scripted else env.action_space.sample()
        obs, reward, terminated, truncated, infos = env.step(actions)
        counts, done = played < quota, terminated | truncated
        total += float(reward[counts].sum())
        if done.any():
            success += float(infos["final_info"]["is_success"][counts & done].sum())
            played += done
    return success / (quota * env.num_envs), total / (quota * env.num_envs)


def print_scores(episodes: int) -> None:
    """Print success rate and mean return of both policies for every environment, default arguments."""
    print("| environment | random | scripted |\n|---|---:|---:|")
    for name in NAMES:
        env = gym.make_vec(f"AttnRL/{name}-v0", num_envs=N_ENVS)
        scores = [play(env, scripted, episodes) for scripted in (False, True)]
        columns = [f"{success:.3f} ({value:.2f})" for success, value in scores]
        print(f"| {' | '.join([name, *columns])} |", flush=True)


def draw(name: str, folder: Path) -> None:
    """Draw one scene of an environment."""
    seed, steps = SCENES[name]
    env: Any = gym.make_vec(f"AttnRL/{name}-v0", num_envs=1, render_mode="rgb_array")
    obs, _ = env.reset(seed=seed)
    for _ in range(steps):
        obs = env.step(env.oracle(obs))[0]
    picture = Image.fromarray(env.render(size=SIZE)[0])
    picture.quantize(COLOURS).save(folder / f"{name.lower()}.png", optimize=True)


def main() -> None:
    """Print the table, or draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2048)
    parser.add_argument("--pictures", type=Path, help="draw into this folder instead")
    args = parser.parse_args()
    if args.pictures is None:
        print_scores(args.episodes)
        return
    args.pictures.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        draw(name, args.pictures)


if __name__ == "__main__":
    main()
