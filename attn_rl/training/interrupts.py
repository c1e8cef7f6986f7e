"""SIGINT and SIGTERM as a request: finish, save, then leave with the signal's exit code."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(SystemExit):
    """Training stopped on request, everything saved; the exit code is 128 + signal, as shells have it."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


class InterruptRequest:
    """A context in which the first SIGINT or SIGTERM only sets :attr:`signum`; the second ends the process at once.

    Outside the main thread, where Python cannot handle signals, it does nothing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> InterruptRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        for number in SIGNALS:  # the system's own handling: works at once, even inside a long call
            signal.signal(number, signal.SIG_DFL)
        name = signal.Signals(signum).name
        print(f"{name}: finishing this rollout, then saving; once more quits at once", file=sys.stderr, flush=True)
