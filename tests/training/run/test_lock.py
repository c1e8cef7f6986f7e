"""Two processes never write into one run."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from attn_rl.training.run import lock
from attn_rl.training.run.lock import LOCK, RunInUse, locked

HOLD = """
import os, signal, sys
from pathlib import Path
from attn_rl.training.run.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path: Path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_and_told_who_has_it(owner: subprocess.Popen, tmp_path: Path):
    words = f"{tmp_path} is in use: process {owner.pid} on .*wait for it or stop it"
    with pytest.raises(RunInUse, match=words), locked(tmp_path):
        pytest.fail("both have it")
    owner.communicate()
    assert not (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_the_lock_of_a_killed_process_keeps_nobody_out(owner: subprocess.Popen, tmp_path: Path):
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path), pytest.raises(RunInUse, match=f"process {os.getpid()} "), locked(tmp_path):
        pytest.fail("both have it")


@pytest.mark.parametrize("content", ["", "[]", "{}", "noise", '{"pid": -1}', '{"pid": "x"}', "x" * 5000])
def test_any_file_may_lie_there(content: str, tmp_path: Path):
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("owner", "counts"),
    [
        ({"pid": 1, "host": lock.platform.node()}, True),
        ({"pid": 2**22 + 1, "host": lock.platform.node()}, False),  # beyond the largest process number
        ({"pid": 2**22 + 1, "host": "another"}, True),
        ({"pid": 2**80, "host": "another"}, False),
        ({}, False),
    ],
)
def test_where_the_file_system_knows_no_locks_the_named_process_counts(
    owner: dict, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def unknown(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", unknown)
    (tmp_path / LOCK).write_text(json.dumps(owner))
    if counts:
        with pytest.raises(RunInUse, match=f"process {owner['pid']} on .*remove "), locked(tmp_path):
            pytest.fail("both have it")
    else:
        with locked(tmp_path):
            pass


def test_a_link_in_its_place_is_not_followed(tmp_path: Path):
    (tmp_path / "outside").write_text("as it was")
    (tmp_path / LOCK).symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path):
        pytest.fail("followed")
    assert (tmp_path / "outside").read_text() == "as it was"
