"""The animated picture of docs/driving.md: an agent crosses the junction, and shows for whom it brakes::

    python -m benchmarks.intersection_film runs/drivers/attention__0.zip

Lines are the attention weights that acted, mean over heads. A ring stands around a vehicle without which the agent
would not brake: found by taking each vehicle out in turn and asking again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from attn_rl.envs.core.drawing import Canvas
from attn_rl.envs.core.state import State
from attn_rl.envs.intersection import IntersectionVectorEnv
from attn_rl.envs.intersection.compiled import play
from attn_rl.envs.intersection.picture import SIGHT
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm

from attn_rl import load, record_attention
from attn_rl.inspection.draw.sheet import ATTENTION, FAINT, INK, MUTED, PAPER, Sheet
from attn_rl.inspection.record.actor import Actor

SHOTS, FRAMES = 5, 3
"""Pictures a second, and frames of the simulation from one to the next."""
ACTIONS, SLOWER = ("slower", "as it is", "faster"), 0
PANEL, GAP, TOP, BOTTOM, HOLD = 250, 10, 26, 26, 6
NEAR = 40.0
"""Metres from the centre to the border of a panel."""
WARNING = (190, 40, 40)


class FilmedIntersection(IntersectionVectorEnv):
    """Intersection-v0 that keeps a picture's worth of states of every second."""

    shots: list[State]

    def play_second(self, state: State) -> None:
        self.shots = [state.copy()]
        for _ in range(SHOTS):
            play(state, FRAMES)
            self.shots.append(state.copy())


class Second(NamedTuple):
    """What was seen, decided and done: places (V,), in metres, of those that were seen."""

    shots: list[State]
    columns: np.ndarray
    """Which vehicles of a shot were seen."""
    weights: np.ndarray
    brakes_for: np.ndarray
    """Whether the agent brakes, and would not without this vehicle."""
    action: str


def drive(agent: BaseAlgorithm, seed: int) -> tuple[list[Second], str]:
    """One episode, and how it ended."""
    env, actor, seconds = FilmedIntersection(1), Actor(agent), []
    obs, _ = env.reset(seed=seed)
    while True:
        record = record_attention(actor, obs)
        present = np.flatnonzero(obs["vehicles_present"][0])
        before = env._require_state().row(0)
        seen, action = before.x[before.slots[present]], int(record.action[0])
        brakes_for = (action == SLOWER) & (without_each(agent, obs, present) != SLOWER)
        obs, _, terminated, truncated, infos = env.step(record.action)
        columns = np.array([np.flatnonzero(env.shots[0].x[0] == x)[0] for x in seen], int)
        seconds.append(Second(env.shots, columns, record.entity_map()[0, present], brakes_for, ACTIONS[action]))
        if terminated[0] or truncated[0]:
            crashed = infos["final_info"]["crashed"][0] > 0
            ending = "crashed" if crashed else "arrived" if infos["final_info"]["is_success"][0] else "too late"
            return seconds, f"{ending} after {len(seconds)} s"


def without_each(agent: BaseAlgorithm, obs: dict[str, np.ndarray], slots: np.ndarray) -> np.ndarray:
    """The likeliest action without each vehicle: (V,)."""
    if not len(slots):
        return slots
    many = {key: np.repeat(block, len(slots), axis=0) for key, block in obs.items()}
    many["vehicles_present"][np.arange(len(slots)), slots] = 0
    with torch.no_grad():
        return agent.predict(many, deterministic=True)[0]


def draw(sheet: Sheet, picture: np.ndarray, second: Second, shot: State, corner: tuple[float, float]) -> None:
    """One panel: the junction, and where the agent looked when it decided."""
    x, y = corner
    sheet.box(x, y, PANEL, PANEL, PAPER, FAINT)
    sheet.paste(picture, x, y, (PANEL, PANEL), veil=0.1)

    def place(column: int) -> tuple[float, float]:
        at = np.clip(np.array([shot.x[0, column], shot.y[0, column]]) / NEAR, -1, 1)
        return x + PANEL * (at[0] + 1) / 2, y + PANEL * (at[1] + 1) / 2

    me = place(int(shot.ego[0]))
    for column, weight, is_reason in zip(second.columns, second.weights, second.brakes_for, strict=True):
        spot = place(int(column))
        if weight > 0.05:
            sheet.line([me, spot], ATTENTION, 1 + 6 * weight, 0.25 + 0.6 * weight)
        if is_reason:
            sheet.ring(spot, 11, WARNING, 2.5)
            sheet.text((spot[0], spot[1] - 18), "brakes for it", 11, WARNING, "mm", halo=True)


def picture_of(env: IntersectionVectorEnv, shot: State) -> np.ndarray:
    """The middle of the junction's picture."""
    size = round(2 * PANEL * SIGHT / NEAR)
    canvas, edge = Canvas(size), (size - 2 * PANEL) // 2
    env.draw(shot.row(0), canvas)
    return canvas.pixels()[edge : edge + 2 * PANEL, edge : edge + 2 * PANEL]


def film(agent: BaseAlgorithm, seeds: Sequence[int]) -> list[Image.Image]:
    """All episodes side by side; one that has ended stays as it was."""
    drives, env = [drive(agent, seed) for seed in seeds], IntersectionVectorEnv(1)
    longest, frames = max(len(seconds) for seconds, _ in drives), []
    for time in range(longest * SHOTS + HOLD):
        sheet = Sheet(len(seeds) * (PANEL + GAP) + GAP, TOP + PANEL + BOTTOM)
        now = [(seconds[min(time // SHOTS, len(seconds) - 1)], time >= len(seconds) * SHOTS) for seconds, _ in drives]
        shots = [second.shots[SHOTS if over else time % SHOTS] for second, over in now]
        pictures = [picture_of(env, shot) for shot in shots]  # kept: a sheet knows pictures by their ids
        for i, ((second, over), shot) in enumerate(zip(now, shots, strict=True)):
            x, (seconds, ending) = GAP + i * (PANEL + GAP), drives[i]
            draw(sheet, pictures[i], second, shot, (x, TOP))
            kmh = 3.6 * float(shot.speed[0, shot.ego[0]])
            sheet.text((x, TOP / 2), f"{min(time // SHOTS, len(seconds))} s   {kmh:.0f} km/h", 12, MUTED)
            sheet.text((x + PANEL / 2, TOP + PANEL + BOTTOM / 2), ending if over else second.action, 13, INK, "mm")
        frames.append(Image.fromarray(sheet.pixels()))
    return frames


def main() -> None:
    """Write the GIF."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[38, 42, 47])
    parser.add_argument("--out", type=Path, default=Path("docs/images/driving.gif"))
    args = parser.parse_args()
    frames = film(load(args.agent, trust=True), args.seeds)
    palette = Image.fromarray(np.concatenate([np.asarray(image) for image in frames[::6]])).quantize(64)
    shown = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in frames]
    shown[0].save(args.out, save_all=True, append_images=shown[1:], duration=200, loop=0, optimize=True)
    print(f"wrote {args.out}: {len(frames)} frames, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
