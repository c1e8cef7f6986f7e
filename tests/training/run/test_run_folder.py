"""What may lie in a run folder, who may write there, and how it begins."""

import errno
import json
import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import gymnasium as gym
import pytest

from attn_rl import AttentionCallback, load, make_vec_env
from attn_rl.training import train
from attn_rl.training.run import checkpoint
from attn_rl.training.run.checkpoint import list_checkpoints
from attn_rl.training.run.folder import create_run_folder
from attn_rl.training.run.lock import RunInUse, locked
from attn_rl.training.run.save_callback import DiskTrouble
from tests.toys import Toy
from tests.training.run.test_resume import Unwatched, assert_same_run, final, killed, resume, run

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


@pytest.fixture(scope="module", autouse=True)
def _unwatched():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "AttentionCallback", Unwatched)
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("runs"), "whole")


def copied(run_folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(run_folder, to / "copy"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["args.json", "probe.npz", "model.zip", "events", "checkpoints", "attention/1.npz"])
def test_a_link_in_the_run_folder_is_refused_and_what_it_leads_to_stays(name: str, uninterrupted: Path, tmp_path: Path):
    folder, outside = copied(uninterrupted, tmp_path), tmp_path / "outside"
    path = next(folder.glob("events.*")) if name == "events" else folder / name
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(outside)
    else:
        outside.write_bytes(b"as it was")
    path.symlink_to(outside)
    before = content(tmp_path)
    for read in (resume, load, partial(resume, folder, "--total-timesteps", "1000")):
        with pytest.raises(ValueError, match=f"{path} is a link; expected a regular file"):
            read(folder) if read in (resume, load) else read()
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["events.out.tfevents.1.x", "attention/1.npz", "checkpoints/step-000000000001", ".lock"]
)
def test_a_fifo_in_the_run_folder_does_not_hang(name: str, uninterrupted: Path, tmp_path: Path):
    folder = copied(uninterrupted, tmp_path)
    (folder / name).parent.mkdir(exist_ok=True)
    os.mkfifo(folder / name)
    for read in (resume, load):
        with pytest.raises(ValueError, match=f"{name} is a FIFO"):
            read(folder)


