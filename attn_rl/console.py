"""How ``train.py`` and ``attn-rl`` speak and end: one line for an expected error, and an output that may go away."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from gymnasium.error import DependencyNotInstalled

BROKEN_PIPE = 128 + 13
"""Exit code of a program whose reader went away, as shells have it."""
INTERRUPTED = 128 + 2


class Output(io.TextIOBase):
    """A standard stream that ends the program in words when it takes no more (``| head``, ``> /dev/full``), or goes on.

    Args:
        stream: to write to.
        name: of the stream, for the message.
        goes_on: what goes on without it, for a program with better things to do than print; None: the program ends.
    """

    def __init__(self, stream: TextIO, name: str, goes_on: str | None = None) -> None:
        self._stream, self._name, self._goes_on, self._gone = stream, name, goes_on, False

    def write(self, text: str) -> int:
        """Write, or take note that nobody reads."""
        if not self._gone:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._lost(error)
        return len(text)

    def flush(self) -> None:
        """Flush, or take note that nobody reads."""
        if not self._gone:
            try:
                self._stream.flush()
            except OSError as error:
                self._lost(error)

    def writable(self) -> bool:
        """Yes, whether or not anybody reads."""
        return True

    def isatty(self) -> bool:
        """Whether a person reads along."""
        return not self._gone and self._stream.isatty()

    def fileno(self) -> int:
        """Of the stream."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return self._stream.encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lost(self, error: OSError) -> None:
        self._gone = True
        _to_nowhere(self._stream)
        if self._goes_on is not None:
            if self._goes_on:
                print(f"{self._name}: {error.strerror}; {self._goes_on}", file=sys.stderr)
        elif isinstance(error, BrokenPipeError):
            raise SystemExit(BROKEN_PIPE)
        else:
            raise SystemExit(f"error: {self._name}: {error.strerror}")


def _nowhere() -> TextIO:
    """In place of a standard stream that was closed, which is None to Python."""
    return open(os.devnull, "w", encoding="utf-8")


def _to_nowhere(stream: TextIO) -> None:
    """Let what is still buffered go to the null device, or Python would complain of it at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # a stream without a file
        pass


@contextmanager
def one_line_errors(goes_on: str | None = None) -> Iterator[None]:
    """Turn the errors that a user can do something about into one line on stderr and exit code 1.

    Args:
        goes_on: what goes on when nobody reads standard output any more; None: the program ends then.
    """
    kept = sys.stdout, sys.stderr
    sys.stdout = Output(sys.stdout or _nowhere(), "standard output", goes_on)
    sys.stderr = Output(sys.stderr or _nowhere(), "standard error", "")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, MemoryError, RuntimeError, DependencyNotInstalled) as error:
        line = explain_error(error)
        if line is None:
            raise
        sys.exit(f"error: {line}")
    finally:
        sys.stdout, sys.stderr = kept


def explain_error(error: Exception) -> str | None:
    """One line about an error that a user can do something about; None: it is none of these."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate" in text):
        return f"not enough memory ({text or 'none is left'}); fewer or smaller: n_envs, n_steps, d_model, entities"
    if isinstance(error, OSError):
        paths = " -> ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
        return f"{paths or 'input or output'}: {error.strerror or text}"
    return text if isinstance(error, ValueError | DependencyNotInstalled) else None
