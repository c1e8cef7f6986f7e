"""Open a record from any hand: its format, its ``meta`` and the shapes of its arrays are checked before they are read.

NumPy and the standard library only: the TensorBoard process reads records too.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attn_rl.inspection.measure import record_format as form
from attn_rl.inspection.measure.npz import Member, NpzFile, open_npz, refuse_special

NAME = re.compile(r"(\d{12}|[1-9]\d{12,17})\.npz", re.ASCII)
PNG = struct.Struct(">8sL4sLL")
"""How a PNG file starts: signature, length and name of its first chunk, width, height."""


class RecordFile:
    """An open record; ``meta`` has been checked.

    Args:
        arrays: the checked ``.npz`` file.

    Raises:
        ValueError: another format, or arrays and ``meta`` that do not fit together.
    """

    def __init__(self, arrays: NpzFile) -> None:
        self.path, self.members, self.read = arrays.path, arrays.members, arrays.read
        found = self.members.get("format")
        number = arrays.read("format").item() if found and found.shape == () and found.dtype.kind in "iu" else "none"
        if number != form.FORMAT:
            raise ValueError(
                f"{self.path} has format {number}, expected {form.FORMAT}; "
                "read it with the version of attn_rl that wrote it"
            )
        try:
            self.meta = self._meta()
            _check_meta(self.meta, names_reader="readout_rows" not in self.members)
            _check_arrays(self.members, self.meta)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path} is no whole record: {error}") from error

    @property
    def observed(self) -> list[str]:
        """Keys of the observation."""
        return [name.removeprefix(form.OBS_PREFIX) for name in self.members if name.startswith(form.OBS_PREFIX)]

    def pictures(self) -> list[bytes]:
        """The PNG file of every state; empty where there is none.

        Raises:
            ValueError: they do not lie one after another, are no PNG files, or declare too many pixels.
        """
        png, starts = self.read("png"), self.read("png_start")
        edges = starts.tolist()
        if starts.dtype.kind not in "iu" or any(a > b for a, b in itertools.pairwise([0, *edges, len(png)])):
            raise ValueError(f"{self.path} is no whole record: its pictures do not lie one after another")
        files = [png[a:b].tobytes() for a, b in itertools.pairwise(edges)]
        try:
            pixels = sum(_pixels(file) for file in files if file)
        except ValueError as error:
            raise ValueError(f"{self.path} is no whole record: {error}") from error
        if pixels > form.MAX_PIXELS:
            raise ValueError(
                f"{self.path}: its pictures declare {pixels:,} pixels, at most {form.MAX_PIXELS:,} are decoded"
            )
        return files

    def _meta(self) -> Any:
        member = self.members.get("meta")
        if member is None or member.dtype.kind != "U" or member.shape != ():
            raise ValueError("meta is missing or no text")
        if member.dtype.itemsize > 4 * form.MAX_META:
            raise ValueError(f"meta has {member.dtype.itemsize // 4:,} characters, at most {form.MAX_META:,} are read")
        return json.loads(str(self.read("meta")))


@contextmanager
def open_record(path: str | Path) -> Iterator[RecordFile]:
    """Open a record file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, too large, or no record of this format; the message says what is wrong.
    """
    with open_npz(path, form.MAX_BYTES) as arrays:
        yield RecordFile(arrays)


def record_path(run_dir: str | Path, step: int) -> Path:
    """Where a run keeps the record of a training step."""
    return Path(run_dir) / form.FOLDER / f"{step:012d}.npz"


def recorded_steps(run_dir: str | Path) -> list[int]:
    """Training steps that a run has records of, in order; files of other names are none."""
    try:
        names = [path.name for path in (Path(run_dir) / form.FOLDER).iterdir()]
    except OSError:  # no such folder, or none that may be read
        return []
    return sorted(int(found[1]) for name in names if (found := NAME.fullmatch(name)))


def record_paths(run_dir: str | Path) -> list[Path]:
    """All records of a run, in order of training."""
    return [record_path(run_dir, step) for step in recorded_steps(run_dir)]


def refuse_linked_folder(run_dir: Path) -> None:
    """Refuse a run whose folder of records lies elsewhere.

    Raises:
        ValueError: it is a link.
    """
    folder = run_dir / form.FOLDER
    if folder.is_symlink():
        refuse_special(folder, folder.lstat().st_mode)


def _pixels(file: bytes) -> int:
    if len(file) < PNG.size:
        raise ValueError("a picture is cut short")
    width: int
    height: int
    signature, _, chunk, width, height = PNG.unpack_from(file)
    if signature != b"\x89PNG\r\n\x1a\n" or chunk != b"IHDR":
        raise ValueError("a picture is no PNG file")
    return width * height


def _check_meta(meta: object, *, names_reader: bool) -> None:
    """Hold ``meta`` against what the writer puts there.

    Args:
        meta: what its JSON says.
        names_reader: whether it must say which row is read out, as records do that do not hold the rows' weights.

    Raises:
        ValueError: names the entry.
    """
    if not isinstance(meta, dict):
        raise ValueError(f"meta is no JSON object but {type(meta).__name__}")
    columns = len(meta["labels"]) if _texts(meta.get("labels")) else 0
    lead, layers = meta.get("lead"), meta.get("n_layers")
    names, found = meta.get("feature_names"), meta.get("scalars")
    strengths = meta.get("strengths", [])  # older records have none, nor names of effects
    right = {
        "step": _between(meta.get("step"), 0, 1 << 53),
        "env": isinstance(meta.get("env"), str),
        "labels": _texts(meta.get("labels")),
        "lead": _between(lead, 0, columns),
        "reader": not names_reader or _between(meta.get("reader"), -1, columns),
        "effects": _texts(meta.get("effects", [])),
        "edge_types": _texts(meta.get("edge_types", [])),
        "n_layers": _between(layers, 0, form.MAX_LAYERS),
        "sizes": isinstance(meta.get("sizes"), list) and all(_between(n, 0, 1 << 31) for n in meta["sizes"]),
        "scene_names": _texts(meta.get("scene_names")),
        "verdicts": _texts(meta.get("verdicts")),
        "feature_names": isinstance(names, dict) and all(_texts(each) for each in names.values()),
        "categories": _named_values(meta.get("categories", {})),
        "scalars": isinstance(found, dict) and all(_number(value) for value in found.values()),
        "strengths": isinstance(strengths, list) and all(_strength(each) for each in strengths),
    }
    wrong = [name for name, is_right in right.items() if not is_right]
    if wrong:
        raise ValueError(f"meta has no {wrong[0]!r} of the right form, but {str(meta.get(wrong[0], 'none'))[:80]}")


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _named_values(value: object) -> bool:
    """Lists of texts in dictionaries in a dictionary."""
    if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
        return False
    return all(_texts(names) for each in value.values() for names in each.values())


def _between(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _number(value: object) -> bool:
    return isinstance(value, float) or _between(value, -(1 << 53), 1 << 53)


def _strength(value: object) -> bool:
    if not (isinstance(value, list) and len(value) == 4):
        return False
    layer, head, name, strength = value
    where = _between(layer, 0, form.MAX_LAYERS) and _between(head, 0, form.MAX_HEADS)
    return where and isinstance(name, str) and _number(strength) and math.isfinite(strength)


def _check_arrays(members: Mapping[str, Member], meta: Mapping[str, Any]) -> None:
    """Hold the shapes of all arrays of the format against each other and against ``meta``.

    Raises:
        ValueError: names the array.
    """
    scene = members.get("scene")
    columns, states = len(meta["labels"]), scene.shape[0] if scene and scene.shape else 0
    if not states:
        raise ValueError("it holds no states")
    lengths = {"S": states, "S+1": states + 1, "K": columns, "N": columns - meta["lead"], "L": meta["n_layers"]}
    lengths |= {"N+1": lengths["N"] + 1, "T": len(meta.get("edge_types", []))}
    for name, axes in form.ARRAYS.items():
        _check_array(members, name, axes, lengths)
    known = form.EFFECT_ARRAYS | form.OPTIONAL_ARRAYS
    for name, axes in known.items():
        if name in members:
            _check_array(members, name, axes, lengths)
    for layer in range(meta["n_layers"]):
        of_layer = dict(lengths)
        for name, axes in form.LAYERED_ARRAYS.items():
            _check_array(members, f"{name}_{layer}", axes, of_layer)
    own = set(meta.get("effects", [])) - known.keys()
    for name, member in members.items():
        of_states = name.startswith(form.OBS_PREFIX) or name in own
        if of_states and (member.shape[:1] != (states,) or member.dtype.kind == "U"):
            raise ValueError(f"{name} holds {member.shape} of {member.dtype}, expected numbers of {states} states")


def _check_array(members: Mapping[str, Member], name: str, axes: str, lengths: dict[str, int]) -> None:
    """Check one array; an axis that is not known yet is known from now on."""
    if name not in members:
        raise ValueError(f"the array {name} is missing")
    member, letters = members[name], axes.split(",")
    if len(member.shape) == len(letters) and member.dtype.kind in "biuf":
        known = [
            int(axis) if axis.isdecimal() else lengths.setdefault(axis, length)
            for axis, length in zip(letters, member.shape, strict=True)
        ]
        if member.shape == tuple(known):
            return
    expected = ",".join(f"{axis}={lengths[axis]}" if axis in lengths else axis for axis in letters)
    raise ValueError(f"{name} holds {member.shape} of {member.dtype}, expected numbers ({expected})")
