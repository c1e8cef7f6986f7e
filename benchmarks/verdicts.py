"""What the figures say, in words: where one policy is ahead of the others, and where it is not."""

from __future__ import annotations

import numpy as np

from benchmarks.intervals import interquartile_mean
from benchmarks.results import Evaluated, strata, success, unique
from benchmarks.tables import agents, figure, seconds, thousands, verdict

WORDS = {
    "above": "above, intervals apart",
    "overlap": "intervals overlap",
    "below": "below, intervals apart",
}


def standing(rows: list[Evaluated], ours: str = "attention") -> str:
    """Against every other policy: the environments where ours is above, even, below; its share of their steps."""
    lines = []
    for policy in unique(row.policy for row in rows if row.policy != ours):
        found: dict[str, list[str]] = {verdict_: [] for verdict_ in WORDS}
        for name in unique(row.environment for row in rows):
            our_scores, their_scores = strata(rows, ours, [name]), strata(rows, policy, [name])
            if our_scores and their_scores:
                found[verdict(our_scores, their_scores)].append(name)
        parts = [f"{WORDS[word]}: {', '.join(names)}" for word, names in found.items() if names]
        lines.append(f"- against **{policy}**: {'; '.join([*parts, *steps_share(rows, ours, policy)])}.")
    return "\n".join(lines)


def steps_share(rows: list[Evaluated], ours: str, theirs: str) -> list[str]:
    """``steps to 95%, of theirs: .62 (Seek)`` for the environments where the median seed of both got there."""
    shares = []
    for name in unique(row.environment for row in rows):
        reached = [median_of(agents(rows, name, policy), "steps_to_95") for policy in (ours, theirs)]
        if all(np.isfinite(reached)):
            shares.append(f"{reached[0] / reached[1]:.2f} ({name})")
    return [f"steps to 95%, of theirs: {', '.join(shares)}"] if shares else []


def not_better(rows: list[Evaluated], ours: str = "attention") -> str:
    """Every figure in which another policy's is the better one, however close."""
    lines = []
    for name in unique(row.environment for row in rows):
        for policy in unique(row.policy for row in rows if row.policy != ours):
            lines += [*_higher(rows, name, policy, ours), *_sooner(rows, name, policy, ours)]
    return "\n".join(lines) or f"- There is no figure in which another policy is ahead of {ours}."


def _higher(rows: list[Evaluated], name: str, policy: str, ours: str) -> list[str]:
    lines = []
    for entities in unique(row.entities for row in rows if row.environment == name):
        mine, other = success(rows, name, ours, entities), success(rows, name, policy, entities)
        if len(mine) and len(other) and interquartile_mean(other) > interquartile_mean(mine):
            lines.append(
                f"- {name}, {entities} entities: {policy} {figure([other])}, {ours} {figure([mine])} "
                f"({WORDS[verdict([mine], [other])]})."
            )
    return lines


def _sooner(rows: list[Evaluated], name: str, policy: str, ours: str) -> list[str]:
    mine, other = agents(rows, name, ours), agents(rows, name, policy)
    lines = []
    for quantity, form, what in (("steps_to_95", thousands, "steps"), ("seconds_to_95", seconds, "CPU seconds")):
        if mine and other and median_of(other, quantity) < median_of(mine, quantity):
            first, second = form(median_of(other, quantity)), form(median_of(mine, quantity))
            lines.append(f"- {name}, {what} to 95% (median): {policy} {first}, {ours} {second}.")
    return lines


def median_of(cells: list[Evaluated], quantity: str) -> float:
    """Median over seeds, the upper one of an even number; "never" is inf; inf where nothing was run."""
    values = sorted(getattr(row, quantity) for row in cells)
    return values[len(values) // 2] if values else float("inf")
