"""Where a run lives: runs/<Name-vK>__<policy>__<seed>__<time>/ and the small files in it."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path

from attn_rl.training.guarded_ppo import REFUSED
from attn_rl.training.run.checkpoint import list_checkpoints
from attn_rl.training.run.lock import locked

PACKAGES = ("attn_rl", "gymnasium", "numpy", "stable-baselines3", "tensorboard", "torch")


def create_run_folder(runs_dir: Path, env_id: str, policy: str, seed: int, name: str | None = None) -> Path:
    """Make the folder of a new run, one level below ``runs_dir``.

    Args:
        runs_dir: parent of all runs; created if missing.
        env_id: Gymnasium id; module and namespace are dropped.
        policy: name of the policy.
        seed: of the run.
        name: instead of the composed name.

    Raises:
        ValueError: a name that is not one plain folder name, or is taken.
    """
    folder_name = name or compose_name(env_id, policy, seed)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._\-\[\]=]*", folder_name):
        raise ValueError(
            f"run name {folder_name!r} would not be one plain folder inside {runs_dir}; "
            "use letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    runs_dir.mkdir(parents=True, exist_ok=True)
    for number in count(1):  # runs that begin in the same second
        folder = runs_dir / (folder_name if number == 1 else f"{folder_name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            if name is not None:
                break
    raise ValueError(f"{folder} exists already; choose another --run-name (nothing is overwritten)")


def compose_name(env_id: str, policy: str, seed: int) -> str:
    """Name of a run's folder; module and namespace of the id are dropped."""
    short = env_id.split(":")[-1].split("/")[-1]
    return f"{short}__{policy}__{seed}__{time.strftime('%Y%m%d-%H%M%S')}"


@contextmanager
def owned(folder: Path, *, new: bool) -> Iterator[None]:
    """Write into a run folder alone; a ``new`` run that ends before it saved anything leaves no folder behind.

    Raises:
        RunInUse: another process writes there.
    """
    try:
        with locked(folder):
            yield
    except BaseException:
        if new and not list_checkpoints(folder) and not (folder / REFUSED).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[package] = "not installed"
    return found


def describe_run(folder: Path, config: Mapping[str, object]) -> None:
    """Write ``args.json``; of a resumed run, command and versions stay those that it began with."""
    path = folder / "args.json"
    begun = json.loads(path.read_text()) if path.exists() else {"command": sys.argv, "versions": versions()}
    write_json(path, begun | dict(config))


def write_json(path: Path, content: object) -> None:
    """Write readable JSON; the file appears whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(content, indent=2, default=str) + "\n"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``path``, then put it there in one move: a kill loses nothing.

    Args:
        path: of the file.
        write: is given a path with the same suffix.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
