"""Tables of the learning benchmark, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.intervals import improvement, interquartile_mean, interval
from benchmarks.results import Evaluated, Reach, common, strata, success, unique

NONE = "–"
SOLVED = 0.9
ANCHORS = {  # what enn-trainer publishes for tasks with the same rules: figure, level, steps
    "Tiles": ("success", 0.95, 10_000),
    "CherryPick": ("mean_return", 0.99, 250_000),
}


def line(cells: Iterable[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def markdown(head: list[str], lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    return "\n".join(map(line, [head, ["---"] * len(head), *lines]))


def number(value: float | np.ndarray) -> str:
    """``.987``."""
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else text


def figure(scores: list[np.ndarray]) -> str:
    """``.987 [.981, .992]``: interquartile mean and 95% interval over the seeds of some environments."""
    if not scores:
        return NONE
    low, high = interval(scores)
    return f"{number(interquartile_mean(np.concatenate(scores)))} [{number(low)}, {number(high)}]"


def success_table(rows: list[Evaluated]) -> str:
    """Success at the trained counts: environments x policies, and all environments together."""
    environments = unique(row.environment for row in rows)
    table = by_environment(rows, lambda cells: figure([scores_of(cells)]), bold=True)
    if len(environments) == 1:
        return table
    shared = common(rows)
    together = [figure(strata(rows, policy, shared)) for policy in unique(row.policy for row in rows)]
    return table + "\n" + line([f"**{len(shared)} together**", *best_in_bold(together)])


def transfer_table(rows: list[Evaluated]) -> str:
    """Zero-shot success at other entity counts than the trained ones."""
    return by_count([row for row in rows if not row.trained], lambda scores: figure([scores]))


def longer_table(rows: list[Evaluated]) -> str:
    """Success after more steps, at the trained and at other counts."""
    return by_count(rows, lambda scores: figure([scores]))


def worst_table(rows: list[Evaluated]) -> str:
    """The worst seed, at trained and at other counts."""
    return by_count(rows, lambda scores: number(scores.min()))


def steps_table(rows: list[Evaluated]) -> str:
    """Steps until 95% of the last training episodes succeeded."""
    return by_environment(rows, lambda cells: spread([row.steps_to_95 for row in cells], thousands))


def seconds_table(rows: list[Evaluated]) -> str:
    """CPU seconds until the same, and of the whole training."""

    def cell(seeds: list[Evaluated]) -> str:
        whole = np.median([row.cpu_seconds for row in seeds])
        return f"{spread([row.seconds_to_95 for row in seeds], seconds)}; {whole:.0f} s"

    return by_environment(rows, cell)


def spread(values: list[float], form: Callable[[float], str]) -> str:
    """``66k (58k-82k)``: median, least and greatest; "never" (inf) is the greatest of all."""
    ordered = sorted(values)
    if np.isinf(ordered[0]):
        return "never"
    return f"{form(ordered[len(ordered) // 2])} ({form(ordered[0])}-{form(ordered[-1])})"


def thousands(steps: float) -> str:
    """``66k``."""
    return "never" if np.isinf(steps) else f"{steps / 1000:.0f}k"


def seconds(value: float) -> str:
    """``31 s``."""
    return "never" if np.isinf(value) else f"{value:.0f} s"


def improvement_table(rows: list[Evaluated], ours: str = "attention") -> str:
    """How one policy stands against every other: probability of improvement, and whether the intervals are apart."""
    others, environments = unique(row.policy for row in rows if row.policy != ours), unique(r.environment for r in rows)
    lines = [[name, *(against(rows, ours, policy, [name]) for policy in others)] for name in environments]
    shared = common(rows)
    together = [against(rows, ours, policy, shared) for policy in others]
    return markdown([f"{ours} against", *others], [*lines, [f"**{len(shared)} together**", *together]])


def against(rows: list[Evaluated], ours: str, theirs: str, environments: list[str]) -> str:
    """``.98 [.92, 1.00], above``: probability of improvement; how the 95% intervals of the two IQMs lie."""
    our_scores, their_scores = strata(rows, ours, environments), strata(rows, theirs, environments)
    if not our_scores or not their_scores:
        return NONE
    middle, low, high = (f"{value:.2f}" for value in improvement(our_scores, their_scores))
    return f"{middle} [{low}, {high}], {verdict(our_scores, their_scores)}"


def verdict(ours: list[np.ndarray], theirs: list[np.ndarray]) -> str:
    """Above, below, or overlapping: the 95% intervals of two interquartile means."""
    (low, high), (their_low, their_high) = interval(ours), interval(theirs)
    return "above" if low > their_high else "below" if high < their_low else "overlap"


def stability_table(rows: list[Evaluated]) -> str:
    """Seeds that reach 90% of the best policy's interquartile mean."""
    policies, lines = unique(row.policy for row in rows), []
    for name in unique(row.environment for row in rows):
        found = [success(rows, name, policy) for policy in policies]
        bar = SOLVED * max(interquartile_mean(scores) for scores in found if len(scores))
        shares = [f"{(scores >= bar).sum()} of {len(scores)}" if len(scores) else NONE for scores in found]
        lines.append([name, number(bar), *shares])
    return markdown(["", "bar", *policies], lines)


