"""Driving in HighwayEnv: attention, DeepSets and a flat MLP after equally many steps, against doing nothing and chance.

    pip install -e ".[highway]"
    python -m benchmarks.driving --envs intersection-v2 --steps 15360 --seeds 2 --episodes 200      # the page
    python -m benchmarks.driving --envs intersection-v2 --steps 50000 --seeds 5     # with patience

Trains what ``docs/results/driving.csv`` does not hold yet, one process for each agent, appends each agent when it is
finished, and prints the table. Slots are shuffled at every step. Agents train in a simulation of 5 steps a second,
which halves the cost, and are judged in HighwayEnv's own. Rows: success (arrived; on a highway, drove to the end),
crash rate and return over whole episodes, deterministic policy. All play the same episodes, one for each held-out seed,
so that each is compared with IDLE episode by episode.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from attn_rl import make_agent, make_vec_env
from attn_rl.adapters import make_env
from attn_rl.training.evaluation import EVALUATION_SEED
from attn_rl.training.presets import find_preset
from benchmarks.learning import append
from benchmarks.results import read_csv
from benchmarks.tables import NONE, markdown

ENVS = ("highway-fast-v0", "intersection-v1", "intersection-v2")
LEARNERS = ("attention", "deepsets", "flat")
FIELDS = ("success", "crashed", "ret")
N_ENVS = 8
TRAINED_AT = {"config": {"simulation_frequency": 5}}
Policy = Callable[[Any], np.ndarray]
Cell = tuple[str, str, int]  # environment, policy, seed


def make_roads(env_id: str, n_envs: int, seed: int, **kwargs: Any) -> VecEnv:
    """Environments in this one process, which takes the least CPU time, with the vehicles in shuffled slots."""
    return make_vec_env(env_id, n_envs, seed, {"order": "shuffled", **kwargs}, DummyVecEnv)


def idle(env_id: str, n_envs: int) -> Policy:
    """Keep lane and speed: HighwayEnv's IDLE; with continuous actions, zero."""
    env: Any = make_env(env_id).unwrapped
    indexes = getattr(env.action_type, "actions_indexes", None)
    action = np.zeros(env.action_space.shape, np.float32) if indexes is None else np.array(indexes["IDLE"])
    return lambda observations: np.stack([action] * n_envs)


def chance(vec_env: VecEnv, seed: int = 0) -> Policy:
    """Uniform actions."""
    vec_env.action_space.seed(seed)
    return lambda observations: np.stack([vec_env.action_space.sample() for _ in range(vec_env.num_envs)])


def trained(agent: Any) -> Policy:
    """The deterministic policy of an agent."""
    return lambda observations: agent.predict(observations, deterministic=True)[0]


def play(vec_env: VecEnv, policy: Policy) -> dict[str, list[float]]:
    """Play the first episode of every sub-environment; return the ``FIELDS`` of each."""
    outcomes = {field: [np.nan] * vec_env.num_envs for field in FIELDS}
    observations = vec_env.reset()
    while np.isnan(outcomes["ret"]).any():
        observations, _, dones, infos = vec_env.step(policy(observations))
        for i in np.flatnonzero(dones & np.isnan(outcomes["ret"])):
            told = infos[i]
            ended = (told["is_success"], told["crashed"], told["episode"]["r"])
            for field, value in zip(FIELDS, ended, strict=True):
                outcomes[field][i] = round(float(value), 4)
    return outcomes


def run(name: str, policy: str, seed: int, steps: int, episodes: int) -> dict[str, Any]:
    """Train (where there is something to train) and evaluate: a row of the CSV."""
    torch.set_num_threads(1)
    env_id, start = f"highway_env:{name}", time.process_time()
    facts: dict[str, Any] = {"environment": name, "policy": policy, "seed": seed, "steps": 0, "parameters": 0}
    games = make_roads(env_id, episodes, EVALUATION_SEED)
    if policy in LEARNERS:
        agent = make_agent(make_roads(env_id, N_ENVS, seed, **TRAINED_AT), policy, seed=seed)
        agent.learn(steps)
        facts |= {"steps": agent.num_timesteps, "parameters": sum(p.numel() for p in agent.policy.parameters())}
        acting = trained(agent)
    else:
        acting = idle(env_id, episodes) if policy == "IDLE" else chance(games)
    facts["cpu_seconds"] = round(time.process_time() - start)
    return facts | {field: json.dumps(values) for field, values in play(games, acting).items()}


