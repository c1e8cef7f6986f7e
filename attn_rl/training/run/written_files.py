"""What a run wrote beside its checkpoints: TensorBoard events and records of attention, and what they held then."""

from __future__ import annotations

import hashlib
import math
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import TensorBoardOutputFormat

EVENTS = "events.out.tfevents.*"
RECORDS = "attention/*.npz"
PROBE = "probe.npz"
ENDS = 4096
"""Bytes at each end of a file that its digest covers."""

NAMES = {"events": r"events\.out\.tfevents\.[^/]+", "records": r"attention/[^/.][^/]*\.npz"}
"""Entry in a checkpoint's state -> the file names that it may hold."""


def event_sizes(model: BaseAlgorithm, folder: Path) -> dict[str, int]:
    """Bytes of every TensorBoard event file of a run, after everything pending is on disk."""
    for output in model.logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.flush()
    sizes = {}
    for path in sorted(folder.glob(EVENTS)):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sizes[path.name] = path.stat().st_size
    return sizes


def record_sizes(folder: Path) -> dict[str, int]:
    """Bytes of every record of attention of a run."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.glob(RECORDS))}


def rewind_events(folder: Path, sizes: Mapping[str, int]) -> None:
    """Cut TensorBoard events that were written after a checkpoint: the resumed run writes them anew.

    Args:
        folder: the run folder.
        sizes: of :func:`event_sizes` when the checkpoint was saved.
    """
    for path in folder.glob(EVENTS):
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])


def digests(folder: Path, sizes: Mapping[str, int]) -> dict[str, str]:
    """SHA-256 of both ends of each file: enough to notice one that was written anew or put in its place.

    Args:
        folder: the run folder.
        sizes: of :func:`event_sizes` and :func:`record_sizes`; what lies behind does not count.
    """
    return {name: _digest(folder / name, size) for name, size in sizes.items()}


def _digest(path: Path, size: int) -> str:
    with path.open("rb") as file:
        head = file.read(min(ENDS, size))
        file.seek(max(size - ENDS, 0))
        return hashlib.sha256(head + file.read(min(ENDS, size))).hexdigest()


def lost_files(folder: Path, sizes: Mapping[str, int], known: Mapping[str, str]) -> list[str]:
    """What is missing of files that a checkpoint knows, one sentence each.

    Args:
        folder: the run folder.
        sizes: of :func:`event_sizes` or :func:`record_sizes` when the checkpoint was saved.
        known: of :func:`digests` at that moment, as far as there are some.
    """
    lost = []
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            lost.append(f"{path} is gone: the {size:,} bytes that this run wrote there are lost; the run goes on")
        elif path.stat().st_size < size:
            left = path.stat().st_size
            lost.append(f"{path} was cut: {left:,} of {size:,} bytes are left, later points are lost; the run goes on")
        elif name in known and _digest(path, size) != known[name]:
            lost.append(f"{path} was changed: it is not what this run wrote there; the run goes on")
    return lost


def lost_results(folder: Path, state: Mapping[str, Any]) -> list[str]:
    """What is missing of what a run leaves when it has come to its end, one sentence each; before that, nothing.

    Args:
        folder: the run folder.
        state: of its newest checkpoint.
    """
    if state["counters"]["num_timesteps"] < state["config"].get("total_timesteps", math.inf):
        return []
    model, lost = folder / "model.zip", []
    if not zipfile.is_zipfile(model):
        what = "no zip file" if model.exists() else "missing"
        lost.append(f"{model} is {what}: it is written anew when the run ends")
    if records := state.get("records"):  # the probe is a copy of the last one
        last = max(records)
        known = {PROBE: state["digests"][last]} if last in state.get("digests", {}) else {}
        lost += lost_files(folder, {PROBE: records[last]}, known)
    return lost


def are_sizes(value: object, entry: str) -> bool:
    """Whether a value out of a checkpoint maps plausible file names of ``entry`` (see :data:`NAMES`) to sizes."""
    return isinstance(value, dict) and all(
        re.fullmatch(NAMES[entry], name) is not None and type(size) is int and size >= 0 for name, size in value.items()
    )


def are_digests(value: object) -> bool:
    """Whether a value out of a checkpoint maps names to digests."""
    return isinstance(value, dict) and all(
        type(digest) is str and re.fullmatch(r"[0-9a-f]{64}", digest) is not None for digest in value.values()
    )
