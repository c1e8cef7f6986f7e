"""Files from a stranger: whatever they hold, nothing of it is executed, and each is refused in plain words."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from stable_baselines3.common.logger import Logger

from attn_rl import load, make_agent, make_vec_env
from attn_rl.training import train
from attn_rl.training.run import checkpoint as layout
from attn_rl.training.run.checkpoint import list_checkpoints
from attn_rl.training.run.save_callback import SaveCallback
from benchmarks.campaign import Outcome

MARKER = "ATTN_RL_PAYLOAD_MARKER"
"""Environment variable with the path that every payload would create."""


class Payload:
    """Creates the marker when unpickled."""

    def __reduce__(self) -> tuple[Callable, tuple[str, str]]:
        return exec, (f"open(__import__('os').environ[{MARKER!r}], 'w').close()",)


def honest_run(folder: Path) -> Path:
    """A run folder with one checkpoint, made in the usual way."""
    args = train.parse(["--n-envs", "4", "--n-steps", "8", "--batch-size", "32"])
    config = train.to_json(args)
    env = make_vec_env(config["env"], config["n_envs"], seed=0)
    agent = make_agent(env, seed=0, **vars(args.settings))
    agent.set_logger(Logger(None, []))
    agent.learn(32)
    saving = SaveCallback(folder, config)
    saving.init_callback(agent)
    saving.on_training_start({}, {})
    saving.save()
    agent.save(folder / "model.zip")
    (folder / "args.json").write_text(json.dumps(config))
    return folder


def reseal(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change ``state.json`` and give it the right digests, as a forger would."""
    path = list_checkpoints(run)[0]
    state = json.loads((path / "state.json").read_bytes())
    for name in state["files"]:
        state["files"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    change(state)
    (path / "state.json").write_bytes(layout._sealed({k: v for k, v in state.items() if k != "sha256"}))


def replace_file(name: str, data: bytes) -> Callable[[Path], Path]:
    """Put other bytes into a file of the checkpoint, digests in order."""

    def prepare(run: Path) -> Path:
        file = list_checkpoints(run)[0] / name
        file.write_bytes(data)
        if name != "state.json":
            reseal(run, lambda state: None)
        return run

    return prepare


def change_state(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], Path]:
    """Change ``state.json``, digests in order."""

    def prepare(run: Path) -> Path:
        reseal(run, change)
        return run

    return prepare


def torch_pickle() -> bytes:
    """What ``torch.save`` writes, with a payload inside."""
    buffer = io.BytesIO()
    torch.save({"weight": Payload()}, buffer)
    return buffer.getvalue()


def sb3_zip(run: Path) -> Path:
    """A bare model zip whose pickled part is a payload."""
    data = json.dumps({"policy_class": {":type:": "x", ":serialized:": base64.b64encode(evil()).decode()}})
    with zipfile.ZipFile(run / "model.zip", "w") as archive:
        archive.writestr("data", data)
        archive.writestr("policy.pth", torch_pickle())
    return run / "model.zip"


def evil() -> bytes:
    """A cloudpickle with a payload."""
    return cloudpickle.dumps(Payload())


def only_a_zip(run: Path) -> Path:
    """A run folder with a poisoned model.zip and no checkpoint."""
    sb3_zip(run)
    shutil.rmtree(run / layout.FOLDER)
    return run


def foreign_module(run: Path) -> Path:
    """A run whose environment lives in a module that lies beside it, on the import path."""
    (run / "evil_environments.py").write_text(f"open(__import__('os').environ[{MARKER!r}], 'w').close()\n")
    sys.path.insert(0, str(run))
    return forge_config(run, env="evil_environments:Evil-v0")


def forge_config(run: Path, **changes: Any) -> Path:
    """Change what the run says about itself, in the checkpoint and in args.json."""
    reseal(run, lambda state: state["config"].update(changes))
    args = json.loads((run / "args.json").read_text())
    (run / "args.json").write_text(json.dumps(args | changes))
    return run


def link_outside(run: Path) -> Path:
    """Weights that are a link to a file outside the run."""
    file = list_checkpoints(run)[0] / "model.safetensors"
    file.rename(run.parent / "outside.safetensors")
    file.symlink_to(run.parent / "outside.safetensors")
    return run


def outside_files(state: dict[str, Any]) -> None:
    """A list of files that leaves the checkpoint."""
    state["files"] = {"../../../../outside.safetensors": "0"}


KINDS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "pickle as weights": (replace_file("model.safetensors", pickle.dumps(Payload())), "no safetensors file"),
    "torch.save as optimiser state": (replace_file("optimizer.safetensors", torch_pickle()), "no safetensors file"),
    "pickle as state": (replace_file("state.json", pickle.dumps(Payload())), "is not JSON"),
    "header of 2^60 bytes": (replace_file("model.safetensors", struct.pack("<Q", 1 << 60)), "no safetensors file"),
    "files outside the checkpoint": (change_state(outside_files), "lists the files"),
    "a link outside the run": (link_outside, "is a link"),
    "a class to build": (lambda run: forge_config(run, policy="os.system"), "policy='os.system' is unknown"),
    "an environment's module": (foreign_module, "runs that module's code"),
    "poisoned SB3 zip": (sb3_zip, "executes the code its author put there"),
    "run folder with only a poisoned zip": (only_a_zip, "holds no valid checkpoint"),
}
"""Kind -> (what is done to a run folder; returns what is loaded), (what the refusal says)."""


def malicious(folder: Path) -> Outcome:
    """Load every kind, and resume those that are run folders."""
    outcome = Outcome()
    honest = honest_run(folder / "honest")
    load(honest)  # must work, or the refusals mean nothing
    for number, (kind, (prepare, words)) in enumerate(KINDS.items()):
        run = folder / f"kind{number}"
        shutil.copytree(honest, run)
        path_before = list(sys.path)
        os.environ[MARKER] = str(folder / f"marker{number}")
        try:
            fault = refused(prepare(run), words)
        finally:
            sys.path[:] = path_before
        executed = Path(os.environ.pop(MARKER)).exists()
        outcome.add(f"{kind}: EXECUTED" if executed else fault and f"{kind}: {fault}")
    return outcome


def refused(path: Path, words: str) -> str | None:
    """Load, and resume where it is a run folder; None = both were refused in the right words."""
    attempts = [lambda: load(path)]
    if path.is_dir():
        attempts.append(lambda: train.run(train.parse(["--resume", str(path)])))
    for attempt in attempts:
        try:
            attempt()
            return "loaded"
        except ValueError as error:
            if words not in str(error):
                return f"refused with other words: {error}"
    return None
