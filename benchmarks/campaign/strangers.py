"""Run folders from a stranger: whatever they say, nothing is executed and nothing outside them is touched."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from attn_rl import AttentionCallback, cli, load
from attn_rl.training import train
from attn_rl.training.run.checkpoint import FOLDER
from benchmarks.campaign import Outcome
from benchmarks.campaign.payloads import MARKER, change_state, forge_config, sb3_zip

MODULE = "a_strangers_module"
CLASS = f"{MODULE}.Vehicle"
SOURCE = f"open(__import__('os').environ[{MARKER!r}], 'w').close()\n\n\nclass Vehicle:\n    pass\n"
OUTSIDE = b"must stay as it is"
SMALL = (
    *("--n-envs", "3", "--n-steps", "8", "--batch-size", "24", "--n-epochs", "1", "--total-timesteps", "48"),
    *("--eval-episodes", "0", "--save-every", "1", "--keep", "1"),
)
"""Two rollouts."""

HIGHWAY, MINIGRID = "highway_env:highway-fast-v0", "minigrid:MiniGrid-Fetch-5x5-N2-v0"
Prepare = Callable[[Path], object]


def config(**changes: Any) -> Prepare:
    """Other arguments of the run, in the checkpoints and in ``args.json``."""
    return lambda run: forge_config(run, **changes)


def highway(**config: Any) -> Prepare:
    """HighwayEnv with a configuration, whatever the run was trained in."""
    return lambda run: forge_config(run, env=HIGHWAY, env_kwargs={"config": config})


def seek(**env_kwargs: Any) -> Prepare:
    """Other arguments of the run's own environment."""
    return lambda run: forge_config(run, env_kwargs=env_kwargs)


def settings(**changes: Any) -> Prepare:
    """Other settings of the agent."""

    def prepare(run: Path) -> None:
        own = json.loads((run / "args.json").read_text())["settings"]
        forge_config(run, settings=own | changes)

    return prepare


def link(name: str, *, folder: bool = False) -> Prepare:
    """A file or folder of the run that leads out of it; ``name`` may be a pattern."""

    def prepare(run: Path) -> None:
        path = next(iter(sorted(run.glob(name))), run / name)
        outside = run.parent / f"{run.name}.outside"
        if folder:
            shutil.copytree(path, outside)
            shutil.rmtree(path)
        else:
            outside.write_bytes(OUTSIDE)
            path.unlink(missing_ok=True)
        path.symlink_to(outside)

    return prepare


def fifo(name: str) -> Prepare:
    """A FIFO in place of a file: whoever opens it waits for ever."""

    def prepare(run: Path) -> None:
        path = next(iter(sorted(run.glob(name))), run / name)
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return prepare


def bound_socket(run: Path) -> None:
    """A socket in the run folder."""
    here = Path.cwd()
    os.chdir(run)  # the names of sockets are short
    socket.socket(socket.AF_UNIX).bind("probe.sock")
    os.chdir(here)


def episode_options(state: dict[str, Any]) -> None:
    """An episode that began with options which name a class, as HighwayEnv takes them."""
    options = {"config": {"other_vehicles_type": CLASS}}
    begun = {"begun": {"seed": 1, "options": options}, "actions": {"array": "env.0.actions"}, "seen": ""}
    state["environment"] = {str(i): begun for i in range(3)}


def callback_code(state: dict[str, Any]) -> None:
    """A callback that nobody passed, and a state for the one that is there."""
    state["callbacks"] = {CLASS: {}, "AttentionCallback": {"rollouts": CLASS, "next_record": CLASS, "history": CLASS}}


