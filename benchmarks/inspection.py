"""Do the maps tell the truth, and what does looking cost? One command::

    python -m benchmarks.inspection                     # train, measure, print the tables (some minutes)
    python -m benchmarks.inspection --envs Match Seek --seeds 3 --models runs/learning  # agents that are there
    python -m benchmarks.inspection --envs Seek --cost  # training with and without the callback, alternately

States are those that the trained deterministic policy meets on held-out seeds. Intervals are 95%: Wilson's for
shares, normal for means. `docs/reading-maps.md` explains the columns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure

from attn_rl import AttentionCallback, load, make_agent, make_vec_env, record_attention
from attn_rl.inspection.measure import metrics
from attn_rl.inspection.measure.effects import Effects, measure
from attn_rl.inspection.measure.invariants import absent_leak, replay_error
from attn_rl.inspection.measure.summary import verdicts
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.training.presets import find_preset
from benchmarks.learning import Cell, model_path, settings_of

ENVS = ("Match", "Seek", "Dodge", "Boxes")
HELD_OUT = 2_000_000
N_STATES = 512


class Measured(NamedTuple):
    """A policy's record of states that it met, the counterfactuals, and the slots that matter (S,)."""

    record: AttentionRecord
    effects: Effects
    relevant: np.ndarray
    errors: tuple[float, float]


def trained(env_id: str, seed: int, callback: bool = False, **settings: Any) -> tuple[BaseAlgorithm, float]:
    """The preset's agent after the preset's training, and the CPU seconds that took."""
    preset = find_preset(env_id)
    env = make_vec_env(env_id, preset.n_envs, seed=seed)
    agent = make_agent(env, seed=seed, **settings)
    with tempfile.TemporaryDirectory() as folder:
        agent.set_logger(configure(folder, ["tensorboard"]))
        start = time.process_time()
        watch = AttentionCallback(gym.make(env_id, render_mode="rgb_array"), folder) if callback else None
        agent.learn(preset.total_timesteps, callback=watch)
        return agent, time.process_time() - start


def kept(models: Path, name: str, seed: int) -> BaseAlgorithm:
    """The attention agent that the learning benchmark kept."""
    path = model_path(models, Cell(name, "attention", seed, settings_of(name, "attention").learning_rate))
    return load(path, trust=True)