def test_a_refused_resume_changes_nothing(uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied(uninterrupted, tmp_path)
    args = json.loads((folder / "args.json").read_text())
    args["settings"]["d_model"] = 64
    (folder / "args.json").write_text(json.dumps(args))
    (list_checkpoints(folder)[0] / "model.safetensors").write_bytes(b"")
    before = content(folder)
    with pytest.raises(ValueError, match="the weights do not fit"):
        resume(folder)
    assert content(folder) == before


def test_a_second_process_in_the_run_is_refused(uninterrupted: Path, tmp_path: Path):
    folder = copied(uninterrupted, tmp_path)
    with locked(folder):
        before = content(folder)
        with pytest.raises(RunInUse, match=f"{folder} is in use: process {os.getpid()}"):
            resume(folder, "--total-timesteps", "1000")
        assert content(folder) == before
    resume(folder, "--total-timesteps", "500")


def test_lost_and_cut_files_are_told_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(tmp_path, "killed")
    events = next((tmp_path / "killed").glob("events.*"))
    size = events.stat().st_size
    resume(tmp_path / "killed")
    assert "lost" not in capsys.readouterr().err
    os.truncate(events, 100)
    resume(tmp_path / "killed")
    assert f"{events} was cut: 100 of {size:,} bytes are left, later points are lost" in capsys.readouterr().err
    events.unlink()
    resume(tmp_path / "killed")
    assert f"{events} is gone: the {size:,} bytes that this run wrote there are lost" in capsys.readouterr().err


def test_lost_records_of_attention_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(train, "AttentionCallback", partial(AttentionCallback, n_scenes=2, n_pictures=1))
    folder = run(tmp_path, "watched", "--total-timesteps", "231", "--save-every", "1", "--record-every", "1")
    known = final(folder).state["records"]
    first = min(known)
    assert first.startswith("attention/")
    assert known[first] == (folder / first).stat().st_size
    probe, copy = folder / "probe.npz", (folder / "probe.npz").read_bytes()
    for left, said in ((b"", "was cut"), (b"x" * len(copy), "was changed"), (None, "is gone")):
        probe.unlink() if left is None else probe.write_bytes(left)
        resume(folder)
        assert f"{probe} {said}" in capsys.readouterr().err
    probe.write_bytes(copy)
    resume(folder)
    assert capsys.readouterr().err == ""
    (folder / first).unlink()
    resume(folder)
    assert f"{folder / first} is gone: the {known[first]:,} bytes" in capsys.readouterr().err
    shutil.rmtree(folder / "attention")
    resume(folder, "--total-timesteps", "300")
    assert capsys.readouterr().err.count("is gone") == len(known)


@pytest.mark.parametrize("where", ["beginning", "end", "everywhere"])
def test_a_changed_event_file_of_the_same_size_is_told(where: str, uninterrupted: Path, tmp_path: Path, capsys):
    folder = copied(uninterrupted, tmp_path)
    events = next(folder.glob("events.*"))
    data = events.read_bytes()
    changed = {"beginning": b"xx" + data[2:], "end": data[:-2] + b"xx", "everywhere": b"x" * len(data)}
    events.write_bytes(changed[where])
    resume(folder)
    assert f"{events} was changed: it is not what this run wrote there; the run goes on" in capsys.readouterr().err


def test_what_was_appended_is_cut_and_nothing_lost(uninterrupted: Path, tmp_path: Path, capsys):
    folder = copied(uninterrupted, tmp_path)
    events = next(folder.glob("events.*"))
    data = events.read_bytes()
    events.write_bytes(data + b"x" * 5000)
    resume(folder)
    assert events.read_bytes() == data
    assert "events" not in capsys.readouterr().err


@pytest.mark.parametrize(("left", "said"), [(None, "is missing"), (b"", "is no zip file"), (b"PK", "is no zip file")])
def test_a_model_that_is_missing_is_told_and_written_anew(left, said: str, uninterrupted: Path, tmp_path: Path, capsys):
    folder = copied(uninterrupted, tmp_path)
    model = folder / "model.zip"
    model.unlink()
    if left is not None:
        model.write_bytes(left)
    resume(folder)
    assert f"{model} {said}: it is written anew when the run ends" in capsys.readouterr().err
    resume(folder)
    assert "model.zip" not in capsys.readouterr().err


def test_a_checkpoint_of_before_knows_no_digests(uninterrupted: Path, tmp_path: Path, capsys):
    folder = copied(uninterrupted, tmp_path)
    known = final(folder)
    del known.state["sha256"]
    assert known.state.pop("digests").keys() == known.state["events"].keys()
    checkpoint.write_checkpoint(list_checkpoints(folder)[0], known)
    resume(folder)
    said = capsys.readouterr().err
    assert "was changed" not in said
    assert "skipped" not in said


def test_a_run_begun_with_weights_of_another_goes_on_without_it(uninterrupted: Path, tmp_path: Path):
    source = copied(uninterrupted, tmp_path)
    killed(3, lambda: run(tmp_path, "killed", "--load", str(source)))
    run(tmp_path, "whole", "--load", str(source))
    shutil.rmtree(source)
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


class Labelled(Toy):
    """Takes text that looks like a number."""

    seen: ClassVar[list] = []

    def __init__(self, label: Literal["8", "odd"] = "odd", sizes: Any = (), render_mode=None):
        super().__init__()
        Labelled.seen.append((label, sizes))


gym.register("TestLabelled-v0", Labelled)


@pytest.mark.parametrize(("text", "value"), [("'8'", "8"), ("odd", "odd")])
def test_text_stays_text_and_a_list_a_list(text: str, value: str, tmp_path: Path):
    Labelled.seen.clear()
    own = ["--env", "TestLabelled-v0", "--env-kwargs", "label", text, "sizes", "(3, [5, None], True)"]
    folder = run(tmp_path, "labelled", *own)
    resume(folder, "--total-timesteps", "600")
    resume(folder, "--total-timesteps", "700", "--env-kwargs", "label", repr(value))
    assert len(Labelled.seen) > 3
    assert [seen for seen in Labelled.seen if seen != (value, [3, [5, None], True])] == []
    with pytest.raises(ValueError, match="goes on with env_kwargs="):
        resume(folder, "--env-kwargs", "label", "8.5")


def test_arguments_that_are_more_than_data_go_on_where_they_are_repeated(tmp_path: Path):
    own = ["--env", "TestLabelled-v0", "--env-kwargs", "sizes", "some.module"]
    folder = run(tmp_path, "labelled", *own)
    with pytest.raises(ValueError, match=r"argument sizes='some.module': .*repeat it: --env-kwargs sizes"):
        resume(folder)
    with pytest.raises(ValueError, match="pass env=make_vec_env"):
        load(folder)
    resume(folder, "--total-timesteps", "600", "--env-kwargs", "sizes", "some.module")
    load(folder, env=make_vec_env("TestLabelled-v0", 1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_envs": "8"}, "n_envs.* is '8'; expected int"),
        ({"n_envs": 10**9}, "n_envs=1000000000, expected a whole number from 1 to 65,536"),
        ({"n_envs": 10**400}, "n_envs=1000.*, expected a whole number from 1 to 65,536"),
        ({"seed": 10**400}, "seed=1000.*, expected a whole number from 0 to"),
        ({"settings": {"net_arch": [10**400]}}, r"net_arch=\(1000.*, expected at most 16 widths"),
        ({"save_every": "2"}, "save_every='2', expected a whole number of 1 or more"),
        ({"threads": 10**9}, "threads=1000000000, expected a whole number from 1 to 1,024"),
        ({"device": 5}, "args.device is 5; expected str"),
        ({"policy": "os.system"}, "policy='os.system' is unknown; .*or choose one of 'attention', 'deepsets', 'flat'"),
        ({"settings": {"n_layers": 10**6}}, "n_layers=1000000, expected a whole number from 0 to 64"),
        ({"settings": {"n_epochs": 10**9}}, "n_epochs=1000000000, expected a whole number from 1 to 1,000"),
        ({"settings": {"d_model": "x"}}, "d_model='x', expected a whole number from 1 to 8,192"),
        ({"settings": {"net_arch": [64, "x"]}}, r"net_arch=\(64, 'x'\), expected at most 16 widths"),
        ({"settings": {"d_modell": 3}}, "there is no setting 'd_modell'; did you mean 'd_model'"),
        ({"settings": []}, "settings.* is ..; expected dict"),
        ({"env_kwargs": None}, "env_kwargs.* is None; expected dict"),
        ({"env": 5}, "env.* is 5; expected str"),
    ],
)
def test_impossible_arguments_are_named(changes: dict, words: str, uninterrupted: Path, tmp_path: Path):
    folder = copied(uninterrupted, tmp_path)
    args = json.loads((folder / "args.json").read_text())
    (folder / "args.json").write_text(json.dumps(args | changes))
    with pytest.raises(ValueError, match=words):
        resume(folder)


@pytest.mark.parametrize(
    ("data", "words"), [(b" " * (2 << 20), "2,097,152 bytes"), (b"[" * 9999, "arguments of a run")]
)
def test_arguments_that_fill_the_memory_are_not_read(data: bytes, words: str, uninterrupted: Path, tmp_path: Path):
    folder = copied(uninterrupted, tmp_path)
    (folder / "args.json").write_bytes(data)
    with pytest.raises(ValueError, match=words):
        resume(folder)


# ---- what begins a run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [["--record-every", "0"], ["--keep", "0"], ["--save-every", "0"]])
def test_a_refused_run_leaves_no_folder(more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "AttentionCallback", AttentionCallback)
    with pytest.raises(ValueError, match="expected"):
        run(tmp_path, "refused", *more)
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_before_its_first_checkpoint_leaves_no_folder(tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_env", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, "failed")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_from_the_start_is_not_said_to_hold_checkpoints(tmp_path: Path):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_write_synced", full)
        with pytest.raises(DiskTrouble, match=r"No space left .*Nothing was saved yet; make room, then start again"):
            run(tmp_path, "full")
    assert not list(tmp_path.iterdir())


def test_runs_that_begin_in_the_same_second_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "strftime", lambda *args: "20200101-000000")
    names = [create_run_folder(tmp_path, "AttnRL/Seek-v0", "flat", 3).name for _ in range(3)]
    first = "Seek-v0__flat__3__20200101-000000"
    assert names == [first, f"{first}-2", f"{first}-3"]
    create_run_folder(tmp_path, "x", "flat", 3, "mine")
    with pytest.raises(ValueError, match="mine exists already; choose another --run-name"):
        create_run_folder(tmp_path, "x", "flat", 3, "mine")
