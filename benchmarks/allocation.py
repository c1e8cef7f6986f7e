"""Does attention follow the situation? Weight on the decisive entity and entropy, by distance or time to contact.

    python benchmarks/learning.py --envs Dodge Seek --policies attention   # trains and keeps the agents
    python benchmarks/allocation.py --models runs/learning

Plays the deterministic policy on held-out seeds, records the pattern that acted (readout row of the last layer) at
every step, and writes means per seed and situation to allocation.csv, which ``benchmarks/report.py`` plots. The
control is an untrained network without relations (their random strengths alone find matching entities).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3.common.base_class import BaseAlgorithm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that the script finds its neighbours

from attn_rl.envs.dodge import EGO_RADIUS, RADII, SPEEDS, STRIDE

from attn_rl import load, make_agent, make_vec_env, record_attention
from attn_rl.inspection.measure import metrics
from attn_rl.inspection.record.actor import Actor
from attn_rl.training.evaluation import EVALUATION_SEED
from attn_rl.training.loading import adapt
from benchmarks.learning import ENVIRONMENTS, append, finished, model_path
from benchmarks.results import read_csv

N_ENVS = 100
POLICY = "attention"
CONTROL = "untrained, relations off"


@dataclass(frozen=True)
class Situation:
    """What the decisive entity is to the ego.

    Attributes:
        name: axis label.
        edges: of its bins.
        measure: observations and decisive slots (S,) -> (S,).
    """

    name: str
    edges: tuple[float, ...]
    measure: Callable[[Mapping[str, np.ndarray], np.ndarray], np.ndarray]


@dataclass
class Args:
    """Record where kept agents look, by situation; see the module's docstring."""

    models: Path = Path("runs/learning")
    """Folder of the agents that benchmarks/learning.py keeps."""
    results: Path = Path("docs/results")
    """Folder of learning.csv; allocation.csv is written there."""
    steps: int = 100
    """Steps of 100 games for each agent."""


def distance(obs: Mapping[str, np.ndarray], slot: np.ndarray) -> np.ndarray:
    """Distance of the entity in a slot, as Seek and Dodge observe it: (S,)."""
    return obs["items"][np.arange(len(slot)), slot, 2]


def time_to_contact(obs: Mapping[str, np.ndarray], slot: np.ndarray) -> np.ndarray:
    """Steps until the disc in a slot touches an ego that walks straight to its goal: (S,).

    Smallest t >= 0 with |p + t v| = r: relative position, relative velocity and sum of the radii.
    """
    disc = obs["items"][np.arange(len(slot)), slot].astype(np.float64)
    to_goal = obs["ego"][:, 2:4].astype(np.float64)
    stride = STRIDE * to_goal / np.maximum(np.linalg.norm(to_goal, axis=-1, keepdims=True), 1e-9)
    position, velocity = disc[:, :2], disc[:, 3:5] * SPEEDS[1] - stride
    reach = disc[:, 5] * RADII[1] + EGO_RADIUS
    a, b = (velocity**2).sum(-1), (position * velocity).sum(-1)
    c = (position**2).sum(-1) - reach**2
    return np.maximum((-b - np.sqrt(np.maximum(b * b - a * c, 0))) / np.maximum(a, 1e-12), 0)


SITUATIONS = {
    "Dodge": Situation("steps to contact, walking straight on", tuple(range(9)), time_to_contact),
    "Seek": Situation("distance to the right item", (0, 0.15, 0.3, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2), distance),
}


def states(agent: BaseAlgorithm, env: Any, steps: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, Any]]:
    """Observations, decisive slots and attention records of the deterministic policy, step by step."""
    actor = Actor(agent)
    obs = env.reset()
    for _ in range(steps):
        record = record_attention(actor, obs)
        yield obs, np.asarray(env.env_method("relevant")), record
        obs, *_ = env.step(record.action)


def watch(agent: BaseAlgorithm, environment: str, steps: int) -> list[dict[str, Any]]:
    """Means per bin of the situation; states without a decisive entity are left out."""
    env_id, env_kwargs = ENVIRONMENTS[environment]
    situation = SITUATIONS[environment]
    env = make_vec_env(env_id, N_ENVS, seed=EVALUATION_SEED, env_kwargs=env_kwargs)
    seen = []
    for obs, slot, record in states(adapt(agent, env), env, steps):
        row, known = record.readout(), slot >= 0
        found = {
            "situation": situation.measure(obs, np.maximum(slot, 0)),
            "mass": metrics.mass_on(record.entity_map(), slot),
            "entropy": metrics.entropy(row, record.present[:, None]).mean(1),
            "uniform": 1 / record.present.sum(-1),
        }
        seen.append({name: values[known] for name, values in found.items()})
    env.close()
    return binned({name: np.concatenate([part[name] for part in seen]) for name in seen[0]}, situation.edges)


def binned(columns: dict[str, np.ndarray], edges: tuple[float, ...]) -> list[dict[str, Any]]:
    """Means of all columns by bin of ``situation``; empty bins are left out."""
    place = np.digitize(columns["situation"], edges) - 1
    rows = []
    for i, (low, high) in enumerate(pairwise(edges)):
        here = place == i
        if here.any():
            means = {name: round(float(values[here].mean()), 5) for name, values in columns.items()}
            rows.append({"from": low, "to": high, "states": int(here.sum()), **means})
    return rows


def main(args: Args) -> None:
    """Write the environments anew whose agents are all there; keep the rows of the others."""
    torch.set_num_threads(1)
    out = args.results / "allocation.csv"
    cells = [cell for cell in finished(args.results / "learning.csv") if cell.policy == POLICY]
    cells = sorted((c for c in cells if c.environment in SITUATIONS), key=lambda c: (c.environment, c.seed))
    missing = {cell.environment: path for cell in cells if not (path := model_path(args.models, cell)).exists()}
    kept = [row for row in read_csv(out) if row["environment"] in missing] if out.exists() else []
    out.unlink(missing_ok=True)
    if kept:
        append(out, kept)
    for cell in cells:
        path = model_path(args.models, cell)
        if cell.environment in missing:
            print(f"{missing[cell.environment]} is not there; run benchmarks/learning.py to train it")
            continue
        env_id, env_kwargs = ENVIRONMENTS[cell.environment]
        untrained = make_agent(make_vec_env(env_id, 1, env_kwargs=env_kwargs), seed=cell.seed, relations="off")
        for policy, agent in ((POLICY, load(path, trust=True)), (CONTROL, untrained)):
            about = {"environment": cell.environment, "policy": policy, "seed": cell.seed}
            name = {"axis": SITUATIONS[cell.environment].name}
            append(out, [{**about, **name, **row} for row in watch(agent, cell.environment, args.steps)])
        print(f"{cell.environment} seed {cell.seed} recorded", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
