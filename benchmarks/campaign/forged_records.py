"""Attention records as a stranger or a broken disk may leave them: how each is made."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attn_rl.inspection.measure.record_format import ARRAYS, EFFECT_ARRAYS, LAYERED_ARRAYS, OBS_PREFIX
from attn_rl.inspection.record.frame import Picture

DAMAGED = 7
"""Training step of the record that is damaged."""
LENGTHS = {"S": 3, "S+1": 4, "K": 6, "N": 5, "N+1": 6, "L": 2, "H": 2, "Q": 6, "d": 4, "D": 8, "F": 7, "A": 5}
LENGTHS["heads"] = LENGTHS["H"]

Arrays = dict[str, Any]
Damage = Callable[[Path], None]
"""Leaves a damaged record at a path."""


def honest() -> Arrays:
    """The arrays of a small record: two layers, five slots, three states, the first with a picture."""
    rng = np.random.default_rng(0)

    def filled(axes: str) -> np.ndarray:
        return rng.random([LENGTHS.get(axis) or int(axis) for axis in axes.split(",")]).astype(np.float32)

    arrays: Arrays = {name: filled(axes) for name, axes in (ARRAYS | EFFECT_ARRAYS).items() if name != "png"}
    for layer in range(LENGTHS["L"]):
        arrays |= {f"{name}_{layer}": filled(axes) for name, axes in LAYERED_ARRAYS.items()}
    png = Picture(np.full((20, 30, 3), 200)).png
    arrays |= {"format": np.array(1), "meta": text(meta()), "present": np.ones((3, 6), bool)}
    arrays |= {"scene": np.array([0, 1, 1]), "time": np.array([0, 0, 1]), "relevant": np.array([0, -1, 4])}
    arrays |= {f"{OBS_PREFIX}items": filled("S,N,2"), f"{OBS_PREFIX}ego": filled("S,2")}
    return arrays | {"png": np.frombuffer(png, np.uint8), "png_start": np.array([0, *[len(png)] * 3])}


def meta(**changes: Any) -> dict[str, Any]:
    """What the JSON of the honest record says."""
    return {
        "step": DAMAGED,
        "env": "Seek-v0",
        "scene_names": ["scene 0", "episode"],
        "scalars": {"attention/entropy": 0.5},
        "verdicts": ["map is used"],
        "labels": ["ego", *(f"items {i}" for i in range(5))],
        "lead": 1,
        "reader": 0,
        "sizes": [5],
        "feature_names": {"items": ["dx", "dy"]},
        "strengths": [[0, 1, "ego.cue = items.colour", 2.5]],
        "n_layers": 2,
    } | changes


def text(content: Any) -> np.ndarray:
    """A text array, of JSON where it is no text yet."""
    return np.array(content if isinstance(content, str) else json.dumps(content))


def save(path: Path, arrays: Mapping[str, Any], compression: int = zipfile.ZIP_STORED) -> None:
    """Write an ``.npz`` file; an array may also be the bytes of its member."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", array if isinstance(array, bytes) else npy(array))


def npy(array: np.ndarray, **header: str) -> bytes:
    """An ``.npy`` file, with parts of its header exchanged: ``shape="(10,)"``."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), version=(1, 0), allow_pickle=True)
    whole = buffer.getvalue()
    start = 10 + struct.unpack("<H", whole[8:10])[0]
    dtype = repr(np.lib.format.dtype_to_descr(array.dtype))
    said = {"descr": dtype, "fortran_order": "False", "shape": str(array.shape)}
    return raw_npy("{" + "".join(f"'{key}': {value}, " for key, value in (said | header).items()) + "}", whole[start:])


def raw_npy(header: str, data: bytes = bytes(24), version: bytes = b"\x01\x00") -> bytes:
    """An ``.npy`` file with any header."""
    line = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(line)) + line + data


def arrays_with(**changes: Any) -> Damage:
    """The honest record with other arrays; None takes one away."""

    def damage(path: Path) -> None:
        save(path, {name: array for name, array in (honest() | changes).items() if array is not None})

    return damage


def meta_with(**changes: Any) -> Damage:
    """The honest record with other entries of ``meta``."""
    return arrays_with(meta=text(meta(**changes)))


def bytes_with(change: Callable[[bytes], bytes]) -> Damage:
    """The honest record's file, its bytes changed."""

    def damage(path: Path) -> None:
        save(path, honest())
        path.write_bytes(change(path.read_bytes()))

    return damage