def episodes_of(rows: list[dict[str, str]], field: str) -> np.ndarray:
    """Every seed's episodes: (seeds, episodes)."""
    return np.array([json.loads(row[field]) for row in rows])


def together(values: np.ndarray) -> str:
    """``5.95 ± 0.32 (5.80, 6.10)``: mean, its standard error over episodes (seeds averaged first), each seed."""
    of_episodes = values.mean(axis=0)
    each = f" ({', '.join(f'{mean:.2f}' for mean in values.mean(axis=1))})" if len(values) > 1 else ""
    return f"{of_episodes.mean():.2f} ± {of_episodes.std(ddof=1) / len(of_episodes) ** 0.5:.2f}{each}"


def driving_table(rows: list[dict[str, str]]) -> str:
    """One line per environment, policy and number of steps, as Markdown; figures as :func:`together` writes them.

    The last two columns: what an agent has more than IDLE in the same episodes.
    """
    head = ["", "policy", "steps", "parameters", "CPU s", "seeds x episodes", "success", "crashed", "return"]
    head += ["crashed, more than IDLE", "return, more than IDLE"]
    lines = []
    for environment, policy, steps in dict.fromkeys((r["environment"], r["policy"], r["steps"]) for r in rows):
        mine = [r for r in rows if (r["environment"], r["policy"], r["steps"]) == (environment, policy, steps)]
        still = [r for r in rows if (r["environment"], r["policy"]) == (environment, "IDLE")]
        seconds = np.mean([float(r["cpu_seconds"]) for r in mine])
        cost = [f"{int(steps):,}", f"{int(mine[0]['parameters']):,}", f"{seconds:.0f}"] if int(steps) else [NONE] * 3
        figures = [together(episodes_of(mine, field)) for field in FIELDS]
        gains = [NONE] * 2
        if still and policy != "IDLE":
            gains = [together(episodes_of(mine, field) - episodes_of(still, field)) for field in FIELDS[1:]]
        n_episodes = episodes_of(mine, "ret").shape[1]
        lines.append([environment, policy, *cost, f"{len(mine)} x {n_episodes}", *figures, *gains])
    return markdown(head, lines)


def trained_steps(environment: str, policy: str, steps: int) -> int:
    """The steps that a row will tell: whole rollouts; 0 where there is nothing to train."""
    rollout = N_ENVS * find_preset(f"highway_env:{environment}").settings("attention").n_steps
    return -(-steps // rollout) * rollout if policy in LEARNERS else 0


def missing(cells: list[Cell], steps: int, held: list[dict[str, str]]) -> list[Cell]:
    """The cells that no row holds after as many steps."""
    done = {(row["environment"], row["policy"], int(row["seed"]), int(row["steps"])) for row in held}
    return [cell for cell in cells if (*cell, trained_steps(*cell[:2], steps)) not in done]


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the table."""
    held = read_csv(arguments.out) if arguments.out.exists() else []
    cells = [(name, policy, 0) for name in arguments.envs for policy in ("IDLE", "random")]
    cells += [(name, policy, seed) for name in arguments.envs for seed in range(arguments.seeds) for policy in LEARNERS]
    todo = missing(cells, arguments.steps, held)
    with ProcessPoolExecutor(arguments.workers) as pool:
        for future in as_completed([pool.submit(run, *cell, arguments.steps, arguments.episodes) for cell in todo]):
            append(arguments.out, [future.result()])
            print(future.result(), flush=True)
    print(driving_table(read_csv(arguments.out)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=ENVS[:1], choices=ENVS, help="ids without the module prefix")
    parser.add_argument("--steps", type=int, default=10_000, help="environment steps of each agent")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1, help="agents side by side")
    parser.add_argument("--out", type=Path, default=Path("docs/results/driving.csv"))
    main(parser.parse_args())
