"""Train in Intersection-v0, judge there and in HighwayEnv itself, which it re-implements (docs/driving.md)::

    pip install -e ".[highway]"
    python -m benchmarks.intersection --steps 500000 --seeds 5 --episodes 200        # about half an hour a seed
    python -m benchmarks.intersection --policies attention --set learning_rate=1e-3 --steps 100000 --seeds 1
    python -m benchmarks.intersection --policies attention --set observe_intentions=true     # it sees who goes where

Trains what the CSV does not hold yet, one process for each agent, appends its rows (one for each simulator and density)
when it is finished, and prints the table. All policies play the same held-out episodes of a simulator, deterministic,
with HighwayEnv's own frequencies: 15 frames and one decision a second. Density 1.5 means one and a half times the
vehicles and the probability of new ones (at most 1), which no agent saw in training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attn_rl.envs.intersection import IntersectionVectorEnv
from attn_rl.envs.intersection.observation import FEATURES, INTENTIONS
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from attn_rl import make_agent, make_vec_env
from attn_rl.training.evaluation import EVALUATION_SEED
from attn_rl.training.presets import find_preset
from benchmarks.driving import FIELDS, Policy, chance, episodes_of, idle, make_roads, play, together, trained
from benchmarks.learning import append
from benchmarks.results import read_csv
from benchmarks.tables import NONE, markdown

ENV_ID, ROAD_ID = "AttnRL/Intersection-v0", "highway_env:intersection-v2"
SIMULATORS = ("Intersection-v0", "intersection-v2")
SCRIPTED = ("IDLE", "random", "cautious")
STOCK = "MultiInputPolicy"
LEARNERS = ("attention", "deepsets", "flat", STOCK)
IDENTITY = ("policy", "settings", "seed", "steps", "simulator", "density", "episodes")


def traffic(density: float) -> dict[str, Any]:
    """The arguments, by either simulator's names, of traffic that is denser than the default."""
    return {"initial_vehicle_count": round(10 * density), "spawn_probability": min(0.6 * density, 1.0)}


def make_games(simulator: str, density: float, episodes: int, intentions: bool = False) -> VecEnv:
    """Held-out episodes of a simulator, side by side."""
    if simulator == "Intersection-v0":
        told = {"observe_intentions": intentions}
        return make_vec_env(ENV_ID, episodes, EVALUATION_SEED, traffic(density) | told)
    config = traffic(density) | (observed_intentions() if intentions else {})
    return make_roads(ROAD_ID, episodes, EVALUATION_SEED, config=config)


def observed_intentions() -> dict[str, Any]:
    """HighwayEnv's configuration of an intersection that shows where everybody is going."""
    from highway_env.envs.intersection_env import IntersectionEnv

    observed = IntersectionEnv.default_config()["observation"]
    return {"observation": {**observed, "features": ["presence", *FEATURES, *INTENTIONS], "observe_intentions": True}}


def scripted(name: str, games: VecEnv) -> Policy:
    """A policy that needs no training."""
    if name == "cautious":
        return IntersectionVectorEnv(games.num_envs).oracle
    return idle(ROAD_ID, games.num_envs) if name == "IDLE" else chance(games)