def run_table(rows: list[Evaluated]) -> str:
    """What was trained: parameters, learning rate, steps, seeds."""

    def cell(seeds: list[Evaluated]) -> str:
        first = seeds[0]
        return f"{first.parameters:,}; {first.learning_rate:g}; {thousands(first.steps)}; {len(seeds)} seeds"

    return by_environment(rows, cell)


def by_environment(rows: list[Evaluated], cell: Callable[[list[Evaluated]], str], bold: bool = False) -> str:
    """One line per environment, one column per policy; each cell is made of one agent per seed."""
    policies, lines = unique(row.policy for row in rows), []
    for name in unique(row.environment for row in rows):
        found = [agents(rows, name, policy) for policy in policies]
        cells = [cell(seeds) if seeds else NONE for seeds in found]
        lines.append([name, *(best_in_bold(cells) if bold else cells)])
    return markdown(["", *policies], lines)


def by_count(rows: list[Evaluated], cell: Callable[[np.ndarray], str]) -> str:
    """One line per environment and entity count, one column per policy."""
    policies = unique(row.policy for row in rows)
    lines = []
    for name in unique(row.environment for row in rows):
        for entities in unique(row.entities for row in rows if row.environment == name):
            found = [success(rows, name, policy, entities) for policy in policies]
            cells = [cell(scores) if len(scores) else NONE for scores in found]
            lines.append([f"{name}, {entities} entities", *best_in_bold(cells)])
    return markdown(["", *policies], lines)


def best_in_bold(cells: list[str]) -> list[str]:
    """Mark the largest figure, and those that print the same."""
    best = max((float(cell.split()[0]) for cell in cells if cell != NONE), default=0.0)
    return [f"**{cell}**" if cell != NONE and float(cell.split()[0]) == best else cell for cell in cells]


def sweep_table(rows: list[Evaluated]) -> str:
    """Success at the trained counts by learning rate, mean over the sweep's seeds."""
    rates = sorted({row.learning_rate for row in rows})
    lines = []
    pairs = sorted({(row.environment, row.policy) for row in rows})
    for name, policy in pairs:
        cells = agents(rows, name, policy)
        found = [[row.success for row in cells if row.learning_rate == rate] for rate in rates]
        lines.append([name, policy, *best_in_bold([number(float(np.mean(f))) if f else NONE for f in found])])
    return markdown(["", "policy", *(f"{rate:g}" for rate in rates)], lines)


def reach_table(rows: list[Reach]) -> str:
    """Success along the long axes."""
    policies, lines = unique(row.policy for row in rows), []
    for name in unique(row.environment for row in rows):
        here = [row for row in rows if row.environment == name]
        for value in sorted({row.value for row in here}):
            seeds = [np.array([r.success for r in here if (r.policy, r.value) == (p, value)]) for p in policies]
            cells = [figure([scores]) if len(scores) else NONE for scores in seeds]
            lines.append([f"{name}, {here[0].axis} {value}", *best_in_bold(cells)])
    return markdown(["", *policies], lines)


def anchor_table(rows: list[Evaluated]) -> str:
    """A peer's published levels, and the seeds of every policy that reach them."""
    policies, lines = unique(row.policy for row in rows), []
    for name, (quantity, level, steps) in ANCHORS.items():
        cells = []
        for policy in policies:
            figures = np.array([getattr(row, quantity) for row in agents(rows, name, policy)])
            reached = f"{figure([figures])}; {(figures >= level).sum()} of {len(figures)}" if len(figures) else NONE
            cells.append(reached)
        what = quantity.replace("_", " ")
        lines.append([f"{name}: {what} of at least {number(level)} in {thousands(steps)} steps", *best_in_bold(cells)])
    return markdown(["published for the peer", *policies], lines)


def agents(rows: list[Evaluated], environment: str, policy: str) -> list[Evaluated]:
    """The agents of one policy at the trained counts, in the order of seeds."""
    found = [row for row in rows if (row.environment, row.policy) == (environment, policy) and row.trained]
    return sorted(found, key=lambda row: row.seed)


def scores_of(cells: list[Evaluated]) -> np.ndarray:
    """Success of each (R,)."""
    return np.array([row.success for row in cells])
