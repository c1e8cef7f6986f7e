"""Compile C++ into a folder that nobody else can write, and load nothing but what was compiled there.

A library's name holds the SHA-256 of its bytes: name and content appear together, by one rename, and damage is noticed
before a byte of it runs (a library that was cut short would otherwise end the process with SIGBUS).
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from attn_rl.backends.kernels.folder import (
    LibraryUnavailable,
    cache_folder,
    remove,
    temporary_folder,
    why_not_private,
)

try:
    import fcntl
except ImportError:  # Windows: what a killed build leaves is not cleaned up
    fcntl = None  # type: ignore[assignment]

COMPILERS = ("c++", "g++", "clang++")
SCRATCH = ".build-"
SECONDS = 600
"""Most that one call of the compiler may take; the first of ziglang's compiles its C++ library, too."""
REMEDY = "install a C++ compiler (g++, clang++ or the package ziglang), or set CXX to one"


def compiled(
    sources: Sequence[Path],
    flags: Sequence[str],
    compiler: Sequence[str] | None = None,
    generated: Mapping[str, str] | None = None,
) -> Path:
    """A library compiled from these sources by this compiler for this processor; compiled now where there is none yet.

    Args:
        sources: all files it is made of; headers (``.h``) only count for whether it is up to date.
        flags: of the compiler, ``-shared`` among them.
        compiler: the command; None = ``$CXX``, else :func:`find_compiler`'s choice.
        generated: name -> text of further headers, which the sources may include.

    Raises:
        LibraryUnavailable: there is no compiler, it fails, or there is no folder to write to.
        OSError: a source is missing, or there is no room for temporary files either.
    """
    command = [*(find_compiler() if compiler is None else compiler), *flags]
    generated = generated or {}
    stem = f"{sources[0].stem}-{_key(command, sources, generated)}"
    folder = cache_folder()
    try:
        return _found(folder, stem) or _build(folder, stem, command, sources, generated)
    except LibraryUnavailable:
        raise
    except OSError as error:  # a full or read-only disk
        folder = temporary_folder(f"{folder} cannot be written ({error.strerror})")
    return _found(folder, stem) or _build(folder, stem, command, sources, generated)


def load(path: Path, functions: Sequence[str] = ()) -> ctypes.CDLL:
    """Load a library that :func:`compiled` returned.

    Args:
        path: the library.
        functions: names that it must have.

    Raises:
        LibraryUnavailable: it or its folder can be written by others, it is damaged, cannot be loaded or lacks a name.
    """
    reason = why_not_private(path.parent) or why_not_trusted(path)
    if reason is not None:
        raise LibraryUnavailable(f"{path} is not loaded: {reason}; remove it, and it is compiled anew")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise LibraryUnavailable(
            f"the compiled {path} cannot be loaded ({error}); check that CXX compiles for this machine, and that "
            "programs may run from that folder (XDG_CACHE_HOME chooses another)"
        ) from error
    missing = [name for name in functions if not hasattr(library, name)]
    if missing:
        raise LibraryUnavailable(
            f"{path} has no function {missing[0]!r}, so the files of attn_rl are mixed: reinstall it"
        )
    return library


def find_compiler() -> list[str]:
    """The command of the compiler: ``$CXX``, which may hold arguments too, else c++, g++, clang++ or ``ziglang``'s.

    Raises:
        LibraryUnavailable: there is none.
    """
    asked = os.environ.get("CXX", "").strip()
    if shutil.which(asked):
        return [asked]  # also a path with spaces in it
    if asked:
        try:
            return shlex.split(asked)
        except ValueError as error:
            raise LibraryUnavailable(f"CXX={asked!r} is no command ({error}); set it to a C++ compiler") from error
    found = next(filter(shutil.which, COMPILERS), None)
    if found is not None:
        return [found]
    if find_spec("ziglang") is not None:  # a C++ compiler in a wheel: the extra [compiler]
        return [sys.executable, "-m", "ziglang", "c++"]
    raise LibraryUnavailable(f"there is no C++ compiler; {REMEDY}")


