"""Going on with a run that was killed or interrupted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attn_rl.adapters.families import FAMILIES
from attn_rl.training.presets import Settings, from_json
from attn_rl.training.run.checkpoint import Checkpoint, DamagedCheckpoint, list_checkpoints, newest_checkpoint
from attn_rl.training.run.save_callback import rewind_events

TRUSTED_MODULES = ("envs", *FAMILIES)
"""Packages that an environment id in a file may import; others must have been imported by the user."""


def begin_again(folder: Path) -> Checkpoint:
    """Read the newest valid checkpoint of a run and put the run folder back to that moment.

    Damaged newer checkpoints are reported and set aside (``*.damaged``), later TensorBoard events cut.

    Raises:
        ValueError: the run has no valid checkpoint.
    """
    path, checkpoint, skipped = newest_checkpoint(folder)
    for reason in skipped:
        print(f"skipped a damaged checkpoint: {reason}", file=sys.stderr)
    for newer in list_checkpoints(folder):
        if newer.name > path.name:
            newer.rename(newer.with_name(f"{newer.name}.damaged"))
    rewind_events(folder, checkpoint.state["events"])
    return checkpoint


def read_args(folder: Path) -> dict[str, Any]:
    """The arguments that a run was started with.

    Raises:
        ValueError: there is no run.
    """
    path = folder / "args.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder: it has no args.json; give runs/<name>")
    try:
        args: dict[str, Any] = json.loads(path.read_bytes())
        return args | {"settings": settings_of(args)}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} does not hold the arguments of a run: {error}") from error


CONFIG = {"env": str, "env_kwargs": dict, "n_envs": int, "policy": str, "seed": int, "settings": dict}
"""What must be known to rebuild agent and environments, and its type in JSON."""


def checked_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The arguments of the run that a checkpoint is of.

    Raises:
        DamagedCheckpoint: one is missing or of another type.
    """
    config: dict[str, Any] = checkpoint.state.get("config") or {}
    for name, kind in CONFIG.items():
        if not isinstance(config, dict) or not isinstance(config.get(name), kind):
            raise DamagedCheckpoint(f"the checkpoint's config has no {name} of type {kind.__name__}: {config!r}")
    return config


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Settings from JSON, where tuples have become lists.

    Raises:
        ValueError: a name that does not exist.
    """
    return from_json(config["settings"])


def refuse_changes(stored: Mapping[str, Any], wanted: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Raise where a resumed run was asked to become another one.

    Raises:
        ValueError: naming the first argument that differs and must not.
    """
    stored, wanted = ({**args, **args.get("settings", {})} for args in (stored, wanted))
    for name, value in stored.items():
        if name not in (*allowed, "settings") and wanted.get(name) != value:
            raise ValueError(
                f"--resume goes on with {name}={value!r}, got {wanted.get(name)!r}; leave it out, or start a new run "
                "(--load takes over the weights)"
            )


def refuse_foreign_module(env_id: str) -> None:
    """Raise where an environment id out of a file would import a module that the user did not.

    Raises:
        ValueError: with what to do.
    """
    module = env_id.rpartition(":")[0]
    if module and module.split(".")[0] not in TRUSTED_MODULES and module not in sys.modules:
        raise ValueError(
            f"the file names the environment {env_id!r}: making it imports {module!r}, which runs that module's code. "
            f"If you trust it, import {module} first or pass env=; on the command line, repeat --env {env_id}"
        )
