"""SIGINT and SIGTERM as a request: finish, save, then leave with the signal's exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(SystemExit):
    """Training stopped on request, everything saved; the exit code is 128 + signal, as shells have it."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


Handler = Callable[[int, "FrameType | None"], None]


def handle(handler: Handler) -> dict[int, Any]:
    """Let ``handler`` have SIGINT and SIGTERM; returns who had them before.

    Outside the main thread, where Python cannot handle signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in SIGNALS}


def hand_back(previous: dict[int, Any]) -> None:
    """Undo :func:`handle`."""
    for number, handler in previous.items():
        signal.signal(number, handler)


@contextmanager
def leaving_at_once(farewell: str) -> Iterator[None]:
    """SIGINT and SIGTERM print ``farewell`` and raise :class:`Interrupted`: where nothing is left to be saved."""

    def leave(signum: int, frame: FrameType | None) -> None:
        print(f"{signal.Signals(signum).name}. {farewell}", file=sys.stderr, flush=True)
        raise Interrupted(signum)

    previous = handle(leave)
    try:
        yield
    finally:
        hand_back(previous)


class InterruptRequest:
    """A context in which the first SIGINT or SIGTERM only sets :attr:`signum`; the second ends the process at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> InterruptRequest:
        self._previous = handle(self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        hand_back(self._previous)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        for number in SIGNALS:  # the system's own handling: works at once, even inside a long call
            signal.signal(number, signal.SIG_DFL)
        name = signal.Signals(signum).name
        print(f"{name}: finishing this rollout, then saving; once more quits at once", file=sys.stderr, flush=True)
