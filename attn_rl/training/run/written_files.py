"""What a run wrote beside its checkpoints: TensorBoard events and records of attention, and how long they were."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import TensorBoardOutputFormat

EVENTS = "events.out.tfevents.*"
RECORDS = "attention/*.npz"
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


def lost_files(folder: Path, sizes: Mapping[str, int]) -> list[str]:
    """What is missing of files that a checkpoint knows, one sentence each.

    Args:
        folder: the run folder.
        sizes: of :func:`event_sizes` or :func:`record_sizes` when the checkpoint was saved.
    """
    lost = []
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            lost.append(f"{path} is gone: the {size:,} bytes that this run wrote there are lost; the run goes on")
        elif path.stat().st_size < size:
            left = path.stat().st_size
            lost.append(f"{path} was cut: {left:,} of {size:,} bytes are left, later points are lost; the run goes on")
    return lost


def are_sizes(value: object, entry: str) -> bool:
    """Whether a value out of a checkpoint maps plausible file names of ``entry`` (see :data:`NAMES`) to sizes."""
    return isinstance(value, dict) and all(
        re.fullmatch(NAMES[entry], name) is not None and type(size) is int and size >= 0 for name, size in value.items()
    )
