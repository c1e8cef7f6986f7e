"""One process at a time writes into a run folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attn_rl.regular_files import read_regular

LOCK = ".lock"
"""File in a run folder that says who writes there."""

HELD = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)


class RunInUse(ValueError):
    """Another process writes into the run folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from writing into a run folder.

    The operating system holds the lock and gives it back when its owner ends, however it ends: a lock file of a dead
    process keeps nobody out. Where a file system knows no locks, the file counts as long as the process that it names
    lives; of another machine's that cannot be known, so it counts.

    Raises:
        RunInUse: naming the owner.
    """
    path = folder / LOCK
    descriptor = _open_and_lock(path)
    try:
        own = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(own).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _open_and_lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(descriptor, path):
                return descriptor
        except OSError as error:
            owner = _owner(path)
            if error.errno in HELD or _may_live(owner):
                os.close(descriptor)
                raise RunInUse(_in_use(path, owner)) from None
            return descriptor
        os.close(descriptor)  # its owner ended and removed it meanwhile: another file stands there now


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _owner(path: Path) -> dict[str, object]:
    try:
        found = json.loads(read_regular(path, 1000))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _may_live(owner: dict[str, object]) -> bool:
    pid = owner.get("pid")
    if not isinstance(pid, int) or not 0 < pid < 1 << 31:
        return False
    if owner.get("host") != platform.node():
        return True
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _in_use(path: Path, owner: dict[str, object]) -> str:
    who = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}, since {owner.get('since', '?')}"
    return (
        f"{path.parent} is in use: {who}. Two processes in one run would write every point twice; "
        f"wait for it or stop it (if no such process exists any more, remove {path})"
    )
