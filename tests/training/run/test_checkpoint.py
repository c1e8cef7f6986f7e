"""Checkpoints on disk: whole or not at all, and nothing in them is believed unchecked."""

import errno
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from attn_rl.training.run import checkpoint as module
from attn_rl.training.run.checkpoint import (
    FOLDER,
    Checkpoint,
    DamagedCheckpoint,
    checkpoint_name,
    list_checkpoints,
    newest_checkpoint,
    prune,
    read_checkpoint,
    write_checkpoint,
)
from attn_rl.training.run.state_form import _why_no_figures

FILES = ["environment.safetensors", "model.safetensors", "optimizer.safetensors", "state.json"]


def example(step: int = 5) -> Checkpoint:
    rng = np.random.default_rng(step)
    return Checkpoint(
        {"counters": {"num_timesteps": step}, "big": 2**127 + 1, "nan": float("nan"), "list": [1.5, None, "x"]},
        {"w": rng.normal(size=(3, 5)).astype(np.float32), "count": np.array(7.0), "empty": np.zeros((0, 2))},
        {"0.step": np.array(3.0, np.float32), "0.exp_avg": rng.normal(size=(3, 5))},
        {"env.key": np.array([2**63 + 1], np.uint64), "env.seen": np.array([True, False])},
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / FOLDER / checkpoint_name(5)
    write_checkpoint(path, example())
    return path


def assert_is_example(checkpoint: Checkpoint, step: int = 5) -> None:
    expected = example(step)
    for part in ("model", "optimizer", "environment"):
        got, want = getattr(checkpoint, part), getattr(expected, part)
        assert got.keys() == want.keys()
        for name, array in want.items():
            assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(got[name], array)
    assert checkpoint.state["big"] == 2**127 + 1
    assert checkpoint.state["counters"]["num_timesteps"] == step


def test_what_is_written_is_read_bit_for_bit(saved: Path):
    assert_is_example(read_checkpoint(saved))
    assert sorted(p.name for p in saved.iterdir()) == FILES


def test_arrays_in_another_memory_order_come_back_as_they_were(tmp_path: Path):
    array = np.arange(15.0).reshape(3, 5)
    views = {"transposed": array.T, "fortran": np.asfortranarray(array), "strided": array[::2, ::-1]}
    write_checkpoint(tmp_path / "c", Checkpoint({}, views))
    for name, expected in read_checkpoint(tmp_path / "c").model.items():
        np.testing.assert_array_equal(expected, views[name])


@pytest.mark.parametrize(
    "name", ["state.json", "model.safetensors", "optimizer.safetensors", "environment.safetensors"]
)
def test_every_flipped_bit_and_every_truncation_is_noticed(name: str, saved: Path):
    file = saved / name
    intact = file.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(intact), 40, replace=False):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(DamagedCheckpoint, match=name):
            read_checkpoint(saved)
        file.write_bytes(intact[:position])
        with pytest.raises(DamagedCheckpoint, match=name):
            read_checkpoint(saved)
    file.unlink()
    with pytest.raises(DamagedCheckpoint, match="is missing"):
        read_checkpoint(saved)


def test_the_newest_valid_one_is_read_and_damage_reported(tmp_path: Path):
    for step in (10, 20, 30):
        write_checkpoint(tmp_path / FOLDER / checkpoint_name(step), example(step))
    newest = list_checkpoints(tmp_path)[0]
    (newest / "model.safetensors").write_bytes(b"")
    path, found, skipped = newest_checkpoint(tmp_path)
    assert path.name == checkpoint_name(20)
    assert_is_example(found, 20)
    assert len(skipped) == 1
    assert str(newest) in skipped[0]


def test_no_valid_checkpoint_is_an_error_that_says_why(saved: Path):
    (saved / "state.json").write_bytes(b"{}")
    with pytest.raises(DamagedCheckpoint, match=r"no valid checkpoint(.|\n)*state.json is damaged"):
        newest_checkpoint(saved.parent.parent)
    with pytest.raises(DamagedCheckpoint, match="killed before its first"):
        newest_checkpoint(saved)


def test_only_the_newest_are_kept(tmp_path: Path):
    for step in (1, 2, 3, 5, 7):
        write_checkpoint(tmp_path / FOLDER / checkpoint_name(step), example(step))
    prune(tmp_path, 2)
    assert [path.name for path in list_checkpoints(tmp_path)] == [checkpoint_name(7), checkpoint_name(5)]


class KilledNow(BaseException):
    pass