def meet(agent: BaseAlgorithm, env_id: str, n_states: int = N_STATES, n_envs: int = 64) -> Measured:
    """Play the deterministic policy on held-out seeds and measure the states that it meets."""
    env = make_vec_env(env_id, n_envs, seed=HELD_OUT)
    observations, relevant = [], []
    obs: Any = env.reset()
    for _ in range(n_states // n_envs):
        observations.append(obs)
        relevant.append(np.asarray(env.env_method("relevant")))
        obs, *_ = env.step(agent.predict(obs, deterministic=True)[0])
    actor = Actor(agent)
    record = record_attention(actor, {key: np.concatenate([o[key] for o in observations]) for key in obs})
    checks = replay_error(actor, record), absent_leak(actor, record)
    return Measured(record, measure(actor, record), np.concatenate(relevant), checks)


def share(hits: np.ndarray) -> str:
    """A share with its Wilson interval, in per cent; a dash where nothing is known."""
    hits = hits[~np.isnan(hits)]
    if not len(hits):
        return "-"
    n, p, z = len(hits), hits.mean(), 1.96
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return f"{100 * p:.1f} [{100 * (centre - half):.1f}, {100 * (centre + half):.1f}]"


def interval(values: np.ndarray) -> str:
    """A mean with its 95% interval."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"


def truth_row(name: str, found: Measured) -> list[str]:
    """Which view names the entity that matters, and which agree."""
    record, effects, relevant, (replay, leak) = found
    present, entity_map = record.slot_present, record.entity_map()
    weighted = record.value_map()[..., record.lead :].sum(1)
    blamed = metrics.top_slot(effects["absence_kl"], present)
    views = [entity_map, weighted, effects["absence_kl"], record.pointer]
    named = ["-" if view is None else share(metrics.top1(view, relevant, present)) for view in views]
    agreement = share(metrics.top1(entity_map, blamed, present))
    uniform = f"{metrics.mean(effects['uniform_kl']):.2f}"
    return [name, *named, agreement, uniform, f"{replay:.0e}", f"{leak:g}"]


def control_row(name: str, found: Measured) -> list[str]:
    """An untrained network without relations against chance."""
    record, _, relevant, _ = found
    chance = np.where(relevant >= 0, 1 / np.maximum(record.slot_present.sum(-1), 1), np.nan)
    hits = metrics.top1(record.entity_map(), relevant, record.slot_present)
    return [name, share(hits), f"{100 * metrics.mean(chance):.1f}"]


def curve_row(name: str, found: Measured) -> list[str]:
    """Deletion (low is good) and insertion (high is good): area for map, random order and oracle."""
    present, cells = found.record.slot_present, []
    for column in (0, 1):
        curves = found.effects["curves"][:, :, column].transpose(1, 0, 2)  # map, random, oracle
        areas = [metrics.curve_area(curve, present) for curve in curves]
        cells += [interval(area) for area in areas]
    return [name, *cells]


def table(title: str, heading: list[str], rows: list[list[str]]) -> None:
    """Print Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    print(f"\n{title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines), flush=True)


def report(envs: list[str], seeds: int, models: Path | None) -> None:
    """Train on each environment, or take the agents from ``models``, and print all tables."""
    truth, controls, areas, sentences = [], [], [], []
    for name in envs:
        env_id = f"AttnRL/{name}-v0"
        for seed in range(seeds):
            label = f"{name}, seed {seed}"
            found = meet(kept(models, name, seed) if models else trained(env_id, seed)[0], env_id)
            truth.append(truth_row(label, found))
            areas.append(curve_row(label, found))
            sentences.append(f"{label}: {'; '.join(verdicts(found.record, found.effects))}")
            if (found.relevant >= 0).any():
                untrained = make_agent(make_vec_env(env_id, 1), seed=seed, relations="off")
                controls.append(control_row(label, meet(untrained, env_id)))
    heading = ["", "map", "weight x value", "absence effect", "pointer", "map = absence effect", "uniform_kl"]
    table(f"Share of {N_STATES} states in which a view puts the relevant entity first (%)", [*heading, "replay error",
          "absent leak"], truth)  # fmt: skip
    table("Untrained control (%)", ["", "map", "chance"], controls)
    orders = [f"{what}, {order}" for what in ("deletion", "insertion") for order in ("map", "random", "oracle")]
    table("Area under exp(-KL): deletion low, insertion high is good", ["", *orders], areas)
    print("\nWhat the inspector says:\n")
    print("\n".join(f"- {sentence}" for sentence in sentences))


def cost(env_id: str, rounds: int = 3) -> None:
    """Train alternately with and without; CPU seconds, which a busy machine disturbs less than the clock."""
    seconds = np.array([[trained(env_id, seed, callback)[1] for callback in (False, True)] for seed in range(rounds)])
    for without, seen in seconds:
        print(f"without {without:.2f} s, with {seen:.2f} s: {100 * (seen / without - 1):+.1f}%")
    print(f"median {100 * np.median(seconds[:, 1] / seconds[:, 0] - 1):+.1f}%")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=list(ENVS), choices=ENVS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--models", type=Path, help="folder of agents that benchmarks/learning.py kept; none: train")
    parser.add_argument("--cost", action="store_true", help="measure what the callback costs, nothing else")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.cost:
        for name in args.envs:
            cost(f"AttnRL/{name}-v0")
    else:
        report(args.envs, args.seeds, args.models)


if __name__ == "__main__":
    main()