def why_not_trusted(library: Path) -> str | None:
    """Why a library is not what was compiled; None where it is."""
    if not stat.S_ISREG(library.lstat().st_mode):
        return f"{library} is no plain file"
    if reason := why_not_private(library):
        return reason
    if not library.stem.endswith(f"-{_digest(library)}"):
        return f"{library} is damaged (its SHA-256 is not that of what was compiled)"
    return None


def _found(folder: Path, stem: str) -> Path | None:
    for library in sorted(folder.glob(f"{stem}-*.so")):
        try:
            reason = why_not_trusted(library)
            if reason is None:
                return library
            remove(library)
        except FileNotFoundError:  # another process has just removed it
            continue
        warnings.warn(f"{reason}: it is compiled anew", stacklevel=2)
    return None


def _build(
    folder: Path, stem: str, command: Sequence[str], sources: Sequence[Path], generated: Mapping[str, str]
) -> Path:
    units = [str(source) for source in sources if source.suffix != ".h"]
    with _scratch_folder(folder) as scratch:
        for name, text in generated.items():
            (scratch / name).write_text(text)
        made = scratch / "library.so"
        _run([*command, f"-I{scratch}", *units, "-o", str(made)])
        if not made.is_file():
            raise LibraryUnavailable(f"`{command[0]}` compiles {units[0]} and writes no library; {REMEDY}")
        made.chmod(0o600)
        return made.replace(folder / f"{stem}-{_digest(made)}.so")


@contextmanager
def _scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder for one build, locked while that runs; those of builds that were killed are removed."""
    for abandoned in folder.glob(f"{SCRATCH}*"):
        lock = _lock(abandoned, wait=False)
        if lock is not None:
            shutil.rmtree(abandoned, ignore_errors=True)
            os.close(lock)
    scratch, lock = _locked_folder(folder)
    try:
        yield scratch
    finally:
        os.close(lock)
        shutil.rmtree(scratch, ignore_errors=True)


def _locked_folder(folder: Path) -> tuple[Path, int]:
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
        lock = _lock(scratch, wait=True)
        if lock is not None:  # else another build took it for abandoned before it was locked
            return scratch, lock


def _lock(scratch: Path, *, wait: bool) -> int | None:
    """Lock a build's folder: an open file, whose end is the end of the lock; None where that cannot be."""
    try:
        lock = os.open(scratch / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        locked = wait or fcntl is not None
    except OSError:  # somebody else has it, or this file system knows no locks
        locked = wait
    if locked and scratch.exists():
        return lock
    os.close(lock)
    return None


def _key(command: Sequence[str], sources: Sequence[Path], generated: Mapping[str, str]) -> str:
    # The macros that a compiler defines tell its version and what the processor can do.
    macros = _run([*command, "-dM", "-E", "-x", "c++", os.devnull])
    parts = [shlex.join(command).encode(), macros]
    parts += [part for source in sources for part in (source.name.encode(), source.read_bytes())]
    parts += [part.encode() for item in sorted(generated.items()) for part in item]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()[:16]


def _run(command: Sequence[str]) -> bytes:
    """Call the compiler; returns what it prints.

    Raises:
        LibraryUnavailable: it cannot be run or fails.
        OSError: its disk is full.
    """
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS)
    except OSError as error:
        raise LibraryUnavailable(f"the compiler {command[0]!r} cannot be run ({error.strerror}); {REMEDY}") from error
    except subprocess.TimeoutExpired as error:
        raise LibraryUnavailable(f"`{shlex.join(command)}` did not end within {SECONDS} s; {REMEDY}") from error
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode and os.strerror(errno.ENOSPC) in said:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if done.returncode:
        said = said[-1000:] or f"exit code {done.returncode}"
        raise LibraryUnavailable(f"`{shlex.join(command)}` failed ({said}); {REMEDY}")
    return done.stdout


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
