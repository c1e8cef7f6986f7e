"""Levels set, after prototypes, before the benchmark was run; which seeds of attention reach them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.results import Evaluated, success, unique
from benchmarks.tables import NONE, agents, markdown, number, thousands
from benchmarks.verdicts import median_of


@dataclass(frozen=True)
class Level:
    """Success that every seed should have.

    Attributes:
        environment: name.
        entities: entity count, "16"; None: the trained ones.
        least: success.
        why: where a level is relative to something else.
    """

    environment: str
    entities: str | None
    least: float
    why: str = ""


LEVELS = (
    Level("Match", None, 0.98),
    Level("Match", "32", 0.95),
    Level("Match odd", None, 0.99),
    Level("Match odd", "31", 0.97),
    Level("Seek", None, 0.99),
    Level("Seek", "16", 0.98),
    Level("Seek", "32", 0.95),
    Level("Dodge", None, 0.97),
    Level("Dodge", "12", 0.872, "90% of the scripted policy's .969"),
    Level("Dodge", "16", 0.836, "90% of the scripted policy's .929"),
    Level("Boxes", None, 0.95),
    Level("Boxes", "7-13", 0.75, "chains of 4 boxes"),
)
SOON = {"Seek": 70_000}
"""Steps within which the median seed should reach 95%."""


def level_table(rows: list[Evaluated], policy: str = "attention") -> str:
    """Every level, the seeds that reach it and the worst one."""
    names = unique(row.environment for row in rows)
    lines = []
    for level in (level for level in LEVELS if level.environment in names):
        scores = success(rows, level.environment, policy, level.entities)
        where = "trained counts" if level.entities is None else f"{level.entities} entities"
        goal = f"at least {number(level.least)}" + (f" ({level.why})" if level.why else "")
        reached = f"{(scores >= level.least).sum()} of {len(scores)}" if len(scores) else NONE
        lines.append([f"{level.environment}, {where}", goal, reached, number(scores.min()) if len(scores) else NONE])
    for name in (name for name in SOON if name in names):
        cells = agents(rows, name, policy)
        reached = f"{sum(row.steps_to_95 <= SOON[name] for row in cells)} of {len(cells)}" if cells else NONE
        goal = f"95% within {thousands(SOON[name])} steps (median)"
        lines.append([f"{name}, while training", goal, reached, f"median {thousands(median_of(cells, 'steps_to_95'))}"])
    return markdown(["", "level", "seeds that reach it", "worst seed"], lines)
