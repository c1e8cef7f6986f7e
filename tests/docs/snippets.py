"""Runs the Python snippets of a Markdown page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```python(?: requires=(\w+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    """One fenced block: its source, the line it starts on, the package it needs (None: only ours)."""

    source: str
    line: int
    requires: str | None


def snippets(page: str) -> list[Snippet]:
    """The snippets of a page, given by its path from the root; ``python requires=PACKAGE`` marks those of an extra."""
    text = (ROOT / page).read_text()
    return [Snippet(m[2], text.count("\n", 0, m.start(2)), m[1]) for m in FENCE.finditer(text)]


def run(page: str, requires: str | None = None) -> dict[str, Any]:
    """Run the snippets that need no extra, and those of one extra, in order; return their names."""
    names: dict[str, Any] = {"__name__": page}
    for snippet in snippets(page):
        if snippet.requires in (None, requires):
            exec(compile("\n" * snippet.line + snippet.source, ROOT / page, "exec"), names)
    return names
