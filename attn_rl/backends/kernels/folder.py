"""The folder of compiled libraries: nobody but its owner can write there."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
import warnings
from functools import cache
from pathlib import Path


class LibraryUnavailable(OSError):
    """A library cannot be compiled or loaded; the message says why, and what helps."""


def cache_folder() -> Path:
    """The user's folder for compiled libraries, private; a temporary one where there is none, which is said once."""
    asked = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(asked) if os.path.isabs(asked) else Path.home() / ".cache"
        folder = (base / "attn_rl").resolve()
        for missing in [each for each in (*reversed(folder.parents), folder) if not each.exists()]:
            missing.mkdir(0o700, exist_ok=True)
        _make_private(folder)
    except RuntimeError:  # Path.home()
        return temporary_folder("this user has no home folder")
    except OSError as error:
        return temporary_folder(str(error))
    reason = why_not_private(folder)
    return folder if reason is None else temporary_folder(reason)


@cache
def temporary_folder(reason: str) -> Path:
    """A private folder that goes with this process, and a warning why it is needed.

    Raises:
        LibraryUnavailable: there is no room for temporary files.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="attn_rl-"))
    except OSError as error:
        raise LibraryUnavailable(f"{reason}, and there is no temporary folder either ({error})") from error
    atexit.register(_remove_of, os.getpid(), folder)
    warnings.warn(
        f"the compiled kernels are kept until this process ends only, since {reason}; "
        "set XDG_CACHE_HOME to a folder of your own to keep them",
        stacklevel=2,
    )
    return folder


def why_not_private(path: Path) -> str | None:
    """Why others may change a file or folder; None where only this user can."""
    found = path.lstat()
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        return f"{path} belongs to another user (uid {found.st_uid})"
    return f"{path} can be written by others (mode {stat.S_IMODE(found.st_mode):o})" if found.st_mode & 0o022 else None


def _make_private(folder: Path) -> None:
    """Close one's own folder to others; what lies in one that they could write is thrown away."""
    found = folder.stat()
    if found.st_mode & 0o777 == 0o700 or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
        return
    folder.chmod(0o700)
    libraries = list(folder.glob("*.so")) if found.st_mode & 0o022 else []
    for library in libraries:
        remove(library)
    if libraries:
        warnings.warn(f"{folder} could be written by others: it is private now, and compiled anew", stacklevel=2)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if another process has not done so already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_of(process: int, folder: Path) -> None:
    if os.getpid() == process:  # a fork's end is not its parent's
        shutil.rmtree(folder, ignore_errors=True)
