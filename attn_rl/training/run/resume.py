"""Going on with a run that was killed or interrupted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from attn_rl.adapters import plain_id
from attn_rl.regular_files import read_regular, refuse_irregular
from attn_rl.training.run.agent_state import needed_bytes, restore
from attn_rl.training.run.checkpoint import (
    STATE,
    Checkpoint,
    list_checkpoints,
    newest_checkpoint,
    parse_json,
    read_state,
)
from attn_rl.training.run.json_form import WrongForm
from attn_rl.training.run.state_form import refuse_wrong_config, refuse_wrong_state, settings_of
from attn_rl.training.run.written_files import lost_files, lost_results, rewind_events
from attn_rl.type_names import with_article

ARGS = "args.json"
MAX_ARGS_BYTES = 1 << 20


def go_on(agent: OnPolicyAlgorithm, folder: Path) -> Checkpoint:
    """Put an agent where the newest valid checkpoint of its run stands, then the run folder back to that moment.

    Nothing in the folder is changed before agent and environments fit. Damaged newer checkpoints are reported and set
    aside (``*.damaged``), later TensorBoard events cut; files that the checkpoint knows and that are gone, cut or
    changed are reported.

    Raises:
        ValueError: the run has no valid checkpoint, or one of another agent.
    """
    refuse_irregular(folder)
    needed = needed_bytes(agent)

    def admit(state: dict[str, object]) -> dict[str, int]:
        refuse_wrong_state(state)
        return needed

    path, checkpoint, skipped = newest_checkpoint(folder, admit)
    for loss in restore(agent, checkpoint):
        print(loss)
    state = checkpoint.state  # checkpoints of before tell neither records nor digests
    lost = lost_files(folder, state["events"] | state.get("records", {}), state.get("digests", {}))
    for reason in [f"skipped a damaged checkpoint: {each}" for each in skipped] + lost + lost_results(folder, state):
        print(reason, file=sys.stderr)
    for newer in list_checkpoints(folder):
        if newer.name > path.name:
            newer.rename(newer.with_name(f"{newer.name}.damaged"))
    rewind_events(folder, checkpoint.state["events"])
    return checkpoint


def read_args(folder: Path) -> dict[str, Any]:
    """The arguments that a run was started with, as data: see :mod:`attn_rl.training.run.stored_environment`.

    Raises:
        ValueError: there is no run, something in its folder is no regular file, or the arguments are none.
    """
    path = folder / ARGS
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder: it has no {ARGS}; give runs/<name>")
    refuse_irregular(folder)
    try:
        args = parse_json(read_regular(path, MAX_ARGS_BYTES))
        if not isinstance(args, dict):
            raise WrongForm(f"it is {with_article(type(args))}; expected an object")
        refuse_wrong_config(args)
        return args | {"env": plain_id(args["env"]), "settings": settings_of(args)}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not hold the arguments of a run: {error}") from error


def read_agent_args(path: Path) -> dict[str, Any]:
    """What :func:`read_args` reads of a run folder, also of one of its checkpoints.

    Raises:
        ValueError: as there, or the checkpoint is damaged.
    """
    if not (path / STATE).is_file():
        return read_args(path)
    refuse_irregular(path)
    state = read_state(path)
    refuse_wrong_state(state)
    config: dict[str, Any] = state["config"]
    return config | {"env": plain_id(config["env"]), "settings": settings_of(config)}


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
