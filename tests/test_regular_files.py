"""Nothing but regular files is read, and sizes are looked at first."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from attn_rl.regular_files import IrregularFile, read_regular, refuse_irregular


def bind(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the names of sockets are short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


IRREGULAR: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("/etc/hostname"),
    "a link, ": lambda path: path.symlink_to("nowhere"),
    "a FIFO": os.mkfifo,
    "a socket": bind,
}


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("name", ["file", "a/b/file"])
def test_whatever_is_no_regular_file_is_refused_before_anything_is_opened(kind: str, name: str, tmp_path: Path):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "other").write_text("regular")
    refuse_irregular(tmp_path)
    IRREGULAR[kind](path)
    words = f"{path} is {kind.rstrip(', ')}; expected a regular file"
    with pytest.raises(IrregularFile, match=words):
        refuse_irregular(tmp_path)
    with pytest.raises(IrregularFile, match=words):
        read_regular(path, 100)


def test_a_linked_folder_is_not_entered(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(IrregularFile, match="checkpoints is a link"):
        refuse_irregular(tmp_path / "run")


def test_a_link_to_the_folder_itself_is_the_users_choice(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "run")
    refuse_irregular(tmp_path / "latest")


def test_a_larger_file_is_not_read(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    os.truncate(path, 20 << 30)  # nothing of it is on the disk
    with pytest.raises(IrregularFile, match=r"21,474,836,480 bytes; expected at most 5\. Nothing of it was read"):
        read_regular(path, 5)


def test_a_missing_file_is_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "nothing", 5)
