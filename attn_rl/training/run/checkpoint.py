"""Checkpoints on disk: a directory of safetensors and JSON, written whole or not at all, read without unpickling."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as serialize_tensors

from attn_rl.regular_files import IrregularFile, read_regular

SCHEMA = 1
"""Version of the layout described in ``docs/reliability.md``; a reader refuses others."""

FOLDER = "checkpoints"
"""Name of the directory inside a run folder that holds its checkpoints."""

STATE = "state.json"
PARTS = ("model", "optimizer", "environment")
"""Tensor files of a checkpoint: ``<part>.safetensors``."""

MAX_STATE_BYTES = 16 << 20
"""Largest ``state.json`` that is written or read: a hundred times what thousands of environments need."""

MAX_DEPTH = 32
"""Deepest nesting of JSON that is read."""

SPARE_BYTES = 64 << 20
"""How much a tensor file may hold beyond four times what its agent needs."""

MAX_TENSOR_BYTES = 1 << 30
"""Largest tensor file that is read where no agent says what it needs."""

Arrays = dict[str, np.ndarray]
Sizes = Mapping[str, int]
"""Part of a checkpoint -> bytes that an agent needs of it."""


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
        ValueError: a weight, statistic or optimiser moment is not finite, or the environments' state is larger than
            what would be read again: such a state is never saved.
        OSError: the disk is full, say; then ``path`` is as it was.
    """
    for part in ("model", "optimizer"):
        refuse_non_finite(getattr(checkpoint, part), f"the {part} (not saved)")
    files = {f"{part}.safetensors": _serialize(getattr(checkpoint, part)) for part in PARTS}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files[STATE] = _sealed({"schema": SCHEMA, "files": digests} | checkpoint.state)
    if len(files[STATE]) > MAX_STATE_BYTES:
        raise ValueError(
            f"the state of the environments takes {len(files[STATE]):,} bytes of JSON; expected at most "
            f"{MAX_STATE_BYTES:,}: let get_state() return NumPy arrays instead of lists"
        )
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


def read_state(path: Path) -> dict[str, Any]:
    """Read and verify what a checkpoint says in JSON.

    Raises:
        DamagedCheckpoint: with what is wrong.
    """
    state = _unsealed(_read(path, STATE, MAX_STATE_BYTES), path)
    if state.get("schema") != SCHEMA:
        raise DamagedCheckpoint(f"{path / STATE} has schema {state.get('schema')!r}; this version reads {SCHEMA}")
    expected = [f"{part}.safetensors" for part in PARTS]
    if not isinstance(state.get("files"), dict) or sorted(state["files"]) != sorted(expected):
        raise DamagedCheckpoint(f"{path / STATE} lists the files {state.get('files')!r}; expected {expected}")
    return state


def read_checkpoint(path: Path, admit: Callable[[dict[str, object]], Sizes] | None = None) -> Checkpoint:
    """Read and verify a checkpoint. Nothing in it is executed: tensors are safetensors, the rest is JSON.

    Args:
        path: its directory.
        admit: is given the state before any tensor is read; says how many bytes the agent needs of each part, or
            raises :class:`DamagedCheckpoint`.

    Raises:
        DamagedCheckpoint: with what is wrong.
    """
    state = read_state(path)
    needed = admit(state) if admit is not None else {}
    parts = {}
    for part in PARTS:
        most = 4 * needed[part] + SPARE_BYTES if part in needed else MAX_TENSOR_BYTES
        parts[part] = _parse(path, f"{part}.safetensors", state["files"], most)
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


def newest_checkpoint(
    folder: Path, admit: Callable[[dict[str, object]], Sizes] | None = None
) -> tuple[Path, Checkpoint, list[str]]:
    """Read the newest valid checkpoint of a run.

    Args:
        folder: of the run.
        admit: see :func:`read_checkpoint`.

    Returns:
        Where it is, what it holds, and why each newer one was skipped.

    Raises:
        DamagedCheckpoint: there is none.
    """
    skipped: list[str] = []
    for path in list_checkpoints(folder):
        try:
            return path, read_checkpoint(path, admit), skipped
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


def _parse(path: Path, name: str, digests: dict[str, str], most: int) -> Arrays:
    data = _read(path, name, most)
    if hashlib.sha256(data).hexdigest() != digests[name]:
        raise DamagedCheckpoint(f"{path / name} is damaged: its SHA-256 is not the one that {STATE} states")
    try:
        return parse_tensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DamagedCheckpoint(f"{path / name} is no safetensors file: {error}") from error


def _read(path: Path, name: str, most: int) -> bytes:
    if path.is_symlink():
        raise DamagedCheckpoint(f"{path} is a link; expected a folder")
    try:
        return read_regular(path / name, most)
    except IrregularFile as error:
        raise DamagedCheckpoint(str(error)) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedCheckpoint(f"{path / name} is missing") from error


def parse_json(data: bytes) -> Any:
    """Parse JSON that is not nested deeper than :data:`MAX_DEPTH`.

    Raises:
        ValueError, RecursionError: no such JSON.
    """
    content = json.loads(data)
    level = [content]
    for _ in range(MAX_DEPTH):
        nested = [each for each in level if isinstance(each, (dict, list))]
        level = [value for each in nested for value in (each.values() if isinstance(each, dict) else each)]
    if any(isinstance(each, (dict, list)) for each in level):
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    return content


def _dump(content: dict[str, object]) -> str:
    return json.dumps(content, indent=1)


def _sealed(content: dict[str, object]) -> bytes:
    """JSON that states its own SHA-256 (of the JSON without it)."""
    digest = hashlib.sha256(_dump(content).encode()).hexdigest()
    return _dump({"sha256": digest} | content).encode()


def _unsealed(data: bytes, path: Path) -> dict[str, Any]:
    """The content of :func:`_sealed` JSON; every byte counts, white space too."""
    try:
        content: dict[str, object] = parse_json(data)
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
