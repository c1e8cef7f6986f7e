"""The README's animated picture: the same games, played by one agent at four moments of its training.

    python train.py --run-name film --save-every 1 --keep 100
    python -m benchmarks.learning_film runs/film

Lines and rings are the attention weights that acted, mean over heads.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm

from attn_rl import load, make_agent, record_attention
from attn_rl.adapters import make_env
from attn_rl.inspection.draw.sheet import ATTENTION, FAINT, INK, MUTED, PAPER, Sheet

ENV_ID = "AttnRL/Seek-v0"
STEPS = (0, 12_288, 28_672, 200_704)
"""Training steps of the four agents; 0: none."""
SEEDS = (38, 30, 21)
LONGEST, HOLD = 16, 7
"""Frames of a game, and how often its last one is repeated."""
PANEL, GAP, TOP, BOTTOM = 196, 10, 30, 28


class Moment:
    """One step of a game: picture, places and weights.

    Args:
        env: the game, with pictures.
        agent: that acts.
        obs: what it sees.
    """

    def __init__(self, env: gym.Env, agent: BaseAlgorithm, obs: dict) -> None:
        record = record_attention(agent, {name: value[None] for name, value in obs.items()})
        self.weights = record.entity_map()[0]
        self.picture = env.render()
        self.places = env.get_wrapper_attr("entity_positions")()
        self.ego = env.get_wrapper_attr("ego_positions")()
        self.ending = ""


def play(agent: BaseAlgorithm, seed: int) -> list[Moment]:
    """A game, as far as it goes in ``LONGEST`` steps; the last moment says how it ended."""
    env = make_env(ENV_ID, render_mode="rgb_array")
    obs, _ = env.reset(seed=seed)
    moments = []
    for _ in range(LONGEST):
        moments.append(Moment(env, agent, obs))
        obs, _, terminated, _, info = env.step(agent.predict(obs, deterministic=True)[0])
        if terminated:
            moments[-1].ending = f"took {'the right' if info['is_success'] else 'a wrong'} one in {len(moments)} steps"
            break
    else:
        moments[-1].ending = f"not there in {LONGEST} steps"
    env.close()
    return moments


def draw(sheet: Sheet, moment: Moment, x: float, y: float) -> None:
    """One panel."""
    sheet.box(x, y, PANEL, PANEL, PAPER, FAINT)
    sheet.paste(moment.picture, x, y, (PANEL, PANEL), veil=0.2)
    spots = [(x + PANEL * (px + 1) / 2, y + PANEL * (1 - py) / 2) for px, py in moment.places]
    reader = (x + PANEL * (moment.ego[0] + 1) / 2, y + PANEL * (1 - moment.ego[1]) / 2)
    for spot, weight in zip(spots, moment.weights, strict=True):
        if weight > 0.03:
            sheet.line([reader, spot], ATTENTION, 1 + 5 * weight, 0.2 + 0.6 * weight)
            sheet.ring(spot, 9 + 5 * weight, ATTENTION, 1 + 2.5 * weight, 0.3 + 0.7 * weight)


def frame(games: Sequence[list[Moment]], time: int) -> Image.Image:
    """All agents at one step of the game; one that has ended stays as it was."""
    sheet = Sheet(len(games) * (PANEL + GAP) + GAP, TOP + PANEL + BOTTOM)
    for column, (moments, steps) in enumerate(zip(games, STEPS, strict=True)):
        x, moment = GAP + column * (PANEL + GAP), moments[min(time, len(moments) - 1)]
        title = f"after {steps:,} steps" if steps else "untrained"
        sheet.text((x + PANEL / 2, TOP / 2), title, 13, INK, "mm")
        draw(sheet, moment, x, TOP)
        sheet.text((x + PANEL / 2, TOP + PANEL + BOTTOM / 2), moment.ending, 12, MUTED, "mm")
    return Image.fromarray(sheet.pixels())


def film(agents: Sequence[BaseAlgorithm]) -> list[Image.Image]:
    """Every game by every agent, one after another."""
    frames = []
    for seed in SEEDS:
        games = [play(agent, seed) for agent in agents]
        longest = max(map(len, games))
        frames += [frame(games, min(time, longest - 1)) for time in range(longest + HOLD)]
    return frames


def main() -> None:
    """Write the GIF."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/learning-to-look.gif"))
    args = parser.parse_args()
    checkpoints = [args.run / "checkpoints" / f"step-{steps:012d}" for steps in STEPS if steps]
    agents = [make_agent(ENV_ID, seed=0), *(load(checkpoint) for checkpoint in checkpoints)]
    frames = film(agents)
    palette = Image.fromarray(np.concatenate([np.asarray(image) for image in frames[::4]])).quantize(200)
    shown = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in frames]
    shown[0].save(args.out, save_all=True, append_images=shown[1:], duration=220, loop=0, optimize=True)
    print(f"wrote {args.out}: {len(frames)} frames, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
