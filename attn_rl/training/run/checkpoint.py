"""Checkpoints on disk: a directory of safetensors and JSON, written whole or not at all, read without unpickling."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as serialize_tensors

SCHEMA = 1
"""Version of the layout described in ``docs/reliability.md``; a reader refuses others."""

FOLDER = "checkpoints"
"""Name of the directory inside a run folder that holds its checkpoints."""

STATE = "state.json"
PARTS = ("model", "optimizer", "environment")
"""Tensor files of a checkpoint: ``<part>.safetensors``."""

Arrays = dict[str, np.ndarray]


class DamagedCheckpoint(ValueError):
    """A checkpoint that cannot be trusted: truncated, altered, of another version or with impossible content."""


@dataclass
class Checkpoint:
    """What one checkpoint holds, as plain data.

    Attributes:
        state: JSON: counters, generators, configuration, ...
        model: weights and normaliser statistics by name.
        optimizer: its tensors, ``"<parameter index>.<name>"``.
        environment: arrays of the environments' state, the last observation and episode starts.
    """

    state: dict[str, Any]
    model: Arrays = field(default_factory=dict)
    optimizer: Arrays = field(default_factory=dict)
    environment: Arrays = field(default_factory=dict)


def checkpoint_name(num_timesteps: int) -> str:
    """Name of the directory of a checkpoint: sorts by step."""
    return f"step-{num_timesteps:012d}"


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a kill at any moment leaves either all of it or nothing.

    Files go to a temporary sibling and are synced to disk, then one rename makes them appear; what stood at ``path``
    before gives way only then.

    Raises:
        ValueError: a weight, statistic or optimiser moment is not finite: such a state is never saved.
        OSError: the disk is full, say; then ``path`` is as it was.
    """
    for part in ("model", "optimizer"):
        refuse_non_finite(getattr(checkpoint, part), f"the {part} (not saved)")
    files = {f"{part}.safetensors": _serialize(getattr(checkpoint, part)) for part in PARTS}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files[STATE] = _sealed({"schema": SCHEMA, "files": digests} | checkpoint.state)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        temporary.mkdir()
        for name, data in files.items():
            _write_synced(temporary / name, data)
        _sync_folder(temporary)
        _put_in_place(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def _put_in_place(temporary: Path, path: Path) -> None:
    if path.exists():  # the run was here before, then resumed from an older checkpoint
        path.rename(path.parent / f".{path.name}.{os.getpid()}.old.tmp")
    temporary.rename(path)
    remove_leftovers(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what saves that were killed left behind."""
    for leftover in folder.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint. Nothing in it is executed: tensors are safetensors, the rest is JSON.

    Raises:
        DamagedCheckpoint: with what is wrong.
    """
    state = _unsealed(_read(path, STATE), path)
    if state.get("schema") != SCHEMA:
        raise DamagedCheckpoint(f"{path / STATE} has schema {state.get('schema')!r}; this version reads {SCHEMA}")
    expected = [f"{part}.safetensors" for part in PARTS]
    if not isinstance(state.get("files"), dict) or sorted(state["files"]) != sorted(expected):
        raise DamagedCheckpoint(f"{path / STATE} lists the files {state.get('files')!r}; expected {expected}")
    parts = {part: _parse(path, f"{part}.safetensors", state["files"]) for part in PARTS}
    for part in ("model", "optimizer"):
        refuse_non_finite(parts[part], str(path / f"{part}.safetensors"))
    return Checkpoint(state, **parts)


def refuse_non_finite(arrays: Arrays, where: str) -> None:
    """Raise where an array holds NaN or inf.

    Raises:
        DamagedCheckpoint: naming the first such array.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DamagedCheckpoint(f"{where}: {name} holds NaN or inf")


def list_checkpoints(folder: Path) -> list[Path]:
    """Directories of the checkpoints of a run, the newest first, valid or not."""
    found = (folder / FOLDER).glob("step-*")
    return sorted((path for path in found if re.fullmatch(r"step-\d{12}", path.name)), reverse=True)


def newest_checkpoint(folder: Path) -> tuple[Path, Checkpoint, list[str]]:
    """Read the newest valid checkpoint of a run.

    Returns:
        Where it is, what it holds, and why each newer one was skipped.

    Raises:
        DamagedCheckpoint: there is none.
    """
    skipped: list[str] = []
    for path in list_checkpoints(folder):
        try:
            return path, read_checkpoint(path), skipped
        except DamagedCheckpoint as error:
            skipped.append(str(error))
    reasons = "".join(f"\n  {reason}" for reason in skipped)
    raise DamagedCheckpoint(
        f"{folder / FOLDER} holds no valid checkpoint; was the run killed before its first?{reasons}"
    )


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints of a run."""
    for path in list_checkpoints(folder)[keep:]:
        shutil.rmtree(path)


def _serialize(arrays: Arrays) -> bytes:
    # safetensors writes the buffer as it lies in memory: anything but C order would come back scrambled.
    return serialize_tensors({name: np.array(array, order="C") for name, array in arrays.items()})


def _parse(path: Path, name: str, digests: dict[str, str]) -> Arrays:
    data = _read(path, name)
    if hashlib.sha256(data).hexdigest() != digests[name]:
        raise DamagedCheckpoint(f"{path / name} is damaged: its SHA-256 is not the one that {STATE} states")
    try:
        return parse_tensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedCheckpoint(f"{path / name} is no safetensors file: {error}") from error


def _read(path: Path, name: str) -> bytes:
    file = path / name
    if path.is_symlink() or file.is_symlink() or not file.is_file():
        raise DamagedCheckpoint(f"{file} is missing, or no plain file")
    return file.read_bytes()


def _dump(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1)


def _sealed(content: dict[str, Any]) -> bytes:
    """JSON that states its own SHA-256 (of the JSON without it)."""
    digest = hashlib.sha256(_dump(content).encode()).hexdigest()
    return _dump({"sha256": digest} | content).encode()


def _unsealed(data: bytes, path: Path) -> dict[str, Any]:
    """The content of :func:`_sealed` JSON; every byte counts, white space too."""
    try:
        content: dict[str, Any] = json.loads(data)
        intact = isinstance(content, dict) and _sealed({k: v for k, v in content.items() if k != "sha256"}) == data
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path / STATE} is not JSON: {error}") from error
    if not intact:
        raise DamagedCheckpoint(f"{path / STATE} is damaged: its content is not what its SHA-256 states")
    return content


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
