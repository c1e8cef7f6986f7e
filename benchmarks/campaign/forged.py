"""Run folders forged at random, seals in order: refused in words or harmless; no traceback, no crash, no memory."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from attn_rl.training.run.checkpoint import PARTS, list_checkpoints
from benchmarks.campaign import Outcome
from benchmarks.campaign.payloads import reseal
from benchmarks.campaign.strangers import attempts, honest_run, short_records

SECONDS = 60
"""A trial that takes longer hangs."""

MOST_MEMORY = 1 << 30
"""Bytes that a trial may take more than an honest process."""

HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 7, 10**9, 10**18, 2**70, 0.5, -1e308, float("nan"), float("inf")),
    *("", "text", "../../x", "runs.x.evil.V", "a" * 10_000, [], {}, [[]], {"array": "w"}, {"": None}, [None] * 1000),
)
"""What a value in JSON is replaced by."""

Nodes = list[tuple[Any, Any]]


def forge(run: Path, rng: np.random.Generator) -> str:
    """Forge one thing about a run folder; returns what."""
    how = [forged_state, forged_args, forged_tensor, forged_tensor, forged_bytes]
    return str(how[rng.integers(len(how))](run, rng))


def forged_state(run: Path, rng: np.random.Generator) -> str:
    """One value of ``state.json``, the seal in order."""
    said: list[str] = []
    reseal(run, lambda state: said.append(change_value(state, rng)))
    return f"state.json: {said[0]}"


def forged_args(run: Path, rng: np.random.Generator) -> str:
    """One value of ``args.json``."""
    args = json.loads((run / "args.json").read_text())
    said = change_value(args, rng)
    (run / "args.json").write_text(json.dumps(args))
    return f"args.json: {said}"


def change_value(content: Any, rng: np.random.Generator) -> str:
    """Replace, remove or add one value, however deep; every entry at the top is as likely as any other."""
    top = list(content)
    name = top[rng.integers(len(top))]
    nodes = list(_nodes(content, name))
    parent, key = nodes[rng.integers(len(nodes))]
    where = f"{name} ... {key!r}"
    if rng.random() < 0.15:
        del parent[key]
        return f"{where} removed"
    if rng.random() < 0.1 and isinstance(parent[key], dict):
        parent[key]["more"] = 1
        return f"{where} has one entry more"
    parent[key] = copy.deepcopy(HOSTILE[rng.integers(len(HOSTILE))])
    return f"{where} = {str(parent[key])[:40]}"


def _nodes(parent: Any, key: Any) -> Iterator[tuple[Any, Any]]:
    yield parent, key
    value = parent[key]
    if isinstance(value, dict):
        for name in value:
            yield from _nodes(value, name)
    elif isinstance(value, list):
        for index in range(min(len(value), 5)):
            yield from _nodes(value, index)


def forged_tensor(run: Path, rng: np.random.Generator) -> str:
    """One tensor of a checkpoint: another shape, dtype or value, gone, or one more."""
    part = str(rng.choice(PARTS))
    file = list_checkpoints(run)[0] / f"{part}.safetensors"
    arrays = load_file(file)
    name = str(rng.choice(sorted(arrays)))
    how = str(rng.choice(sorted(CHANGES)))
    changed = CHANGES[how](arrays.pop(name), rng)
    if changed is not None:
        arrays[name if how != "renamed" else f"{name}.more"] = np.ascontiguousarray(changed).reshape(changed.shape)
    save_file(arrays, file)
    reseal(run, lambda state: None)
    return f"{part} {name}: {how}"


def _with(value: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def change(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        array = array.copy()
        if array.size:
            with np.errstate(all="ignore"):
                array.reshape(-1)[rng.integers(array.size)] = np.array(value).astype(array.dtype)
        return array

    return change


CHANGES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray | None]] = {
    "0-dimensional": lambda array, rng: array.reshape(-1)[:1].sum().reshape(()),
    "empty": lambda array, rng: array.reshape(-1)[:0],
    "flattened": lambda array, rng: array.reshape(-1),
    "one axis more": lambda array, rng: array[None],
    "doubled": lambda array, rng: np.concatenate([array.reshape(-1)] * 2),
    "float64": lambda array, rng: array.astype(np.float64),
    "float16": lambda array, rng: array.astype(np.float16),
    "int8": lambda array, rng: array.astype(np.int8),
    "complex": lambda array, rng: array.astype(np.complex64),
    "gone": lambda array, rng: None,
    "renamed": lambda array, rng: array,
    "negative": _with(-5),
    "NaN": _with(float("nan")),
    "inf": _with(float("inf")),
    "huge": _with(1e30),
    "one million": _with(1e6),
}


def forged_bytes(run: Path, rng: np.random.Generator) -> str:
    """A whole file of the checkpoint, digests in order."""
    part = str(rng.choice(PARTS))
    file = list_checkpoints(run)[0] / f"{part}.safetensors"
    data = file.read_bytes()
    cut = int(rng.integers(len(data)))
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]}}).encode()
    choices: dict[str, bytes] = {
        "cut": data[:cut],
        "header flipped": data[:20] + bytes([data[20] ^ 4]) + data[21:],
        "noise": rng.bytes(1000),
        "a tensor of 4 TiB": struct.pack("<Q", len(header)) + header,
        "a header of 2^63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
        "nothing": b"",
        "nested JSON": struct.pack("<Q", 100_000) + b"[" * 100_000,
    }
    how = str(rng.choice([*choices, "20 GB of nothing", "large state", "deep state"]))
    if how in choices:
        file.write_bytes(choices[how])
        reseal(run, lambda state: None)
    elif how == "20 GB of nothing":
        os.truncate(file, 20 << 30)
    else:
        large = b"[" + b"0," * (20 << 20) + b"0]" if how == "large state" else b'{"a":' * 5000 + b"1" + b"}" * 5000
        (list_checkpoints(run)[0] / "state.json").write_bytes(large)
    return f"{part}: {how}"


def forged(folder: Path, rng: np.random.Generator, trials: int) -> Outcome:
    """Resume and load runs that were forged at random, each in a process of its own."""
    outcome = Outcome()
    honest = honest_run(folder)
    verdicts: dict[str, int] = {}
    for trial in range(trials):
        run = folder / "forged"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(honest, run)
        what = forge(run, rng)
        for way in ("resume", "load"):
            verdict = in_own_process(run, way)
            verdicts[verdict.split(":")[0]] = verdicts.get(verdict.split(":")[0], 0) + 1
            sound = verdict.startswith(("refused", "harmless"))
            outcome.add(None if sound else f"trial {trial}, {what}: {way} {verdict}")
    outcome.remarks.append(f"{trials} forged runs, each resumed and loaded: {verdicts}")
    return outcome


def in_own_process(run: Path, way: str) -> str:
    """Read a run folder in a child; ``refused: ...``, ``harmless``, or what went wrong."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.write(theirs, _verdict(run, way).encode()[:4000])
        os._exit(0)
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    _, status = os.waitpid(child, 0)
    return said if said and status == 0 else f"CRASHED: signal {os.WTERMSIG(status)}, {said}"


def _verdict(run: Path, way: str) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    silence = io.StringIO()
    try:
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence), short_records():
            attempts(run)[way]()
        said = "harmless"
    except ValueError as error:
        said = f"refused: {error}" if str(error) else "TRACEBACK: an error without words"
    except BaseException as error:  # a traceback is what must not be
        said = f"TRACEBACK: {error!r}"
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return said if grown < MOST_MEMORY else f"MEMORY: {grown:,} bytes; {said}"
