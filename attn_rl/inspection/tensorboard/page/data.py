"""What the page asks for, as JSON-able data, read from the record files of runs.

NumPy and the standard library only: this serves inside the TensorBoard process. The format of the files is described in
``attn_rl.inspection.measure.probe_record``; what a file declares is checked before it is read.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from attn_rl.inspection.measure.metrics import effect_title
from attn_rl.inspection.measure.npz import Member
from attn_rl.inspection.measure.older_records import effect_names, readout_rows
from attn_rl.inspection.measure.record_file import (
    RecordFile,
    open_record,
    record_path,
    recorded_steps,
    refuse_linked_folder,
)
from attn_rl.inspection.measure.record_format import FOLDER, OBS_PREFIX

Content = TypeVar("Content")
MAX_DEPTH = 3
MAX_NUMBERS = 1 << 22
"""Most numbers of one record that the page takes: as JSON they need some 500 MB of memory."""
DIGITS = 4
PER_STATE = (
    "present",
    "scene",
    "time",
    "positions",
    "ego",
    "relevant",
    "reward",
    "policy",
    "value",
    "pointer",
)


def find_runs(logdir: str | Path) -> dict[str, Path]:
    """Folders below ``logdir`` that hold attention records: name as TensorBoard shows it -> folder."""
    root = Path(logdir)
    runs = {}
    for depth in range(MAX_DEPTH + 1):
        for folder in root.glob("/".join(["*"] * depth + [FOLDER])):
            if steps_of(folder.parent):
                runs[printable(folder.parent.relative_to(root))] = folder.parent
    return dict(sorted(runs.items()))


def steps_of(run: Path) -> list[int]:
    """Training steps at which a run was recorded."""
    return recorded_steps(run)


def printable(path: Path | str) -> str:
    r"""A name with bytes that are no text as ``\xff``: such a name can neither be sent nor written."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_record(run: Path, step: int) -> dict[str, Any]:
    """One record, everything but the pictures.

    Raises:
        FileNotFoundError: no record of that step.
        ValueError: a record of another format, a damaged or too large one; says what is wrong.
    """
    return _read(run, step, _content)


def read_picture(run: Path, step: int, state: int) -> bytes | None:
    """The PNG of one state; None where there is none.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_record`.
    """
    pictures = _read(run, step, RecordFile.pictures)
    return pictures[state] or None if 0 <= state < len(pictures) else None


def records_as_json(run: Path, skipped: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """Everything the page can show of one run, pictures included: step and JSON text, one record at a time.

    Args:
        run: a run folder.
        skipped: called with the reason for every record that cannot be read.
    """
    for step in steps_of(run):
        try:
            text = as_json(_read(run, step, _content_with_pictures))
        except (OSError, ValueError) as error:
            skipped(f"record {step} is left out: {error}")
            continue
        yield step, text


def as_json(content: object) -> str:
    """JSON as browsers know it.

    Raises:
        ValueError: NaN or inf, which it has no words for.
    """
    return json.dumps(content, allow_nan=False)


def _read(run: Path, step: int, what: Callable[[RecordFile], Content]) -> Content:
    refuse_linked_folder(run)
    try:
        with open_record(record_path(run, step)) as file:
            return what(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{run} holds no record of step {step}") from None


def _content_with_pictures(file: RecordFile) -> dict[str, object]:
    pictures = [base64.b64encode(png).decode() if png else None for png in file.pictures()]
    return _content(file) | {"pictures": pictures}


def _content(file: RecordFile) -> dict[str, object]:
    meta: dict[str, Any] = file.meta
    observed = {key: f"{OBS_PREFIX}{key}" for key in file.observed}
    maps = [{name: f"{name}_{layer}" for name in ("pattern", "value_norm")} for layer in range(meta["n_layers"])]
    effects = [name for name in effect_names(file.members, meta) if _is_shown(name, file.members[name])]
    per_state = [*(name for name in PER_STATE if name in file.members), *effects]
    _limit(file, [*per_state, *observed.values(), *(name for layer in maps for name in layer.values())])
    scenes = file.read("scene")
    if not np.isin(scenes, np.arange(len(meta["scene_names"]))).all():
        raise ValueError(f"{file.path} is no whole record: its states belong to scenes that have no name")
    return meta | {
        "scalars": {tag: value if math.isfinite(value) else None for tag, value in meta["scalars"].items()},
        "slots": len(meta["labels"]) - meta["lead"],
        "layers": [{name: _plain(file.read(array)) for name, array in layer.items()} for layer in maps],
        "states": {name: _plain(file.read(name)) for name in per_state} | {"readout_rows": _plain(_read_rows(file))},
        "effects": {name: effect_title(name) for name in effects},
        "pictured": [bool(png) for png in file.pictures()],
        "features": _features(meta, {key: file.read(array) for key, array in observed.items()}),
    }


def _is_shown(effect: str, array: Member) -> bool:
    return effect.endswith("_kl") and len(array.shape) <= 2


def _read_rows(file: RecordFile) -> np.ndarray:
    names = [name for name in ("readout_rows", "present") if name in file.members]
    return readout_rows({name: file.read(name) for name in names}, file.meta)


def _limit(file: RecordFile, names: list[str]) -> None:
    numbers = sum(file.members[name].numbers for name in names)
    if numbers > MAX_NUMBERS:
        raise ValueError(
            f"{file.path} is too large for the page: {numbers:,} numbers, at most {MAX_NUMBERS:,} are shown; "
            "record fewer scenes, or read it with ProbeRecord.load"
        )


def _features(meta: dict[str, Any], observed: dict[str, np.ndarray]) -> dict[str, object]:
    """Names and values per observation key, for the tooltips: blocks (S,N,F) of entity types, vectors (S,E)."""
    names, categories = meta["feature_names"], meta.get("categories", {})
    return {
        key: {"names": names.get(key, []), "values": _named(_plain(block), names.get(key, []), categories.get(key, {}))}
        for key, block in observed.items()
        if block.ndim in (2, 3) and not key.endswith("_present")
    }


def _named(values: Any, features: list[str], categories: dict[str, list[str]]) -> object:
    """The nested lists with names in the place of the numbers of categories."""
    if not categories:
        return values
    if values and isinstance(values[0], list):
        return [_named(inside, features, categories) for inside in values]
    return [_name(value, categories.get(name, [])) for name, value in zip(features, values, strict=False)]


def _name(value: Any, names: list[str]) -> object:
    return names[int(value)] if names and value is not None and 0 <= value < len(names) else value


def _plain(array: np.ndarray) -> object:
    """Nested lists, rounded; NaN and inf become None, which JSON knows."""
    if array.dtype.kind != "f":
        return array.tolist()
    rounded = np.round(array.astype(np.float64), DIGITS)
    plain = rounded.astype(object)
    plain[~np.isfinite(rounded)] = None
    return plain.tolist()
