"""Compile a rule that NumPy is too slow for, once, into the user's cache; load nothing that anybody else could write.

Whoever has no compiler plays the same games, more slowly.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

SWITCH = "ATTN_RL_FUSED"
"""Environment variable, the same as for the kernels of networks; 0, false, off or no: compile nothing."""
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O2", "-std=c++17", "-ffp-contract=off", "-shared", "-fPIC")  # every operation rounds as NumPy's does
SECONDS = 120


class NotCompiled(OSError):
    """There is no compiled rule; the message says why, and what helps."""


def load(folder: Path, source: str, generated: str = "") -> ctypes.CDLL:
    """Compile a source, where that was not done before, and load it.

    Args:
        folder: of the source and its headers.
        source: name of the file that includes the others.
        generated: C++ in front of it.

    Raises:
        NotCompiled: there is no compiler, it fails, there is no private folder, or the switch is off.
    """
    if os.environ.get(SWITCH, "").strip().lower() in ("0", "false", "off", "no"):
        raise NotCompiled(f"{SWITCH} switches compiled code off")
    command = [*find_compiler(), *FLAGS]
    try:
        text = f'#include <cstdint>\n{generated}\n#include "{source}"\n'
        parts = [text.encode(), *(path.read_bytes() for path in sorted(folder.glob("*.[ch]*")))]
        parts += [shlex.join(command).encode(), platform.machine().encode(), _run([*command[:1], "--version"], "")]
        key = hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()[:16]
        cache, stem = _cache_folder(), f"{Path(source).stem}-{key}"
        for found in cache.glob(f"{stem}-*.so"):
            if _is_private(found) and found.stem == f"{stem}-{digest(found)}":
                return ctypes.CDLL(str(found))
        return ctypes.CDLL(str(_build(cache, stem, [*command, f"-I{folder}"], text)))
    except OSError as error:
        raise NotCompiled(str(error)) from error


def _build(cache: Path, stem: str, command: Sequence[str], text: str) -> Path:
    """Compile, and let the library appear under its name all at once."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as scratch:
        made = Path(scratch) / "library.so"
        _run([*command, "-x", "c++", "-", "-o", str(made)], text)
        made.chmod(0o600)
        return made.replace(cache / f"{stem}-{digest(made)}.so")


def find_compiler() -> list[str]:
    """Return the command of the compiler: ``$CXX``, else the first of c++, g++ and clang++.

    Raises:
        NotCompiled: there is none.
    """
    asked = os.environ.get("CXX", "").strip()
    if asked:
        return [asked] if shutil.which(asked) else shlex.split(asked)
    found = next(filter(shutil.which, COMPILERS), None)
    if found is None:
        raise NotCompiled("there is no C++ compiler; install g++ or clang++, or set CXX to one")
    return [found]


def _run(command: Sequence[str], text: str) -> bytes:
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise NotCompiled(f"`{shlex.join(command)}` did not end within {SECONDS} s") from error
    if done.returncode:
        raise NotCompiled(f"`{shlex.join(command)}` failed: {done.stderr.decode(errors='replace').strip()[-1000:]}")
    return done.stdout


def _cache_folder() -> Path:
    asked = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(asked) if os.path.isabs(asked) else Path.home() / ".cache") / "attn_rl"
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except RuntimeError as error:  # Path.home()
        raise NotCompiled("this user has no home folder; set XDG_CACHE_HOME to a folder of your own") from error
    if not _is_private(folder):
        raise NotCompiled(f"others can write {folder}; `chmod go-w` it, or set XDG_CACHE_HOME to a folder of your own")
    return folder


def _is_private(path: Path) -> bool:
    found = path.lstat() if path.suffix == ".so" else path.stat()
    is_mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return is_mine and not found.st_mode & 0o022 and (path.suffix != ".so" or stat.S_ISREG(found.st_mode))


def digest(file: Path) -> str:
    """Return what the end of a library's name must be: damage is noticed before a byte of it runs."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
