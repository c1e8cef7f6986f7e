"""Compile the kernels on this machine, once, and load them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path

from attn_rl.backends.kernels.structures import FUNCTIONS, header

SOURCE = Path(__file__).with_name("kernels.cpp")
HEADERS = sorted(SOURCE.parent.glob("*.h"))
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-std=c++17", "-shared", "-fPIC")
SWITCH = "ATTN_RL_FUSED"
"""Environment variable; "0": never use the kernels."""


def library() -> ctypes.CDLL:
    """The compiled kernels, where :func:`why_not` has nothing against them."""
    found = _loaded()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def why_not() -> str | None:
    """Why there are no kernels on this machine, None where there are."""
    found = _loaded()
    return found if isinstance(found, str) else None


@cache
def _loaded() -> ctypes.CDLL | str:
    """The kernels, or why there are none; where they cannot be compiled a warning says so, once.

    Nothing but speed depends on them. They are compiled by ``$CXX`` (or c++, g++, clang++) into the user's cache
    folder, under a name that stands for source, compiler and processor: none is loaded where it was not compiled for.
    """
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH}=0"
    try:
        loaded = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"{SOURCE.name} cannot be compiled ({getattr(error, 'stderr', None) or error})"
        warnings.warn(
            f"the kernels are left out, since {reason}; install a C++ compiler (g++ or clang++), or set {SWITCH}=0 to "
            "silence this",
            stacklevel=2,
        )
        return reason
    for name, (taken, result) in FUNCTIONS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.POINTER(taken)], result
    return loaded


def _compiled() -> Path:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        raise OSError("there is no C++ compiler")
    # The macros that a compiler defines tell its version and what the processor can do.
    macros = _run([compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
    told = b"".join(
        (macros, *(file.read_bytes() for file in (SOURCE, *HEADERS)), header().encode(), " ".join(FLAGS).encode())
    )
    path = _cache_folder() / f"kernels-{hashlib.sha256(told).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:  # whole or not there, whoever else compiles now
            made = Path(scratch, path.name)
            Path(scratch, "structures.h").write_text(header())
            _run([compiler, *FLAGS, f"-I{scratch}", str(SOURCE), "-o", str(made)])
            made.replace(path)
    return path


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attn_rl"


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
