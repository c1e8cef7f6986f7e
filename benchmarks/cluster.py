"""RLlib with 0, 1 and 2 runners beside ``EntityPPO``: success, steps per second, and where the time goes.

Writes ``docs/results/cluster.csv``, which ``docs/cluster.md`` quotes. Ten minutes on two idle cores; needs the extra
``ray``: ``python -m benchmarks.cluster``.
"""

from __future__ import annotations

import csv
import os
import pickle
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import tyro

from attn_rl import make_agent, make_vec_env
from attn_rl.ray import ppo_config, to_sb3
from attn_rl.training.evaluation import evaluate
from attn_rl.training.loading import load
from attn_rl.training.presets import find_preset

ENV = "AttnRL/Seek-v0"
FIELDS = (
    *("engine", "runners", "seed", "steps", "seconds", "steps_per_second", "success"),
    *("sample_seconds", "learn_seconds", "sync_seconds", "bytes_per_sample", "bytes_per_sync"),
)


@dataclass
class Args:
    """What to measure."""

    steps: int = 200_000
    """Of each training."""
    runners: tuple[int, ...] = (0, 1, 2)
    """Numbers of runners; -1 is EntityPPO without Ray."""
    seed: int = 0
    """Of network and environments."""
    episodes: int = 1000
    """Held-out ones that a trained agent plays."""
    out: Path = Path("docs/results/cluster.csv")
    """Where the rows are appended."""


def by_sb3(args: Args) -> dict[str, Any]:
    """Train with ``EntityPPO``."""
    n_envs = find_preset(ENV).n_envs
    agent = make_agent(make_vec_env(ENV, n_envs, seed=args.seed), seed=args.seed)
    start = time.perf_counter()
    agent.learn(args.steps)
    seconds = time.perf_counter() - start
    success = evaluate(agent, ENV, episodes=args.episodes).success_rate
    return {"engine": "EntityPPO", "seconds": seconds, "steps": agent.num_timesteps, "success": success}


def by_rllib(args: Args, runners: int, folder: Path) -> dict[str, Any]:
    """Train with RLlib."""
    config = ppo_config(ENV, total_timesteps=args.steps, seed=args.seed)
    if runners:
        n_envs = find_preset(ENV).n_envs // runners
        config.env_runners(num_env_runners=runners, num_envs_per_env_runner=n_envs)
    algorithm = config.build_algo()
    weights = algorithm.learner_group.get_weights()
    start, steps, timers = time.perf_counter(), 0, dict.fromkeys(("sample", "learn", "sync"), 0.0)
    iterations = 0
    while steps < args.steps:
        result = algorithm.train()
        iterations += 1
        steps = int(result["env_runners"]["num_env_steps_sampled_lifetime"])
        for name, key in (
            ("sample", "env_runner_sampling_timer"),
            ("learn", "learner_update_timer"),
            ("sync", "synch_weights"),
        ):
            timers[name] += float(result["timers"][key])
    seconds = time.perf_counter() - start
    run = to_sb3(algorithm, folder, name=f"rllib-{runners}-{args.seed}")
    success = evaluate(load(run), ENV, episodes=args.episodes).success_rate
    chunks = ppo_chunks(config)
    algorithm.stop()
    return {
        **{"engine": "RLlib", "runners": runners, "seconds": seconds, "steps": steps, "success": success},
        **{f"{name}_seconds": spent / iterations for name, spent in timers.items()},
        "bytes_per_sync": len(pickle.dumps(weights)),
        "bytes_per_sample": len(pickle.dumps(chunks)) // sum(map(len, chunks)),
    }


def ppo_chunks(config: Any) -> list[Any]:
    """What a runner sends for one train batch."""
    from attn_rl.ray import EntityEnvRunner

    alone = config.copy(copy_frozen=False).env_runners(num_env_runners=0)
    made = EntityEnvRunner(config=alone, worker_index=0, num_workers=0)
    chunks: list[Any] = made.sample(num_timesteps=1024, explore=True)
    made.stop()
    return chunks


def main(args: Args) -> None:
    """Measure, print, append."""
    with TemporaryDirectory() as folder:
        for runners in args.runners:
            if runners < 0:
                row = by_sb3(args)
            else:
                if not ray.is_initialized():
                    os.environ.setdefault("RAY_worker_niceness", "0")  # the learner has the usual one, too
                    ray.init(
                        num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20,
                        _temp_dir=str(Path(folder) / "ray"),
                    )  # fmt: skip
                row = by_rllib(args, runners, Path(folder))
            row |= {"seed": args.seed, "steps_per_second": row["steps"] / row["seconds"]}
            append(args.out, row)
            print({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()})
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{used.ru_utime + used.ru_stime:.0f} s of CPU in this process")


def append(path: Path, row: dict[str, Any]) -> None:
    """Append a row to the CSV file."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.4g}" if isinstance(v, float) and v < 1e5 else v for k, v in row.items()})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
