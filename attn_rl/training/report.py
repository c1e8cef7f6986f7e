"""The figures that a run ends with: ``evaluation.json`` and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm

from attn_rl.training.diagnosis import MOST_SENTENCES
from attn_rl.training.evaluation import Row, evaluate
from attn_rl.training.presets import find_preset
from attn_rl.training.run.folder import write_json
from attn_rl.training.run.optimizer_state import DoesNotFit


def report(
    agent: BaseAlgorithm, config: Mapping[str, Any], folder: Path, seconds: float, advice: Sequence[str] = ()
) -> None:
    """Evaluate at the trained counts, then with more entities than ever seen; write and print the figures.

    Args:
        agent: trained.
        config: ``env``, ``env_kwargs``, ``policy``, ``seed``, ``eval_episodes`` (per row; 0 skips the table), and
            ``processes`` where each environment gets one.
        folder: the run folder.
        seconds: of training.
        advice: what to try next, see :mod:`attn_rl.training.diagnosis`.
    """
    transfer = find_preset(config["env"], config["env_kwargs"]).transfer
    variants = [config["env_kwargs"], *({**config["env_kwargs"], **change} for change in transfer)]
    rows = [evaluate_or_null(agent, config, kwargs) for kwargs in variants] if config["eval_episodes"] else []
    steps_per_second = agent.num_timesteps / seconds
    said = [*better_by_chance(rows), *advice][:MOST_SENTENCES]
    write_json(
        folder / "evaluation.json",
        {
            **{name: config[name] for name in ("env", "env_kwargs", "policy", "seed")},
            "total_timesteps": agent.num_timesteps,
            "train_seconds": seconds,
            "steps_per_second": steps_per_second,
            "parameters": sum(p.numel() for p in agent.policy.parameters()),
            "results": [asdict(row) for row in rows],
            "advice": said,
        },
    )
    print_table(rows, config)
    for line in table_notes(rows, pointer=getattr(agent.policy, "pointer", None)):
        Console().print(line, style="dim", soft_wrap=True)
    Console().print(f"{seconds:.0f} s of training, {steps_per_second:,.0f} environment steps per second.")
    for sentence in said:
        Console().print(f"What to try: {escape(sentence)}", highlight=False, soft_wrap=True)
    print_where_to_look(folder)


def evaluate_or_null(agent: BaseAlgorithm, config: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> Row:
    """One row of the table; an empty one where the policy cannot take so many entities (a flat one cannot)."""
    try:
        processes = config.get("processes", False)
        episodes = config["eval_episodes"]
        return evaluate(agent, config["env"], env_kwargs, episodes=episodes, processes=processes, stochastic=True)
    except DoesNotFit:
        return Row(env_kwargs.get("min_entities"), env_kwargs.get("max_entities"))


def print_table(rows: list[Row], config: Mapping[str, object]) -> None:
    """The table that a run ends with."""
    episodes = max((row.episodes for row in rows), default=0)
    table = Table(title=f"{config['policy']} on {config['env']}, {episodes} episodes a row, deterministic")
    columns = {"success": [row.success_rate for row in rows]}
    if any(row.differs_by_chance for row in rows):
        columns["stochastic"] = [row.stochastic_success_rate for row in rows]
    columns["mean return"] = [row.mean_return for row in rows]
    if any(row.gap is not None for row in rows):
        columns["gap"] = [row.gap for row in rows]
    columns["looks at the right one"] = [row.top1_relevant for row in rows]
    for heading in ("entities", *columns):
        table.add_column(heading, justify="right")
    for i, row in enumerate(rows):
        name = name_row(row.min_entities, row.max_entities, i)
        table.add_row(name, *(show(column[i]) for column in columns.values()))
    Console().print(table)


def table_notes(rows: list[Row], pointer: str | None) -> list[str]:
    """What a reader of the table would stumble over: no success, or a map that is not what a pointer acts by."""
    played = [row for row in rows if row.episodes]
    notes = []
    if played and all(row.success_rate is None for row in played):
        notes.append('No success: the environment does not tell info["is_success"] when an episode ends.')
    if pointer is not None and any(row.top1_relevant is not None for row in played):
        notes.append(f"The policy points at {pointer}: it can be right without looking there (docs/reading-maps.md).")
    return notes


def better_by_chance(rows: Sequence[Row]) -> list[str]:
    """What to do where the likeliest actions lead in circles, which drawn ones leave; at most one sentence."""
    for row in rows[:1]:
        played, drawn = row.success_rate, row.stochastic_success_rate
        if row.differs_by_chance and played is not None and drawn is not None and drawn > played:
            return [
                f"Actions drawn from the policy succeed more often ({drawn:.3f}) than its likeliest ones "
                f"({played:.3f}), which may go in circles: train for longer, act with "
                "predict(..., deterministic=False), or let the observation tell where the agent has been."
            ]
    return []


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
