"""Train an agent that attends over entities, evaluate it, and show where it looks.

python train.py                                          # attention on Seek, about a minute

python train.py --policy flat                            # the same with a flat MLP

python train.py --env envs:AttnRL/Match-v0 --env-kwargs rule odd

python train.py --env envs:AttnRL/Dodge-v0 --seed 3 --n-heads 2

tensorboard --logdir runs                                # and look at it
"""

from __future__ import annotations

import ast
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure
from tyro.conf import OmitArgPrefixes

from attn_rl import load, make_agent, make_vec_env
from attn_rl.training.evaluation import Row, evaluate
from attn_rl.training.loading import DoesNotFit
from attn_rl.training.presets import PolicyName, Settings, find_preset
from attn_rl.training.progress import ProgressCallback
from attn_rl.training.run_folder import create_run_folder, versions, write_json


@dataclass(frozen=True)
class Args:
    """Train an agent that attends over the entities in its observation."""

    env: str = "envs:AttnRL/Seek-v0"
    """Gymnasium id, with the module that registers it in front."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment, as pairs: --env-kwargs max_entities 12 capacity 16."""
    policy: PolicyName = "attention"
    """attention, or one of its opponents."""
    total_timesteps: int = 200_000
    """Steps over all environments; rounded up to whole rollouts."""
    seed: int = 0
    """Of the network, the actions and the environments."""
    n_envs: int = 128
    """Environments side by side."""
    run_name: str | None = None
    """Folder name; None: <env>__<policy>__<seed>__<time>."""
    runs_dir: Path = Path("runs")
    """Parent of all run folders."""
    device: str = "cpu"
    """Torch's name of the device; these networks are small, a CPU core is quick."""
    threads: int = 1
    """Torch threads; with networks this small more threads are slower."""
    load: Path | None = None
    """Begin with the weights of this run folder or model zip, which may have fewer entity slots."""
    eval_episodes: int = 1000
    """Episodes per row of the final table; 0 skips it."""
    settings: Annotated[Settings, OmitArgPrefixes] = field(default_factory=Settings)
    """Network and PPO; the defaults shown are the environment's preset."""


def parse(argv: list[str]) -> Args:
    """Read the command line in two passes: the environment and policy choose the defaults of everything else."""
    chosen, _ = tyro.cli(Args, args=[a for a in argv if a not in ("-h", "--help")], return_unknown_args=True)
    preset = find_preset(chosen.env, chosen.env_kwargs)
    defaults = Args(
        env=chosen.env,
        policy=chosen.policy,
        total_timesteps=preset.total_timesteps,
        n_envs=preset.n_envs,
        settings=preset.settings(chosen.policy),
    )
    args = tyro.cli(Args, args=argv, default=defaults, description=__doc__)
    typed: dict[str, Any] = {name: literal(value) for name, value in args.env_kwargs.items()}
    return replace(args, env_kwargs=typed)


def literal(text: str) -> Any:
    """Read a number, a bool or None where the text is one: "8" -> 8, "odd" -> "odd"."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def train(args: Args) -> Path:
    """Train, evaluate, save; returns the run folder."""
    torch.set_num_threads(args.threads)
    env = make_vec_env(args.env, args.n_envs, seed=args.seed, env_kwargs=args.env_kwargs)
    if args.load is None:
        agent = make_agent(env, args.policy, seed=args.seed, device=args.device, **asdict(args.settings))
    else:
        agent = load(args.load, env=env, device=args.device)
    folder = create_run_folder(args.runs_dir, args.env, args.policy, args.seed, args.run_name)
    write_json(folder / "args.json", asdict(args) | {"command": sys.argv, "versions": versions()})
    agent.set_logger(configure(str(folder), ["tensorboard"]))

    start = time.perf_counter()
    learn(agent, args, folder)
    seconds = time.perf_counter() - start
    agent.save(folder / "model.zip")
    report(agent, args, folder, seconds)
    return folder


def learn(agent: PPO, args: Args, folder: Path) -> None:
    """Learn under the progress bar, recording attention on the way."""
    progress = ProgressCallback()
    try:
        agent.learn(args.total_timesteps, callback=progress)
    finally:
        progress.close()


def report(agent: PPO, args: Args, folder: Path, seconds: float) -> None:
    """Evaluate at the trained counts, then with more entities than ever seen; write and print the figures."""
    transfer = find_preset(args.env, args.env_kwargs).transfer
    variants = [args.env_kwargs, *({**args.env_kwargs, **change} for change in transfer)]
    rows = [evaluate_or_null(agent, args, kwargs) for kwargs in variants] if args.eval_episodes else []
    steps_per_second = agent.num_timesteps / seconds
    write_json(
        folder / "evaluation.json",
        {
            "env": args.env,
            "env_kwargs": args.env_kwargs,
            "policy": args.policy,
            "seed": args.seed,
            "total_timesteps": agent.num_timesteps,
            "train_seconds": seconds,
            "steps_per_second": steps_per_second,
            "parameters": sum(p.numel() for p in agent.policy.parameters()),
            "results": [asdict(row) for row in rows],
        },
    )
    print_report(rows, args, folder, seconds, steps_per_second)


def evaluate_or_null(agent: PPO, args: Args, env_kwargs: dict[str, Any]) -> Row:
    """One row of the table; an empty one where the policy cannot take so many entities (a flat one cannot)."""
    try:
        return evaluate(agent, args.env, env_kwargs, episodes=args.eval_episodes)
    except DoesNotFit:
        return Row(env_kwargs.get("min_entities"), env_kwargs.get("max_entities"))


def print_report(rows: list[Row], args: Args, folder: Path, seconds: float, steps_per_second: float) -> None:
    """The table that a run ends with, and where to look next."""
    table = Table(title=f"{args.policy} on {args.env}, {args.eval_episodes} episodes a row, deterministic")
    for heading in ("entities", "success", "mean return", "looks at the right one"):
        table.add_column(heading, justify="right")
    for i, row in enumerate(rows):
        counts = f"{row.min_entities}-{row.max_entities}" if row.min_entities != row.max_entities else row.max_entities
        name = f"{counts} (trained)" if i == 0 else f"{counts} (zero-shot)"
        table.add_row(name, *map(show, (row.success_rate, row.mean_return, row.top1_relevant)))
    console = Console()
    console.print(table)
    console.print(f"{seconds:.0f} s of training, {steps_per_second:,.0f} environment steps per second.")
    console.print(f"Saved in {folder}/", soft_wrap=True)
    console.print(
        f"Look at it:  [bold]tensorboard --logdir {args.runs_dir}[/bold]\n"
        "Images: drag a slider to watch the same scenes being learned, head by head.\n"
        "Scalars: attention/* says whether the map matters. docs/tensorboard.md explains every tag."
    )


def show(value: float | None) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    try:
        train(parse(sys.argv[1:]))
    except ValueError as error:
        sys.exit(f"error: {error}")
