"""Checkpoints of a running training, at the start of rollouts: the moment from which a run resumes bit for bit."""

from __future__ import annotations

import errno
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from attn_rl.training.run.agent_state import capture
from attn_rl.training.run.checkpoint import (
    FOLDER,
    Checkpoint,
    DamagedCheckpoint,
    checkpoint_name,
    list_checkpoints,
    prune,
    write_checkpoint,
)
from attn_rl.training.run.interrupts import Interrupted, InterruptRequest
from attn_rl.training.run.random_state import set_generators
from attn_rl.training.run.stored_environment import TRUSTED_MODULES
from attn_rl.training.run.written_files import digests, event_sizes, record_sizes

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What the operating system says when a disk takes no more: full, quota, too large, read-only, broken."""


class DiskTrouble(ValueError):
    """The disk took no more."""


@contextmanager
def explaining_disk_trouble(folder: Path, env_id: str) -> Iterator[None]:
    """Say what a disk that takes no more means for the run in ``folder``, and how to go on.

    Args:
        folder: of the run.
        env_id: its environment.

    Raises:
        DiskTrouble: in place of such an OSError; others pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        kept = (
            f"The checkpoints in it are intact; make room, then: {resume_command(folder, env_id)}"
            if list_checkpoints(folder)
            else "Nothing was saved yet; make room, then start again"
        )
        raise DiskTrouble(f"cannot write in {folder}: {error.strerror}. {kept}") from error


def resume_command(folder: Path, env_id: str) -> str:
    """What to type to go on with a run.

    Args:
        folder: of the run.
        env_id: its environment; a module that it names is imported only where the user repeats it.
    """
    typed = Path(sys.argv[0])
    as_module = typed.parts[-2:] == ("attn_rl", "__main__.py")
    command = (
        "python train.py" if typed.name == "train.py" else f"{'python -m attn_rl' if as_module else 'attn-rl'} train"
    )
    module = env_id.rpartition(":")[0]
    repeated = f" --env {env_id}" if module and module not in TRUSTED_MODULES else ""
    return f"{command} --resume {shlex.quote(str(folder))}{repeated}"


class SaveCallback(BaseCallback):
    """Save a checkpoint at the start of every ``every``-th rollout, at the end, and when asked to stop.

    Must come last in the list of callbacks: what the others do at the start of a rollout then lies before the
    checkpoint, in the first run as in a resumed one.

    Args:
        folder: the run folder.
        config: what rebuilds agent and environments, JSON-able; stored in every checkpoint.
        every: rollouts between checkpoints.
        keep: how many to keep, the newest.
        others: callbacks whose ``get_state()`` (JSON-able) is saved and ``set_state()`` called when resumed.
        resumed: the checkpoint that this run goes on from, already restored but for generators and callbacks.
        request: to stop after the running rollout.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        every: int = 10,
        keep: int = 3,
        others: Sequence[BaseCallback] = (),
        resumed: Checkpoint | None = None,
        request: InterruptRequest | None = None,
    ) -> None:
        super().__init__()
        if every < 1 or keep < 1:
            raise ValueError(f"checkpoint every={every} rollouts, keep={keep}; expected 1 or more of both")
        self.folder, self.config, self.every, self.keep = folder, dict(config), every, keep
        self.others = [other for other in others if hasattr(other, "get_state")]
        self.request = request or InterruptRequest()
        self._resumed = resumed
        self._rollouts = resumed.state["rollouts"] if resumed else 0
        self._seconds = resumed.state["seconds"] if resumed else 0.0

    @property
    def seconds(self) -> float:
        """Training time so far, in seconds, over all lives of the run."""
        return self._seconds + time.perf_counter() - self._start

    def _init_callback(self) -> None:  # before any callback's _on_training_start
        if self._resumed is not None:
            give_back(self.others, self._resumed)

    def _on_training_start(self) -> None:
        self._start = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self._resumed is not None:
            set_generators(self._resumed.state["generators"])
            self._resumed = None
        elif self.request.signum is not None or self._rollouts % self.every == 0:
            self.save()
        if self.request.signum is not None:
            self._leave(self.request.signum)
        self._rollouts += 1

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.save()
        if self.request.signum is not None:
            self._leave(self.request.signum)

    def save(self) -> Path:
        """Write a checkpoint now; return its directory.

        Raises:
            DiskTrouble: the disk is full, say; the checkpoints before this one are intact.
        """
        path = self.folder / FOLDER / checkpoint_name(self.num_timesteps)
        checkpoint = capture(self.model)  # type: ignore[arg-type]
        with explaining_disk_trouble(self.folder, self.config.get("env", "")):
            events, records = event_sizes(self.model, self.folder), record_sizes(self.folder)
            checkpoint.state |= {
                "config": self.config,
                "rollouts": self._rollouts,
                "seconds": self.seconds,
                "callbacks": {type(other).__name__: other.get_state() for other in self.others},
                "events": events,
                "records": records,
                "digests": digests(self.folder, events | records),
            }
            write_checkpoint(path, checkpoint)
        prune(self.folder, self.keep)
        return path

    def _leave(self, signum: int) -> None:
        print(f"Saved. Go on with: {resume_command(self.folder, self.config.get('env', ''))}", file=sys.stderr)
        raise Interrupted(signum)


def give_back(callbacks: Sequence[Any], checkpoint: Checkpoint) -> None:
    """Let callbacks have their states out of a checkpoint, where it has one.

    Raises:
        DamagedCheckpoint: one that the callback could not have had.
    """
    states = checkpoint.state["callbacks"]
    for callback in callbacks:
        name = type(callback).__name__
        try:
            if name in states:
                callback.set_state(states[name])
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise DamagedCheckpoint(f"{name} does not take its state in the checkpoint: {error!r}") from error
