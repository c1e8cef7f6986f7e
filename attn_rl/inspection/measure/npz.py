"""Read ``.npz`` files that a stranger may have made: sizes are checked before memory is taken, nothing is unpickled.

``np.load`` trusts what a file says of itself: a compressed member of a megabyte may become gigabytes, a header may
declare any shape, and opening a FIFO waits for ever. NumPy and the standard library only.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

MAX_MEMBERS = 4096
MAX_DIRECTORY = 1 << 20
"""Most bytes of the list of members: ``zipfile`` reads all of it when a file is opened."""

END = struct.Struct("<4s4H2LH")
"""The last bytes of a zip file: signature, two disks, two numbers of members, size and place of the list, comment."""

HEADER = re.compile(
    rb"\{'descr': '([<>|](?:b1|[iu][1248]|f[248]|U\d{1,9}))', "
    rb"'fortran_order': (?:True|False), 'shape': \(((?:\d{1,18}, )*\d{1,18},?|)\), \} *\n"
)
"""The header that NumPy writes, for numbers, booleans and text; it is matched, not evaluated."""

DAMAGE = (OSError, ValueError, EOFError, RuntimeError, OverflowError, struct.error, zlib.error, zipfile.BadZipFile)
"""What ``zipfile`` and NumPy raise over a damaged file."""


@dataclass(frozen=True)
class Member:
    """What the header of an array says, checked against the bytes that are there."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def numbers(self) -> int:
        """How many elements; axes of length 0 count as 1, since lists of empty lists take memory too."""
        return math.prod(max(length, 1) for length in self.shape)


class NpzFile:
    """An open ``.npz`` file whose members have been checked; ``members``: name -> :class:`Member`."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        self.members = {info.filename.removesuffix(".npy"): self._member(info) for info in archive.infolist()}

    def read(self, name: str) -> np.ndarray:
        """One array.

        Raises:
            ValueError: the file has none of that name, or its bytes are damaged.
        """
        if name not in self.members:
            raise ValueError(f"{self.path} holds no array {name!r}, but {', '.join(sorted(self.members)) or 'none'}")
        with _explained(self.path), self._archive.open(f"{name}.npy") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def _member(self, info: zipfile.ZipInfo) -> Member:
        with self._archive.open(info) as stream:
            start = stream.read(10)
            if start[:6] != b"\x93NUMPY" or start[6:8] != b"\x01\x00":
                raise ValueError(f"{info.filename} does not start as NumPy's format 1.0 does")
            (length,) = struct.unpack("<H", start[8:])
            found = HEADER.fullmatch(stream.read(length))
        if found is None:
            raise ValueError(f"the header of {info.filename} describes no array of numbers or text")
        dtype = np.dtype(found[1].decode())
        shape = tuple(int(digits) for digits in re.findall(rb"\d+", found[2]))
        declared = math.prod(shape) * dtype.itemsize
        if len(shape) > 8 or declared != info.file_size - 10 - length:
            raise ValueError(f"{info.filename} declares {shape} of {dtype}, which {info.file_size} bytes do not hold")
        return Member(shape, dtype)


@contextmanager
def open_npz(path: str | Path, max_bytes: int) -> Iterator[NpzFile]:
    """Open a file and check all that it declares, before any array is read.

    Args:
        path: a plain file; links, FIFOs and devices are refused before they are opened.
        max_bytes: largest file, and largest sum of all arrays.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, too large, compressed, encrypted or no such file.
    """
    path = Path(path)
    with _explained(path):
        file = _open_plain(path)
    with file:
        with _explained(path):
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise ValueError(f"it has {size:,} bytes, at most {max_bytes:,} are read")
            _check_directory(file, size)
            archive = zipfile.ZipFile(file)
            _check_members(archive.infolist(), size)
            checked = NpzFile(path, archive)
        yield checked


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        said = (error.strerror if isinstance(error, OSError) else None) or error
        raise ValueError(f"{path} is damaged or no .npz file of ours: {said}") from error


def refuse_special(path: Path, mode: int) -> None:
    """Refuse what is no plain file.

    Args:
        path: for the message.
        mode: its ``st_mode``, from ``lstat``.

    Raises:
        ValueError: a link, folder, FIFO, socket or device.
    """
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path.name} is {kinds.get(stat.S_IFMT(mode), 'a device')}; only plain files are opened")


def _open_plain(path: Path) -> IO[bytes]:
    refuse_special(path, path.lstat().st_mode)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        refuse_special(path, os.fstat(file.fileno()).st_mode)  # it may have been exchanged meanwhile
    except ValueError:
        file.close()
        raise
    return file


def _check_directory(file: IO[bytes], size: int) -> None:
    """Bound the list of members before ``zipfile`` reads it."""
    if size < END.size:
        raise ValueError(f"it has {size} bytes only")
    file.seek(max(0, size - END.size - 20))
    end = file.read()
    signature, *_, members, length, _, comment = END.unpack(end[-END.size :])
    if signature != b"PK\x05\x06" or comment:
        raise ValueError("it does not end as a zip file does; was it cut short?")
    if end.startswith(b"PK\x06\x07"):  # the ZIP64 locator: zipfile would take the numbers from there
        raise ValueError("it says that it has more members or bytes than a small zip file can have")
    if members > MAX_MEMBERS or length > MAX_DIRECTORY:
        raise ValueError(f"it lists {members:,} arrays in {length:,} bytes, at most {MAX_MEMBERS:,} are read")
    file.seek(0)


def _check_members(infos: list[zipfile.ZipInfo], size: int) -> None:
    names = [info.filename for info in infos]
    if len(set(names)) < len(names):
        raise ValueError("two of its arrays have the same name")
    for info in infos:
        if not info.filename.endswith(".npy"):
            raise ValueError(f"it holds {info.filename!r}, which is no array")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"{info.filename} is compressed; arrays are stored as they are (numpy.savez)")
        if info.flag_bits & 1:
            raise ValueError(f"{info.filename} is encrypted")
    declared = sum(info.file_size for info in infos)
    if declared > size:
        raise ValueError(f"its arrays declare {declared:,} bytes, the file has {size:,}")
