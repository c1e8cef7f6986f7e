"""What a job shop shows: sums over what is left, or the operations themselves and the edges between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from gymnasium import spaces

from .core.slots import features
from .core.state import State
from .core.types import BoolArray, FloatArray, IntArray
from .job_shop_schedule import NextOperations

FeatureSet = Literal["sums", "operations"]
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "sums": {
        "ego": ("left", "growth"),
        "jobs": (
            *("ready", "start", "duration", "work", "after", "operations", "slack"),
            *("machine_load", "machine_queue", "then_free", "then_load"),
        ),
        "machines": ("free", "load", "queue", "slack"),
    },
    "operations": {
        "ego": ("left", "growth"),
        "jobs": ("ready",),
        "machines": ("free",),
        "operations": ("duration", "next"),
    },
}
SHARES = frozenset(
    ("left", "work", "after", "operations", "load", "queue", "next", "machine_load", "machine_queue", "then_load")
)
"""Features from 0 to 1; the others are times, in mean durations."""
EDGES: dict[str, tuple[str, str]] = {
    "precedes": ("operations", "operations"),
    "rivals": ("operations", "operations"),
    "of_job": ("operations", "jobs"),
    "on_machine": ("operations", "machines"),
}
"""Edges among operations, jobs and machines: from, to. Rivals need the same machine and are joined both ways."""


class Features(NamedTuple):
    """The observation of a job shop.

    With ``kind="operations"`` the operation at position p of the job in slot j is in slot j * machines + p, and every
    edge type e has ``e_edge_index`` (2, E), the slots that its edges come from and go to, and ``e_edge_mask`` (E,): 1
    where both are there.

    Attributes:
        kind: ``"sums"`` or ``"operations"``.
        jobs: slots.
        machines: slots.
    """

    kind: FeatureSet
    jobs: int
    machines: int

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Feature names, block by block."""
        return NAMES[self.kind]

    def space(self) -> spaces.Dict:
        """Return the observation space of one game."""
        slots = {"jobs": self.jobs, "machines": self.machines, "operations": self.jobs * self.machines}
        blocks: dict[str, spaces.Space[object]] = {"action_mask": spaces.MultiBinary(self.jobs)}
        for block, names in self.names.items():
            high = [1.0 if name in SHARES else float(slots["operations"]) for name in names]
            low = [0.0 if name in SHARES else -most for name, most in zip(names, high, strict=True)]
            blocks[block] = features(low, high, slots.get(block))
            if block in slots:
                blocks[f"{block}_present"] = spaces.MultiBinary(slots[block])
        for name, count in self._edge_counts().items():
            last = np.repeat([[slots[end] - 1] for end in EDGES[name]], count, axis=1)
            blocks[f"{name}_edge_index"] = spaces.Box(np.zeros_like(last), last, dtype=np.int32)
            blocks[f"{name}_edge_mask"] = spaces.MultiBinary(count)
        return spaces.Dict(blocks)

    @property
    def edges(self) -> dict[str, tuple[str, str]]:
        """Per edge type, the types of entities that it joins: from, to."""
        return EDGES if self.kind == "operations" else {}

    def _edge_counts(self) -> dict[str, int]:
        jobs, machines = self.jobs, self.machines
        counts = {"precedes": jobs * (machines - 1), "rivals": jobs * (jobs - 1) * machines}
        return {name: counts.get(name, jobs * machines) for name in self.edges}

    def observe(self, state: State, following: NextOperations, starts: IntArray) -> dict[str, np.ndarray]:
        """Return the blocks of each game.

        Args:
            state: the games.
            following: what each job needs next.
            starts: (n, J), when that can start.
        """
        clock = np.where(following.open.any(axis=-1), starts.min(axis=-1), 0)[:, None]
        mean = (state.total / (state.n_jobs * state.n_machines))[:, None]
        if self.kind == "sums":
            columns = {
                "jobs": _jobs(state, following, starts, clock, mean),
                "machines": _machines(state, following, clock, mean),
            }
        else:
            columns = {"jobs": [(state.ready - clock) / mean], "machines": [(state.free - clock) / mean]}
        rows = np.arange(len(clock))[:, None]
        present = {"jobs": following.open[rows, state.job_at], "machines": (state.load > 0)[rows, state.machine_at]}
        order = {"jobs": state.job_at, "machines": state.machine_at}
        blocks = {name: np.stack(parts, axis=-1)[rows, order[name]] for name, parts in columns.items()}
        if self.kind == "operations":
            blocks["operations"], present["operations"] = _operations(state, mean)
        obs = {"ego": _ego(state), **(_edges(state, present["operations"]) if self.edges else {})}
        for name, block in blocks.items():
            obs[name] = np.where(present[name][..., None], block, 0).astype(np.float32)
            obs[f"{name}_present"] = present[name].astype(np.int8)
        return obs

    def starts_and_work(self, obs: Mapping[str, np.ndarray]) -> tuple[FloatArray, FloatArray]:
        """Return when each job's next operation can start, and the work left, in the observation's order and units."""
        if self.kind == "sums":
            names = self.names["jobs"]
            return obs["jobs"][..., names.index("start")], obs["jobs"][..., names.index("work")]
        present = obs["operations_present"].reshape(-1, self.jobs, self.machines)
        duration = obs["operations"][..., 0].reshape(present.shape)
        machine = obs["on_machine_edge_index"][:, 1].reshape(present.shape)
        position = np.argmax(present, axis=-1)[..., None]
        free = np.take_along_axis(obs["machines"][..., 0], np.take_along_axis(machine, position, -1)[..., 0], axis=-1)
        return np.maximum(obs["jobs"][..., 0], free), (duration * present).sum(axis=-1, dtype=np.float64)