def listed_as(position: int, form: str, value: int, name: str = "value") -> Damage:
    """The honest record, one entry of its list of members overwritten at a place of that entry."""

    def change(whole: bytes) -> bytes:
        spoiled = bytearray(whole)
        entry = whole.rindex(f"{name}.npy".encode()) - 46
        struct.pack_into(form, spoiled, entry + position, value)
        return bytes(spoiled)

    return bytes_with(change)


def bomb(path: Path) -> None:
    """Deflated zeros: 300 kB that become 300 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in honest().items():
            archive.writestr(f"{name}.npy", npy(array))
        with archive.open(f"{OBS_PREFIX}large.npy", "w") as member:
            member.write(npy(np.zeros(0, np.uint8), shape=f"(3, {100 << 20})"))
            for _ in range(300):
                member.write(bytes(1 << 20))


def overlapping(path: Path) -> None:
    """Four thousand names for one array of a megabyte."""
    save(path, honest() | {f"{OBS_PREFIX}large": np.zeros((3, 350_000), np.uint8)})
    whole = path.read_bytes()
    start = whole.rindex(f"{OBS_PREFIX}large.npy".encode()) - 46
    end = whole.rindex(b"PK\x05\x06")
    copies = b"".join(whole[start:end].replace(b"large", b"%05d" % i) for i in range(4000))
    tail = bytearray(whole[end:])
    members = struct.unpack_from("<H", tail, 10)[0] + 4000
    struct.pack_into("<HHL", tail, 8, members, members, struct.unpack_from("<L", tail, 12)[0] + len(copies))
    path.write_bytes(whole[:end] + copies + bytes(tail))


def crowded(path: Path) -> None:
    """Tens of thousands of arrays."""
    save(path, {f"a{i}": b"" for i in range(60_000)})


def zip64(whole: bytes) -> bytes:
    """Put a ZIP64 locator before the end."""
    end = whole.rindex(b"PK\x05\x06")
    return whole[:end] + b"PK\x06\x07" + bytes(16) + whole[end:]


def sparse(path: Path) -> None:
    """Twenty gigabytes that no disk holds."""
    save(path, honest())
    os.truncate(path, 20 << 30)


def twice(path: Path) -> None:
    """Two members of one name."""
    save(path, honest() | {"valuf": npy(np.zeros(3))})
    path.write_bytes(path.read_bytes().replace(b"valuf.npy", b"value.npy"))


def foreign_member(name: str) -> Damage:
    """The honest record and a member of another name."""

    def damage(path: Path) -> None:
        save(path, honest())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"x")

    return damage


def png(width: int, height: int) -> np.ndarray:
    """The start of a PNG file that declares a size."""
    return np.frombuffer(b"\x89PNG\r\n\x1a\n" + struct.pack(">L4sLL", 13, b"IHDR", width, height) + bytes(80), np.uint8)


def pictures(data: np.ndarray) -> Damage:
    """The honest record with another picture."""
    return arrays_with(png=data, png_start=np.array([0, *[len(data)] * 3]))


def link(path: Path) -> None:
    """A link to a healthy record elsewhere."""
    target = path.parents[2] / "elsewhere.npz"
    save(target, honest())
    path.symlink_to(target)


def linked_folder(path: Path) -> None:
    """The folder of records is a link."""
    save(path, honest())
    path.parent.rename(path.parents[2] / "elsewhere")
    path.parent.symlink_to(path.parents[2] / "elsewhere")


def bound_socket(path: Path) -> None:
    """A socket of the record's name; its path may be too long for one, so it is moved there."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


def device(path: Path) -> None:
    """/dev/zero under the record's name."""
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))


def named(name: str) -> Damage:
    """A healthy record under a name that is none of a record."""
    return lambda path: save(path.with_name(name), honest())
