"""The trials behind ``benchmarks/faults.py``: each row of its dashboard is a function that returns an Outcome."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """How a row of the dashboard went.

    Attributes:
        passed, tried: trials.
        remarks: what went wrong, or what must be known to read the row; empty = nothing.
    """

    passed: int = 0
    tried: int = 0
    remarks: list[str] = field(default_factory=list)

    def add(self, fault: str | None) -> None:
        """Count a trial; ``fault`` says why it failed, None = it passed."""
        self.tried += 1
        self.passed += fault is None
        if fault is not None:
            self.remarks.append(fault)
