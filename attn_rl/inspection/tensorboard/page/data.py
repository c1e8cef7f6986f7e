"""What the page asks for, as JSON-able data, read from the record files of runs.

NumPy and the standard library only: this serves inside the TensorBoard process. The format of the files is described in
``attn_rl.inspection.measure.probe_record``.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from attn_rl.inspection.measure.metrics import effect_title
from attn_rl.inspection.measure.older_records import effect_names, readout_rows

FORMAT = 1
MAX_DEPTH = 3
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
        for folder in root.glob("/".join(["*"] * depth + ["attention"])):
            if next(folder.glob("*.npz"), None) is not None:
                runs[str(folder.parent.relative_to(root))] = folder.parent
    return dict(sorted(runs.items()))


def steps_of(run: Path) -> list[int]:
    """Training steps at which a run was recorded."""
    return sorted(int(path.stem) for path in (run / "attention").glob("*.npz") if path.stem.isdigit())


def read_record(run: Path, step: int) -> dict[str, Any]:
    """One record, everything but the pictures.

    Raises:
        FileNotFoundError: no record of that step.
        ValueError: a record of another format.
    """
    with _open(run, step) as file:
        meta = json.loads(str(file["meta"]))
        slots = len(meta["labels"]) - meta["lead"]
        layers = [
            {"pattern": _plain(file[f"pattern_{i}"]), "value_norm": _plain(file[f"value_norm_{i}"])}
            for i in range(meta["n_layers"])
        ]
        states = {key: _plain(file[key]) for key in PER_STATE if key in file.files}
        effects = [name for name in effect_names(file.files, meta) if name.endswith("_kl") and file[name].ndim <= 2]
        states |= {name: _plain(file[name]) for name in effects}
        states["readout_rows"] = _plain(readout_rows(file, meta))
        observed = {key.removeprefix("obs."): file[key] for key in file.files if key.startswith("obs.")}
        pictured = np.diff(file["png_start"]) > 0
    return meta | {
        "slots": slots,
        "layers": layers,
        "states": states,
        "effects": {name: effect_title(name) for name in effects},
        "pictured": pictured.tolist(),
        "features": _features(meta, observed),
    }


def read_picture(run: Path, step: int, state: int) -> bytes | None:
    """The PNG of one state; None where there is none."""
    with _open(run, step) as file:
        start = file["png_start"]
        if not 0 <= state < len(start) - 1:
            return None
        return file["png"][start[state] : start[state + 1]].tobytes() or None


def whole_run(run: Path) -> dict[str, Any]:
    """Everything the page can show of one run, pictures included, for a single file."""
    records = {}
    for step in steps_of(run):
        record = read_record(run, step)
        pictures = [read_picture(run, step, i) if has else None for i, has in enumerate(record["pictured"])]
        record["pictures"] = [None if png is None else base64.b64encode(png).decode() for png in pictures]
        records[step] = record
    return {run.resolve().name: records}


def _open(run: Path, step: int) -> Any:
    file = np.load(run / "attention" / f"{step:012d}.npz", allow_pickle=False)
    if int(file["format"]) != FORMAT:
        raise ValueError(f"record {step} of {run.name} has format {file['format']}, this page reads {FORMAT}")
    return file


def _features(meta: dict[str, Any], observed: dict[str, np.ndarray]) -> dict[str, Any]:
    """Names and values per observation key, for the tooltips: blocks (S,N,F) of entity types, vectors (S,E)."""
    names = meta["feature_names"]
    return {
        key: {"names": names.get(key, []), "values": _plain(block)}
        for key, block in observed.items()
        if block.ndim in (2, 3) and not key.endswith("_present")
    }


def _plain(array: np.ndarray) -> Any:
    """Nested lists, rounded; NaN and inf become None, which JSON knows."""
    if array.dtype.kind != "f":
        return array.tolist()
    rounded = np.round(array.astype(np.float64), DIGITS)
    plain = rounded.astype(object)
    plain[~np.isfinite(rounded)] = None
    return plain.tolist()
