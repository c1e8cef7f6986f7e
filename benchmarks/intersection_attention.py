"""Where does a driver look? Weight and effect of the vehicle in its way, by the time until they would meet::

    python -m benchmarks.intersection --policies attention --agents runs/drivers
    python -m benchmarks.intersection_attention runs/drivers      # docs/driving.md

Plays the deterministic policy in held-out games of Intersection-v0 and records at every step the pattern that acted,
and what the policy would do without each of the vehicles in turn (KL divergence in nats). The vehicle in the way is the
one that the ego would meet first within three seconds at 9 m/s, if all others kept their routes and speeds. Writes one
row for each agent and bin, and prints means with 95% intervals over the agents.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from attn_rl.envs.intersection.observation import meeting_times
from stable_baselines3.common.base_class import BaseAlgorithm

from attn_rl import load, record_attention
from attn_rl.inspection.measure.effects import absence
from attn_rl.inspection.measure.metrics import mass_on
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.training.evaluation import EVALUATION_SEED
from benchmarks.intersection import ENV_ID
from benchmarks.learning import append
from benchmarks.results import read_csv
from benchmarks.tables import NONE, markdown

SECONDS = (0.0, 0.75, 1.5, 2.25, 3.0)
SLOWER = 0
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Number of agents -> 97.5th percentile of Student's t."""


def watch(agent: BaseAlgorithm, games: int, seconds: int) -> list[dict[str, Any]]:
    """Means over states, by the time until the ego would meet the vehicle in its way; the last row: nobody is."""
    env: Any = gym.make_vec(ENV_ID, num_envs=games).unwrapped
    obs, _ = env.reset(seed=EVALUATION_SEED)
    actor, seen = Actor(agent), []
    for _ in range(seconds):
        record = record_attention(actor, obs)
        seen.append(_state_by_state(actor, record, env))
        obs, *_ = env.step(record.action)
    columns = {name: np.concatenate([part[name] for part in seen]) for name in seen[0]}
    rows = []
    for low, high in [*pairwise(SECONDS), (np.inf, np.inf)]:
        here = (columns["seconds"] >= low) & ((columns["seconds"] < high) | (high == np.inf))
        means = {name: round(float(known_mean(values[here])), 5) for name, values in columns.items()}
        rows.append({"from": low, "to": high, "states": int(here.sum()), **means})
    return rows


def _state_by_state(actor: Actor, record: AttentionRecord, env: Any) -> dict[str, np.ndarray]:
    """What is averaged: arrays (S,), NaN where there is nothing to say."""
    slot, here = env.relevant(), np.arange(len(env.relevant()))
    gone, n_present = absence(actor, record)["absence_kl"], record.slot_present.sum(axis=1)
    others = np.where(np.arange(gone.shape[1]) == slot[:, None], np.nan, gone)
    several = (slot >= 0) & (n_present > 1)
    others_most = np.where(several, np.nanmax(np.where(np.isnan(others), -np.inf, others), axis=1), np.nan)
    effect = np.where(slot >= 0, gone[here, slot], np.nan)
    weights = record.entity_map()
    known = {"weight": mass_on(weights, slot), "effect": effect, "others_most": others_most}
    known["others_mean"] = np.where(several, np.nansum(others, axis=1) / np.maximum(n_present - 1, 1), np.nan)
    known["is_greatest"] = np.where(several, effect > others_most, np.nan)
    known["equal"] = np.where(slot >= 0, 1 / np.maximum(n_present, 1), np.nan)
    known["slower"] = (record.action == SLOWER).astype(float)
    return {"seconds": meeting_times(env.unwrapped._require_state()).min(axis=1), **known}


def known_mean(values: np.ndarray) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def of_agents(values: np.ndarray) -> str:
    """``.312 [.290, .333]``: mean over agents and, of several, its 95% interval (Student's t)."""
    if not np.isfinite(values).all():
        return NONE
    mean = f"{values.mean():.3f}"
    if len(values) < 2:
        return mean
    half = STUDENT[min(len(values), max(STUDENT))] * values.std(ddof=1) / len(values) ** 0.5
    return f"{mean} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"


def table(rows: list[dict[str, str]]) -> str:
    """One line a bin, as Markdown."""
    figures = ("weight", "equal", "effect", "others_mean", "is_greatest", "slower")
    lines = []
    for low, high in dict.fromkeys((row["from"], row["to"]) for row in rows):
        here = [row for row in rows if (row["from"], row["to"]) == (low, high)]
        name = "nobody in the way" if low == "inf" else f"{low} to {high} s"
        states = sum(int(row["states"]) for row in here)
        lines.append([name, f"{states:,}", *(of_agents(np.array([float(row[f]) for row in here])) for f in figures)])
    head = ["meets", "states", "weight on it", "equal weights", "KL without it", "KL without another"]
    return markdown([*head, "it is the one that matters most", "brakes"], lines)


def main(arguments: argparse.Namespace) -> None:
    """Watch all agents of the folder and print the table."""
    arguments.out.unlink(missing_ok=True)
    for path in sorted(arguments.agents.glob("attention__*.zip")):
        rows = watch(load(path, trust=True), arguments.games, arguments.seconds)
        append(arguments.out, [{"agent": path.stem, **row} for row in rows])
    print(table(read_csv(arguments.out)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", type=Path, help="folder of the agents that benchmarks.intersection saves")
    parser.add_argument("--games", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=39)
    parser.add_argument("--out", type=Path, default=Path("docs/results/intersection_attention.csv"))
    main(parser.parse_args())
