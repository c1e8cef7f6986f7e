"""Checkpoints under attack by the disk: kills during a save, no space, truncated and flipped files."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from stable_baselines3.common.logger import Logger

from attn_rl import make_agent, make_vec_env
from attn_rl.training.run.checkpoint import (
    FOLDER,
    PARTS,
    Checkpoint,
    DamagedCheckpoint,
    checkpoint_name,
    list_checkpoints,
    newest_checkpoint,
    prune,
    read_checkpoint,
    write_checkpoint,
)
from attn_rl.training.run.save_callback import SaveCallback
from benchmarks.campaign import Outcome
from benchmarks.campaign.runs import Campaign, finish, first_difference, start

CLEAR = ("No space left on device", "checkpoints in it are intact", "make room, then: python train.py --resume")
"""What a message about a full disk must say."""

NO_MOUNT = "not run: mounting a small file system needs root (try: unshare -rm)"

FILES = (*(f"{part}.safetensors" for part in PARTS), "state.json")


def content(step: int) -> Checkpoint:
    """A checkpoint of the usual size, all of it decided by the step."""
    rng = np.random.default_rng(step)
    return Checkpoint(
        {"step": step},
        {f"layer{i}": rng.normal(size=(64, 64)).astype(np.float32) for i in range(4)},
        {f"{i}.exp_avg": rng.normal(size=(64, 64)).astype(np.float32) for i in range(4)},
        {"env.x": rng.normal(size=(128, 16, 8))},
    )


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether all arrays are equal bit for bit."""
    return all(
        getattr(one, part).keys() == getattr(other, part).keys()
        and all(np.array_equal(array, getattr(other, part)[name]) for name, array in getattr(one, part).items())
        for part in PARTS
    )


def write_for_ever(run: Path, beat: int) -> None:
    """Save one checkpoint after the other; tell the other end of the pipe ``beat`` after each."""
    step = 0
    while True:
        step += 1
        write_checkpoint(run / FOLDER / checkpoint_name(step), content(step))
        prune(run, 3)
        os.write(beat, b".")


def killed_while_writing(folder: Path, rng: np.random.Generator, trials: int) -> Outcome:
    """kill -9 at a random moment of a tight loop of saves; the newest checkpoint must load and be the right one."""
    outcome = Outcome()
    for trial in range(trials):
        run = folder / f"writer{trial}"
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            write_for_ever(run, theirs)
        os.close(theirs)
        os.read(ours, 1)  # the first is complete
        time.sleep(rng.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done = 1 + len(os.read(ours, 1 << 16) if select_ready(ours) else b"")
        os.close(ours)
        outcome.add(newest_is_right(run, done))
        shutil.rmtree(run)
    return outcome


def select_ready(descriptor: int) -> bool:
    """Whether a pipe has something to read."""
    return bool(select.select([descriptor], [], [], 0)[0])


def newest_is_right(run: Path, at_least: int) -> str | None:
    """Whether the newest checkpoint is whole, with nothing skipped, and not older than what was reported done."""
    try:
        path, found, skipped = newest_checkpoint(run)
    except DamagedCheckpoint as error:
        return str(error)
    step = int(path.name.removeprefix("step-"))
    if skipped or step < at_least or not same(found, content(step)):
        return f"{path}: skipped {skipped}, at least {at_least} expected"
    return None


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A file system of ``size`` bytes; None where mounting is not allowed."""
    disk = folder / "small"
    disk.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)], check=False).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def disk_full(folder: Path, rng: np.random.Generator, trials: int) -> Outcome:
    """A save on a full file system: the error says so and what to do; the previous checkpoint is intact."""
    outcome = Outcome()
    with small_disk(folder, 1 << 22) as disk:
        if disk is None:
            return Outcome(remarks=[NO_MOUNT])
        saving = agent_that_saves(disk)
        size = sum(file.stat().st_size for file in saving.save().iterdir())
        for trial in range(trials):
            outcome.add(save_when_full(saving, disk, int(rng.uniform(0, size)), trial))
    return outcome


def run_on_full_disk(campaign: Campaign, trials: int, argv: tuple[str, ...]) -> Outcome:
    """A whole run that meets the end of the disk, wherever it writes; given room and resumed, it is bit-equal."""
    outcome = Outcome()
    whole, _ = campaign.whole(*argv)
    size = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    for trial in range(trials):
        with small_disk(campaign.folder, int(campaign.rng.uniform(0.3, 0.9) * size)) as disk:
            if disk is None:
                return Outcome(remarks=[NO_MOUNT])
            process = start("--runs-dir", str(disk), "--run-name", "full", *argv)
            _, said = process.communicate()
            if process.returncode != 1 or not all(words in said for words in CLEAR):
                outcome.add(f"trial {trial}: exit code {process.returncode}, {said[-300:]}")
                continue
            subprocess.run(["mount", "-o", f"remount,size={4 * size}", str(disk)], check=True)
            finish(start("--resume", str(disk / "full")))
            outcome.add(first_difference(disk / "full", whole))
    return outcome


def agent_that_saves(run: Path) -> SaveCallback:
    """A fresh agent's checkpoint callback, ready to save."""
    agent = make_agent(make_vec_env("AttnRL/Seek-v0", 8, seed=0), seed=0, n_steps=8, batch_size=64)
    agent.set_logger(Logger(None, []))
    agent.learn(64)
    saving = SaveCallback(run, {})
    saving.init_callback(agent)
    saving.on_training_start({}, {})
    return saving


def save_when_full(saving: SaveCallback, small: Path, left: int, trial: int) -> str | None:
    """Fill the file system but for ``left`` bytes and save."""
    before = [(path, read_checkpoint(path)) for path in list_checkpoints(small)]
    ballast = small / "ballast"
    free = shutil.disk_usage(small).free
    ballast.write_bytes(bytes(max(0, free - left)))
    saving.num_timesteps += 64
    try:
        saving.save()
        return f"trial {trial}: the save succeeded with {left} bytes left"
    except ValueError as error:
        message = str(error)
    finally:
        ballast.unlink()
    if not all(words in message for words in CLEAR):
        return f"trial {trial}: unclear message {message}"
    after = list_checkpoints(small)
    if after != [path for path, _ in before] or not all(same(read_checkpoint(path), old) for path, old in before):
        return f"trial {trial}: the previous checkpoint is not intact"
    return None


def damaged(folder: Path, rng: np.random.Generator, trials: int, *, truncate: bool) -> Outcome:
    """Truncate a random file of the newest checkpoint at a random byte, or flip a random bit of it."""
    run = folder / ("truncated" if truncate else "flipped")
    for step in (1, 2, 3):
        write_checkpoint(run / FOLDER / checkpoint_name(step), content(step))
    newest = list_checkpoints(run)[0]
    outcome = Outcome()
    for trial in range(trials):
        file = newest / str(rng.choice(FILES))
        intact = file.read_bytes()
        position = int(rng.integers(len(intact)))
        spoiled = bytearray(intact[:position] if truncate else intact)
        if not truncate:
            spoiled[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(spoiled)
        path, found, skipped = newest_checkpoint(run)
        right = path.name == checkpoint_name(2) and len(skipped) == 1 and same(found, content(2))
        outcome.add(None if right else f"trial {trial}: {file.name} at byte {position} went unnoticed")
        file.write_bytes(intact)
    return outcome
