"""Do exported policies answer equally, and how fast are they? The tables of docs/deployment.md::

    python -m benchmarks.export                        # all forms that are installed, a quarter of an hour
    python -m benchmarks.export --agents seek --forms onnx cpp

Parity: the largest difference from the policy's own modules over 10,000 random observations (features, presence and
masks), at numbers of slots and batches that no tracing saw. Latency: lower deciles of calls on one thread (what a busy
neighbour takes is left out), the policy and its files in turn, so that a slow minute hits all of them.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from attn_rl import make_agent
from attn_rl.deployment.cpp import RUNTIME, WEIGHTS
from attn_rl.deployment.export import export
from attn_rl.deployment.exportable import ExportablePolicy, exportable_copy
from attn_rl.deployment.html import PAGE

AGENTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "seek": ("AttnRL/Seek-v0", "attention", {}),
    "boxes": ("AttnRL/Boxes-v0", "attention", {"n_layers": 2}),
    "forage": ("AttnRL/Forage-v0", "attention", {}),
    "deepsets": ("AttnRL/Seek-v0", "deepsets", {}),
}
"""Environment, policy and settings; weights are random, as are the observations."""
N_OBSERVATIONS = 10_000
BATCHES = (1, 7, 256)
FORMS = ("torch", "onnx", "cpp")
Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def make(name: str) -> Any:
    """An agent with weights that are not at their nearly uniform start."""
    env_id, policy, settings = AGENTS[name]
    agent = make_agent(env_id, policy, seed=0, **settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    agent.policy.set_training_mode(False)
    return agent


def open_file(form: str, path: Path, exportable: ExportablePolicy) -> Run:
    """What runs the file."""
    if form == "torch":
        program = torch.export.load(path).module()

        def run(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
            with torch.no_grad():
                return [x.numpy() for x in program(*map(torch.as_tensor, arrays.values()))]

        return run
    if form == "cpp":
        return Native(path / WEIGHTS, exportable)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    return lambda arrays: session.run(None, arrays)


class Native:
    """The C++ header as a shared library, called through ctypes, one observation after the other."""

    def __init__(self, weights: Path, exportable: ExportablePolicy) -> None:
        library = weights.parent / "policy.so"
        flags = ("-std=c++17", "-O2", "-march=native", "-w", "-shared", "-fPIC", '-DSOURCES=""', f"-I{RUNTIME}")
        subprocess.run(["c++", *flags, PAGE / "wasm.cpp", "-o", library], check=True)
        self.library, self.exportable = ctypes.CDLL(str(library)), exportable
        self.library.numbers.restype = ctypes.POINTER(ctypes.c_float)
        self.library.numbers.argtypes = self.library.count.argtypes = [ctypes.c_size_t]
        self.library.set_block.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
        self.library.open_policy.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        data = weights.read_bytes()
        self.library.open_policy(data, len(data))
        places = {"action": 0, "probabilities": 1, "mean": 2, "std": 3, "value": 4}
        self.places = [places[name] for name in exportable.outputs]

    def __call__(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        blocks = [(name.encode(), np.ascontiguousarray(x, np.float32)) for name, x in arrays.items()]
        answers = [self.answer([(name, x[i]) for name, x in blocks]) for i in range(len(blocks[0][1]))]
        found = [np.stack(part) for part in zip(*answers, strict=True)]
        return [
            x[:, 0] if x.shape[1] == 1 and place in (0, 4) else x for x, place in zip(found, self.places, strict=True)
        ]

    def answer(self, blocks: list[tuple[bytes, np.ndarray]]) -> list[np.ndarray]:
        for name, x in blocks:
            self.library.set_block(name, x.ctypes.data, x.size)
        self.library.respond()
        return [
            np.ctypeslib.as_array(self.library.numbers(place), (self.library.count(place),)).copy()
            for place in self.places
        ]


def parity(
    exportable: ExportablePolicy, runs: dict[str, Run], slots: dict[str, int]
) -> dict[tuple[str, int], tuple[float, int]]:
    """By form and batch: the largest difference of any figure, and how many actions differ, over all observations."""
    found = {(form, batch): (0.0, 0) for form in runs for batch in BATCHES}
    for seed in range(-(-N_OBSERVATIONS // BATCHES[-1])):
        arrays = exportable.example(BATCHES[-1], slots, seed)
        with torch.no_grad():
            right = [x.numpy() for x in exportable(*map(torch.as_tensor, arrays.values()))]
        for (form, batch), (worst, others) in found.items():
            for start in range(0, BATCHES[-1], batch):
                part = slice(start, start + batch)
                answers = runs[form]({name: x[part] for name, x in arrays.items()})
                expected = [x[part] for x in right]
                if right[0].dtype.kind == "i":
                    others += int((answers[0] != expected[0]).sum())
                worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(answers, expected, strict=True)))
            found[form, batch] = worst, others
    return found


def latency(calls: dict[str, Callable[[], Any]], rounds: int = 300) -> dict[str, float]:
    """Microseconds of each call, taken in turn: lower deciles."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(1e6 * (time.perf_counter() - start))
    return {name: quantiles(times[rounds // 10 :], n=10)[0] for name, times in taken.items()}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=list(AGENTS))
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| agent | form | slots | batch | largest difference | other actions |\n|---|---|---|---|---|---|")
    speeds = []
    for name in args.agents:
        agent = make(name)
        exportable = exportable_copy(agent.policy)
        with TemporaryDirectory() as folder:
            runs = {}
            for form in args.forms:
                path = Path(folder) / f"policy.{form}"
                export(agent, **{form: path})
                runs[form] = open_file(form, path, exportable)
            print_parity(name, exportable, runs)
            speeds += [latency_row(name, agent, exportable, runs, batch) for batch in BATCHES]
    print(f"\n| agent | batch | predict | {' | '.join(args.forms)} |\n|---|---|---|{'---|' * len(args.forms)}")
    print("\n".join(speeds))


def print_parity(name: str, exportable: ExportablePolicy, runs: dict[str, Run]) -> None:
    """One row per number of slots, form and batch."""
    trained = exportable.spec.capacities
    for slots in (dict.fromkeys(trained, 1), trained, {key: 4 * n for key, n in trained.items()}):
        for (form, batch), (worst, others) in parity(exportable, runs, slots).items():
            print(f"| {name} | {form} | {sum(slots.values())} | {batch} | {worst:.1e} | {others} |", flush=True)


def latency_row(name: str, agent: Any, exportable: ExportablePolicy, runs: dict[str, Run], batch: int) -> str:
    """One row of the second table, in microseconds a call."""
    arrays = exportable.example(batch)
    agent.check_observations = False
    calls: dict[str, Callable[[], Any]] = {"predict": lambda: agent.predict(arrays, deterministic=True)}
    calls |= {form: (lambda run=run: run(arrays)) for form, run in runs.items()}
    found = latency(calls)
    return f"| {name} | {batch} | {' | '.join(f'{found[key]:.0f}' for key in calls)} |"


if __name__ == "__main__":
    main()