def make_learner(policy: str, seed: int, settings: Mapping[str, Any]) -> PPO:
    """An agent of the preset; or what Stable-Baselines3 has for such observations, at its defaults but for settings."""
    settings = dict(settings)
    told = {"observe_intentions": settings.pop("observe_intentions", False)}
    env = make_vec_env(ENV_ID, find_preset(ENV_ID).n_envs, seed, told)
    if policy == STOCK:
        return PPO(STOCK, env, n_steps=2048 // env.num_envs, seed=seed, device="cpu", **settings)
    return make_agent(env, policy, seed=seed, **settings)


def prepare(arguments: argparse.Namespace, policy: str, seed: int) -> tuple[PPO, dict[str, Any]]:
    """An agent and what its training was: out of the folder of agents where it is there, else trained now."""
    name = f"{policy}__{said(arguments.set)}__{arguments.steps}__{seed}"
    kept, told = (arguments.agents / f"{name}{end}" if arguments.agents else None for end in (".zip", ".json"))
    if kept and told and told.exists():
        facts: dict[str, Any] = json.loads(told.read_text())
        return PPO.load(kept, device="cpu"), facts
    start = time.process_time()
    agent = make_learner(policy, seed, arguments.set).learn(arguments.steps)
    facts = {"settings": said(arguments.set), "steps": arguments.steps}
    facts["parameters"] = sum(p.numel() for p in agent.policy.parameters())
    facts["cpu_seconds"] = round(time.process_time() - start)
    if kept and told:
        agent.save(kept)
        told.write_text(json.dumps(facts))
    return agent, facts


def run(arguments: argparse.Namespace, policy: str, seed: int) -> list[dict[str, Any]]:
    """Train, where there is something to train, and judge: rows of the CSV."""
    torch.set_num_threads(1)
    facts: dict[str, Any] = {"policy": policy, "settings": "", "seed": seed, "steps": 0, "parameters": 0}
    facts["cpu_seconds"], agent = 0, None
    if policy in LEARNERS:
        agent, trained_as = prepare(arguments, policy, seed)
        facts |= trained_as
    rows = []
    for simulator in arguments.simulators:
        for density in arguments.densities:
            intentions = bool(agent and arguments.set.get("observe_intentions"))
            games = make_games(simulator, density, arguments.episodes, intentions)
            outcomes = play(games, scripted(policy, games) if agent is None else trained(agent))
            judged = {"simulator": simulator, "density": density, "episodes": arguments.episodes}
            rows.append(facts | judged | {field: json.dumps(values) for field, values in outcomes.items()})
            games.close()
    return rows


def said(settings: dict[str, Any]) -> str:
    """Settings as one word of a CSV."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


def table(rows: list[dict[str, str]]) -> str:
    """One line per simulator, density, policy and number of steps, as Markdown; the last columns: more than IDLE's."""
    head = ["judged in", "density", "policy", "steps", "CPU s", "seeds x episodes", "success", "crashed", "return"]
    head += ["crashed, more than IDLE", "return, more than IDLE"]
    key = ("simulator", "density", "policy", "settings", "steps", "episodes")
    lines = []
    for group in sorted(dict.fromkeys(tuple(row[k] for k in key) for row in rows), key=lambda g: g[:2]):
        mine = [row for row in rows if tuple(row[k] for k in key) == group]
        still = [row for row in rows if tuple(row[k] for k in (*key[:3], key[5])) == (*group[:2], "IDLE", group[5])]
        gains = [NONE] * 2
        if still and group[2] != "IDLE":
            gains = [together(episodes_of(mine, field) - episodes_of(still, field)) for field in FIELDS[1:]]
        cost = [NONE] * 2
        if int(group[4]):
            cost = [f"{int(group[4]):,}", f"{np.mean([float(row['cpu_seconds']) for row in mine]):.0f}"]
        name = f"{group[2]} ({group[3]})" if group[3] else group[2]
        figures = [together(episodes_of(mine, field)) for field in FIELDS]
        lines.append([*group[:2], name, *cost, f"{len(mine)} x {group[5]}", *figures, *gains])
    return markdown(head, lines)


def missing(arguments: argparse.Namespace, held: list[dict[str, str]]) -> list[tuple[str, int]]:
    """The policies and seeds of which a row is missing."""
    done = {tuple(row[k] for k in IDENTITY) for row in held}
    todo = []
    for policy in arguments.policies:
        learns = policy in LEARNERS
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds) if learns else (0,):
            cell = (policy, said(arguments.set), seed, arguments.steps) if learns else (policy, "", 0, 0)
            wanted = [(*cell, s, d, arguments.episodes) for s in arguments.simulators for d in arguments.densities]
            if not {tuple(map(str, row)) for row in wanted} <= done:
                todo.append((policy, seed))
    return todo


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the table."""
    held = read_csv(arguments.out) if arguments.out.exists() else []
    if arguments.agents:
        arguments.agents.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.workers) as pool:
        jobs = [pool.submit(run, arguments, *cell) for cell in missing(arguments, held)]
        for job in as_completed(jobs):
            append(arguments.out, job.result())
            print(table([{k: str(v) for k, v in row.items()} for row in job.result()]), flush=True)
    print(table(read_csv(arguments.out)))


def setting(text: str) -> tuple[str, Any]:
    """``learning_rate=1e-3`` -> its name and value."""
    name, _, value = text.partition("=")
    return name, json.loads(value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=[*SCRIPTED, *LEARNERS], choices=[*SCRIPTED, *LEARNERS])
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps of each agent")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--simulators", nargs="+", default=list(SIMULATORS), choices=SIMULATORS)
    parser.add_argument("--densities", nargs="+", type=float, default=[1.0])
    parser.add_argument("--set", nargs="+", type=setting, default=[], help="name=value over the preset's")
    parser.add_argument("--workers", type=int, default=1, help="agents side by side")
    parser.add_argument("--agents", type=Path, help="folder of agents: what is there is judged, not trained again")
    parser.add_argument("--out", type=Path, default=Path("docs/results/intersection.csv"))
    given = parser.parse_args()
    given.set = dict(given.set)
    main(given)
