"""Compile the fused kernels on this machine, once, and load them."""

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

SOURCE = Path(__file__).with_name("encoder.cpp")
HEADERS = sorted(SOURCE.parent.glob("*.h"))
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-std=c++17", "-shared", "-fPIC")
SWITCH = "ATTN_RL_FUSED"
"""Environment variable; "0": never use the kernels."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they are switched off or cannot be compiled, which is said once.

    Nothing but speed hangs on them. They are compiled by ``$CXX`` (or c++, g++, clang++) into the user's cache folder,
    under a name that stands for source, compiler and processor: none is ever loaded where it was not compiled for.
    """
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        loaded = ctypes.CDLL(str(_compiled()))
        loaded.kept_size.restype = ctypes.c_int64
        return loaded
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or error
        warnings.warn(
            f"updates take the slower path, since {SOURCE.name} cannot be compiled ({told}); "
            f"install a C++ compiler (g++ or clang++), or set {SWITCH}=0 to be told no more",
            stacklevel=2,
        )
        return None


def _compiled() -> Path:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        raise OSError("there is no C++ compiler")
    # The macros that a compiler defines tell its version and what the processor can do.
    macros = _run([compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
    told = b"".join((macros, *(file.read_bytes() for file in (SOURCE, *HEADERS)), " ".join(FLAGS).encode()))
    path = _cache_folder() / f"encoder-{hashlib.sha256(told).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:  # whole or not there, whoever else compiles now
            made = Path(scratch, path.name)
            _run([compiler, *FLAGS, str(SOURCE), "-o", str(made)])
            made.replace(path)
    return path


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attn_rl"


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