NO_DATA = "might name code or a file"
LINKED = "is a link; expected a regular file"
NO_CODE = "runs that module's code"
KINDS: dict[str, tuple[Prepare, str]] = {
    "class path in HighwayEnv's configuration": (highway(other_vehicles_type=CLASS), NO_DATA),
    "class path deep in the configuration": (highway(action={"type": CLASS}), NO_DATA),
    "class path in a list": (highway(observation={"features": ["x", CLASS]}), NO_DATA),
    "class path of a lane": (highway(lanes=[{"class_path": CLASS, "config": {}}]), NO_DATA),
    "class path as a key": (highway(**{CLASS: 1}), NO_DATA),
    "class path without a dot": (highway(other_vehicles_type=MODULE), NO_DATA),
    "number in place of a class": (highway(other_vehicles_type=5), NO_DATA),
    "configuration that is text": (config(env=HIGHWAY, env_kwargs={"config": CLASS}), NO_DATA),
    "module of the environment": (config(env=f"{MODULE}:Evil-v0"), NO_CODE),
    "module inside a trusted package": (config(env=f"attn_rl.{MODULE}:Evil-v0"), NO_CODE),
    "two modules of the environment": (config(env=f"attn_rl:{MODULE}:Evil-v0"), NO_CODE),
    "environment that makes another": (
        config(env="GymV26Environment-v0", env_kwargs={"env_id": f"{MODULE}:Evil-v0"}),
        "the file gives the environment",
    ),
    "wrappers": (seek(wrappers=[CLASS]), "no argument of this name"),
    "additional wrappers": (seek(additional_wrappers=[{"entry_point": CLASS}]), "no argument of this name"),
    "entry point": (seek(entry_point=f"{MODULE}:Vehicle"), "no argument of this name"),
    "vector arguments": (seek(vector_kwargs={"worker": CLASS}), "no argument of this name"),
    "render mode": (seek(render_mode="human"), "no argument of this name"),
    "text for a number": (seek(max_entities=CLASS), NO_DATA),
    "huge number": (seek(capacity=10**9), "expected at most"),
    "text for MiniGrid": (config(env=MINIGRID, env_kwargs={"size": CLASS}), NO_DATA),
    "mission of MiniGrid": (config(env=MINIGRID, env_kwargs={"mission_space": CLASS}), "no argument of this name"),
    "overflow rule of MiniGrid": (config(env=MINIGRID, env_kwargs={"overflow": CLASS}), NO_DATA),
    "policy": (config(policy=CLASS), CLASS),
    "readout": (settings(readout=CLASS), f"readout={CLASS!r} is unknown"),
    "similarity": (settings(similarity=CLASS), f"similarity={CLASS!r} is unknown"),
    "relations": (settings(relations=CLASS), f"relations={CLASS!r} is unknown"),
    "pointer": (settings(pointer=CLASS), CLASS),
    "presence": (settings(presence=CLASS), CLASS),
    "unknown setting": (settings(features_extractor_class=CLASS), "there is no setting"),
    "options of an episode": (change_state(episode_options), ""),
    "state of a callback": (change_state(callback_code), ""),
    "poisoned model.zip beside the checkpoints": (sb3_zip, ""),
    "linked arguments": (link("args.json"), LINKED),
    "linked event file": (link("events.*"), LINKED),
    "linked probe": (link("probe.npz"), LINKED),
    "linked model": (link("model.zip"), LINKED),
    "linked lock": (link(".lock"), LINKED),
    "linked batch of a guard": (link("refused.npz"), LINKED),
    "linked checkpoints": (link(FOLDER, folder=True), LINKED),
    "linked attention": (link("attention", folder=True), LINKED),
    "linked state": (link(f"{FOLDER}/*/state.json"), LINKED),
    "FIFO in place of the arguments": (fifo("args.json"), ""),
    "FIFO in place of an event file": (fifo("events.*"), "is a FIFO"),
    "FIFO in place of weights": (fifo(f"{FOLDER}/*/model.safetensors"), "is a FIFO"),
    "FIFO in place of the lock": (fifo(".lock"), "is a FIFO"),
    "FIFO among the records": (fifo("attention/1.npz"), "is a FIFO"),
    "socket": (bound_socket, "is a socket"),
}
"""Kind -> (what is done to a run folder), (what every refusal says; empty: it may also be harmless)."""


def honest_run(folder: Path) -> Path:
    """A whole run of two rollouts."""
    with short_records(), contextlib.redirect_stdout(io.StringIO()):
        return train.run(train.parse(["--runs-dir", str(folder), "--run-name", "honest", *SMALL]))


@contextlib.contextmanager
def short_records() -> Iterator[None]:
    """Let ``train.py`` record few scenes."""
    usual = train.AttentionCallback
    train.AttentionCallback = partial(AttentionCallback, n_scenes=2, n_pictures=1)  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        train.AttentionCallback = usual  # type: ignore[misc]


def attempts(run: Path) -> dict[str, Callable[[], object]]:
    """Every way in which a run folder is read."""
    return {
        "resume": lambda: train.run(train.parse(["--resume", str(run), "--total-timesteps", "72"])),
        "load": lambda: load(run),
        "evaluate": lambda: cli.evaluate(cli.Evaluate(run, episodes=1)),
        "record": lambda: cli.record(cli.Record(run, out=run.parent / "new.npz", n_scenes=2)),
    }


def strangers(folder: Path, kinds: dict[str, tuple[Prepare, str]] = KINDS) -> Outcome:
    """Resume, load, evaluate and record every kind; the remark counts what was executed."""
    outcome, executed = Outcome(), 0
    honest = honest_run(folder)
    for number, (kind, (prepare, words)) in enumerate(kinds.items()):
        run = folder / f"kind{number}"
        os.environ[MARKER] = str(folder / f"marker{number}")
        faults = [fault for way in attempts(run) if (fault := _try(honest, run, prepare, way, words)) is not None]
        ran = Path(os.environ.pop(MARKER)).exists()
        executed += ran
        outcome.add(f"{kind}: EXECUTED" if ran else f"{kind}: {'; '.join(faults)}" if faults else None)
    outcome.remarks.append(f"executed: {executed} of {len(kinds)} kinds, each in 4 ways")
    return outcome


def _try(honest: Path, run: Path, prepare: Prepare, way: str, words: str) -> str | None:
    """Read a fresh copy in one way; what went wrong, None = nothing."""
    outside = run.parent / f"{run.name}.outside"
    for old in (run, outside):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    shutil.copytree(honest, run)
    prepare(run)
    before, path = _content(outside), list(sys.path)
    (run / f"{MODULE}.py").write_text(SOURCE)
    sys.path.insert(0, str(run))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), short_records():
            attempts(run)[way]()
        fault = f"{way} accepted it" if words else None
    except ValueError as error:
        fault = None if words in str(error) else f"{way} refused it in other words: {error}"
    except Exception as error:  # a traceback is what must not be
        fault = f"{way} raised {error!r}"
    finally:
        sys.path[:] = path
        sys.modules.pop(MODULE, None)
    return fault if _content(outside) == before else f"{way} wrote outside the run folder"


def _content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {str(file): file.read_bytes() for file in files if file.is_file()}
