"""The figures that a run ends with: ``evaluation.json`` and a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm

from attn_rl.training.evaluation import Row, evaluate
from attn_rl.training.presets import find_preset
from attn_rl.training.run.folder import write_json
from attn_rl.training.run.optimizer_state import DoesNotFit


def report(agent: BaseAlgorithm, config: Mapping[str, Any], folder: Path, seconds: float) -> None:
    """Evaluate at the trained counts, then with more entities than ever seen; write and print the figures.

    Args:
        agent: trained.
        config: ``env``, ``env_kwargs``, ``policy``, ``seed``, ``eval_episodes`` (per row; 0 skips the table), and
            ``processes`` where each environment gets one.
        folder: the run folder.
        seconds: of training.
    """
    transfer = find_preset(config["env"], config["env_kwargs"]).transfer
    variants = [config["env_kwargs"], *({**config["env_kwargs"], **change} for change in transfer)]
    rows = [evaluate_or_null(agent, config, kwargs) for kwargs in variants] if config["eval_episodes"] else []
    steps_per_second = agent.num_timesteps / seconds
    write_json(
        folder / "evaluation.json",
        {
            **{name: config[name] for name in ("env", "env_kwargs", "policy", "seed")},
            "total_timesteps": agent.num_timesteps,
            "train_seconds": seconds,
            "steps_per_second": steps_per_second,
            "parameters": sum(p.numel() for p in agent.policy.parameters()),
            "results": [asdict(row) for row in rows],
        },
    )
    print_table(rows, config)
    Console().print(f"{seconds:.0f} s of training, {steps_per_second:,.0f} environment steps per second.")
    print_where_to_look(folder)


def evaluate_or_null(agent: BaseAlgorithm, config: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> Row:
    """One row of the table; an empty one where the policy cannot take so many entities (a flat one cannot)."""
    try:
        processes = config.get("processes", False)
        return evaluate(agent, config["env"], env_kwargs, episodes=config["eval_episodes"], processes=processes)
    except DoesNotFit:
        return Row(env_kwargs.get("min_entities"), env_kwargs.get("max_entities"))


def print_table(rows: list[Row], config: Mapping[str, object]) -> None:
    """The table that a run ends with."""
    episodes = max((row.episodes for row in rows), default=0)
    table = Table(title=f"{config['policy']} on {config['env']}, {episodes} episodes a row, deterministic")
    gaps = any(row.gap is not None for row in rows)
    for heading in ("entities", "success", "mean return", *["gap"] * gaps, "looks at the right one"):
        table.add_column(heading, justify="right")
    for i, row in enumerate(rows):
        name = name_row(row.min_entities, row.max_entities, i)
        figures = (row.success_rate, row.mean_return, *[row.gap] * gaps, row.top1_relevant)
        table.add_row(name, *map(show, figures))
    Console().print(table)


def name_row(least: int | None, most: int | None, index: int) -> str:
    """The first column: how many entities, and whether that was trained (the first row)."""
    kind = "trained" if index == 0 else "zero-shot"
    counts = f"{least}-{most}" if least != most else most
    return kind if counts is None else f"{counts} ({kind})"


def print_where_to_look(folder: Path) -> None:
    """The last lines of a run."""
    console = Console()
    console.print(f"Saved in {escape(str(folder))}/", soft_wrap=True)
    console.print(f"Look at it:  [bold]tensorboard --logdir {escape(str(folder.parent))}[/bold]", soft_wrap=True)
    console.print(
        "Images: drag a slider to watch the same scenes being learned, head by head.\n"
        "Scalars: attention/* says whether the map matters. docs/tensorboard.md explains every tag.",
        soft_wrap=True,
    )


def show(value: float | None) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"
