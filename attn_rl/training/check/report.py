"""What a check found, and how it is printed."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

WIDTH = 120
COLUMN = 13
"""Width of the first column of the printed report."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: ``"error"`` must be repaired before training; ``"warning"`` probably should; ``"note"`` is good to know
            and never fails a check.
        name: of the check that found it, such as ``"bounds"``.
        what: was found, and where.
        advice: one sentence, what to do about it.
    """

    level: Literal["error", "warning", "note"]
    name: str
    what: str
    advice: str

    def __str__(self) -> str:
        return _row(self.level.upper(), f"{self.name}: {self.what}.") + "\n" + _row("", f"-> {self.advice}.")


@dataclass(frozen=True)
class CheckReport:
    """What :func:`attn_rl.check` returns; ``print`` it.

    Attributes:
        env: what was checked.
        schema: name -> description: entity types, ego, kinds, actions, mask, rewards, episodes, slots, speed.
        findings: errors first.
    """

    env: str
    schema: dict[str, str]
    findings: tuple[Finding, ...]

    def fits(self, strict: bool = False) -> bool:
        """Whether nothing must be repaired; with ``strict``, warnings count too."""
        failing = ("error", "warning") if strict else ("error",)
        return not any(finding.level in failing for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One line: how many findings of each level there are."""
        levels = [finding.level for finding in self.findings]
        counts = [
            f"{levels.count(level)} {level}{'s' * (levels.count(level) > 1)}"
            for level in ("error", "warning", "note")
            if level in levels
        ]
        start = "It fits" if self.fits() else "It does not fit yet"
        return f"{start}: {', '.join(counts) or 'no findings'}."

    def __str__(self) -> str:
        rows = [_row(f"  {name}", text) for name, text in self.schema.items()]
        return "\n".join([self.env, *rows, *map(str, self.findings), self.verdict])


def _row(name: str, text: str) -> str:
    indent = " " * COLUMN
    start = f"{name} ".ljust(COLUMN)
    return textwrap.fill(
        text, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