def kill_at_call(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Let the given call into the file system be the last one; leave everything as it lies, as kill -9 does."""
    calls: list[str] = []

    def watch(owner, name):
        real = getattr(owner, name)

        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) > number:
                raise KilledNow
            return real(*args, **kwargs)

        patch.setattr(owner, name, call)

    for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Path, "open")):
        watch(owner, name)
    patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)  # the dead do not tidy up
    return calls


@pytest.mark.parametrize("replaced", [False, True])
def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_checkpoint(replaced: bool, tmp_path: Path):
    old, new = (20, 20) if replaced else (10, 20)
    for number in range(100):
        folder = tmp_path / str(number)
        write_checkpoint(folder / FOLDER / checkpoint_name(3), example(3))
        write_checkpoint(folder / FOLDER / checkpoint_name(old), example(old))
        with pytest.MonkeyPatch.context() as patch:
            calls = kill_at_call(patch, number)
            try:
                write_checkpoint(folder / FOLDER / checkpoint_name(new), example(new))
                killed = False
            except KilledNow:
                killed = True
        for path in list_checkpoints(folder):
            assert_is_example(read_checkpoint(path), int(path.name.removeprefix("step-")))
        assert len(list_checkpoints(folder)) >= (1 if replaced else 2)
        if not killed:
            break
        write_checkpoint(folder / FOLDER / checkpoint_name(50), example(50))
        assert [p.name for p in (folder / FOLDER).iterdir() if p.name.startswith(".")] == []
    assert len(calls) > 10
    assert not killed


def test_a_full_disk_leaves_the_previous_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(saved, example(7))
    assert_is_example(read_checkpoint(saved))
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_state_that_is_not_finite_is_neither_saved_nor_read(part: str, saved: Path, monkeypatch: pytest.MonkeyPatch):
    bad = example(7)
    getattr(bad, part)["w"] = np.array([1.0, np.inf], np.float32)
    with pytest.raises(DamagedCheckpoint, match=f"the {part} .not saved.: w holds NaN or inf"):
        write_checkpoint(saved, bad)
    assert_is_example(read_checkpoint(saved))
    with monkeypatch.context() as patch:
        patch.setattr(module, "refuse_non_finite", lambda arrays, where: None)
        write_checkpoint(saved, bad)
    with pytest.raises(DamagedCheckpoint, match="w holds NaN or inf"):
        read_checkpoint(saved)


def resealed(path: Path, **changes) -> None:
    """Write ``state.json`` with other content and the right digest, as a forger would."""
    state = json.loads((path / "state.json").read_bytes()) | changes
    (path / "state.json").write_bytes(module._sealed({k: v for k, v in state.items() if k != "sha256"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, "has schema 99; this version reads 1"),
        ({"files": {"../../outside.safetensors": "0"}}, "lists the files"),
        ({"files": ["model.safetensors"]}, "lists the files"),
    ],
)
def test_a_forged_state_is_refused(changes: dict, message: str, saved: Path):
    resealed(saved, **changes)
    with pytest.raises(DamagedCheckpoint, match=message):
        read_checkpoint(saved)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_in_place_of_a_file_is_not_executed(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    digests = json.loads((saved / "state.json").read_bytes())["files"]
    data = pickle.dumps(Payload())
    (saved / "model.safetensors").write_bytes(data)
    resealed(saved, files=digests | {"model.safetensors": module.hashlib.sha256(data).hexdigest()})
    with pytest.raises(DamagedCheckpoint, match="no safetensors file"):
        read_checkpoint(saved)
    (saved / "state.json").write_bytes(data)
    with pytest.raises(DamagedCheckpoint, match="is not JSON"):
        read_checkpoint(saved)
    assert not (tmp_path / "executed").exists()


def test_links_are_not_followed(saved: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    (saved / "model.safetensors").rename(outside)
    (saved / "model.safetensors").symlink_to(outside)
    with pytest.raises(DamagedCheckpoint, match="is a link; expected a regular file"):
        read_checkpoint(saved)


def test_deeply_nested_json_is_damage_not_a_crash(saved: Path):
    (saved / "state.json").write_bytes(b"[" * 200_000)
    with pytest.raises(DamagedCheckpoint, match="is not JSON"):
        read_checkpoint(saved)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"episodes": [{"r": 10**400, "l": 1}]}, "an episode is .*; expected its return r and length l"),
        ({"logger": {"x": (10**400, [])}}, "the figure 'x' is 1000.*; expected a number or text"),
    ],
)
def test_figures_that_no_float_holds_are_impossible(entry: dict, words: str):
    assert re.search(
        words, str(_why_no_figures({"episodes": [], "logger": {}, "optimizer": {"param_groups": []}} | entry))
    )
