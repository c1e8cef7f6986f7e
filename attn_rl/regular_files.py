"""Reading a folder that may come from a stranger: no link is followed, nothing is waited for, sizes come first.

Imports the standard library only, so that every reader may use it, TensorBoard's plugin too.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class IrregularFile(ValueError):
    """Something else than a regular file, or a file larger than it may be."""


def refuse_irregular(folder: Path) -> None:
    """Look through a folder, without opening a file, for anything but regular files and folders.

    ``folder`` itself may be a link: whoever named it chose it.

    Raises:
        IrregularFile: naming the first link, FIFO, socket or device.
    """
    waiting = [Path(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    raise IrregularFile(_irregular(Path(entry.path), entry.stat(follow_symlinks=False).st_mode))


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a file whole: a regular one, of a size that is looked at first.

    A FIFO does not block, a link is not followed, a device is not opened for long; folders above ``path`` are not
    looked at (see :func:`refuse_irregular`).

    Args:
        path: of the file.
        max_bytes: the largest size that is read.

    Raises:
        IrregularFile: no regular file, or a larger one; nothing of it was read.
        OSError: it cannot be opened.
    """
    mode = os.lstat(path).st_mode
    if not stat.S_ISREG(mode):
        raise IrregularFile(_irregular(path, mode))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):  # exchanged since
            raise IrregularFile(_irregular(path, found.st_mode))
        if found.st_size > max_bytes:
            raise IrregularFile(
                f"{path} has {found.st_size:,} bytes; expected at most {max_bytes:,}. Nothing of it was read"
            )
        return file.read(found.st_size)


def refuse_to_replace(path: Path) -> None:
    """Raise where a file that is put in place by a rename would take the place of a link, a FIFO, a device or a folder.

    Raises:
        IrregularFile: naming it and what it is.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise IrregularFile(f"{path} is {kind}; expected a new file, or a regular one to replace: choose another name")


def refuse_missing_folder(path: Path) -> None:
    """Raise where the folder that a new file is to lie in does not exist: nobody asked for one.

    Raises:
        FileNotFoundError: naming the folder and what makes it.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"no such folder; make it first: mkdir -p {folder}", str(folder))


def _irregular(path: Path, mode: int) -> str:
    kind = KINDS.get(stat.S_IFMT(mode), "no regular file")
    return (
        f"{path} is {kind}; expected a regular file: whatever it leads to lies outside the folder. Nothing was opened. "
        "Put a copy of the file in its place, or remove it"
    )