def _ego(state: State) -> np.ndarray:
    """Return what is said of the game as a whole: (n, 2)."""
    open_ = (state.n_machines[:, None] - state.done).sum(axis=-1) / (state.n_jobs * state.n_machines)
    return np.stack([open_, state.bound / state.lowest - 1], axis=-1).astype(np.float32)


def _jobs(
    state: State, following: NextOperations, starts: IntArray, clock: IntArray, mean: FloatArray
) -> list[FloatArray]:
    lowest = state.lowest[:, None]
    queue = _queue(following, state.load.shape[-1]) / state.n_jobs[:, None]
    rows = np.arange(len(clock))[:, None]
    then = np.minimum(following.position + 1, state.machine.shape[-1] - 1)
    then_machine = np.take_along_axis(state.machine, then[..., None], axis=-1)[..., 0]
    more = following.position + 1 < state.n_machines[:, None]
    return [
        (state.ready - clock) / mean,
        (starts - clock) / mean,
        following.duration / mean,
        state.work / lowest,
        (state.work - following.duration) / lowest,
        1 - state.done / state.n_machines[:, None],
        (state.bound[:, None] - starts - state.work) / mean,
        state.load[rows, following.machine] / lowest,
        queue[rows, following.machine],
        np.where(more, state.free[rows, then_machine] - clock, 0) / mean,
        np.where(more, state.load[rows, then_machine], 0) / lowest,
    ]


def _machines(state: State, following: NextOperations, clock: IntArray, mean: FloatArray) -> list[FloatArray]:
    return [
        (state.free - clock) / mean,
        state.load / state.lowest[:, None],
        _queue(following, state.load.shape[-1]) / state.n_jobs[:, None],
        (state.bound[:, None] - state.free - state.load) / mean,
    ]


def _queue(following: NextOperations, n_machines: int) -> IntArray:
    """Return how many jobs need each machine next, (n, K)."""
    wanted = np.where(following.open, following.machine, -1)
    queue: IntArray = (wanted[:, None] == np.arange(n_machines)[:, None]).sum(axis=-1)
    return queue


def _operations(state: State, mean: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Return the operations of the jobs in slot order, each job's in their order: (n, J * K, 2), and which are left."""
    n, n_jobs, n_machines = state.duration.shape
    rows, position = np.arange(n)[:, None], np.arange(n_machines)
    done = state.done[rows, state.job_at][..., None]
    left = (position >= done) & (position < state.n_machines[:, None, None])
    duration = state.duration[rows, state.job_at] / mean[..., None]
    block = np.stack([duration, position == done], axis=-1)
    return block.reshape(n, n_jobs * n_machines, 2), left.reshape(n, n_jobs * n_machines)


def _edges(state: State, left: BoolArray) -> dict[str, np.ndarray]:
    """Return index and mask of every type of edges; ``left`` (n, J * K) says which operations are there."""
    n, n_jobs, n_machines = state.duration.shape
    rows = np.arange(n)[:, None]
    slot = np.arange(n_jobs * n_machines).reshape(n_jobs, n_machines)
    machine = state.machine[rows, state.job_at]  # (n, J, K), jobs in slot order
    position_of = state.position_of[rows, state.job_at]
    one, other = np.nonzero(~np.eye(n_jobs, dtype=bool))
    rival = position_of[np.arange(n)[:, None, None], other[:, None], machine[:, one]] + n_machines * other[:, None]
    ends = {
        "precedes": (slot[:, :-1], slot[:, 1:]),
        "rivals": (slot[one], rival),
        "of_job": (slot, np.repeat(np.arange(n_jobs), n_machines)),
        "on_machine": (slot, np.argsort(state.machine_at, axis=-1)[rows[..., None], machine]),
    }
    obs = {}
    for name, (source, target) in ends.items():
        source = np.broadcast_to(source.reshape(1, -1), (n, source.size))
        target = np.broadcast_to(target.reshape(-1, source.shape[1]), source.shape)
        there = np.take_along_axis(left, source, axis=-1)
        if EDGES[name][1] == "operations":
            there = there & np.take_along_axis(left, target, axis=-1)
        obs[f"{name}_edge_index"] = np.stack([source, target], axis=1).astype(np.int32)
        obs[f"{name}_edge_mask"] = there.astype(np.int8)
    return obs
