"""Job shop schedules in the making, for many games at once: when operations can start, and a rule that dispatches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .core.state import State
from .core.types import BoolArray, FloatArray, IntArray

NEVER = np.int64(1) << 60
"""Later than any schedule."""


def fresh(duration: IntArray, machine: IntArray, n_machines: IntArray) -> State:
    """Return games in which nothing is scheduled.

    Args:
        duration: (n, J, K), of each job's operations in their order; 0 where there is none.
        machine: (n, J, K), on which machine each runs: a permutation for each job, absent machines last.
        n_machines: (n,), how many there are, and so how many operations each job has.
    """
    n, n_jobs, n_slots = duration.shape
    position_of = np.argsort(machine, axis=-1)
    work, load = duration.sum(axis=-1), np.take_along_axis(duration, position_of, axis=-1).sum(axis=1)
    lowest = np.maximum(work.max(axis=-1), load.max(axis=-1))
    done = np.where(work > 0, 0, n_machines[:, None])
    times, free = np.zeros((n, n_jobs), np.int64), np.zeros((n, n_slots), np.int64)
    return State(
        duration=duration,
        machine=machine,
        position_of=position_of,  # (n, J, K), which of a job's operations runs on a machine
        n_machines=n_machines,
        n_jobs=(work > 0).sum(axis=-1),
        start=np.full_like(duration, -1),  # -1: not scheduled
        done=done,  # operations of each job that are scheduled
        ready=times,  # when its last scheduled operation ends
        work=work,  # what is left of it
        free=free,  # when the last operation on each machine ends
        load=load,  # what is left for it
        total=work.sum(axis=-1),
        lowest=lowest,
        bound=lowest.copy(),
        job_at=np.tile(np.arange(n_jobs), (n, 1)),  # in which slot of the observation
        machine_at=np.tile(np.arange(n_slots), (n, 1)),
        rule_done=done.copy(),
        rule_ready=times.copy(),
        rule_work=work.copy(),
        rule_free=free.copy(),
    )


class NextOperations(NamedTuple):
    """The operation that each job needs next; what is said of a job without one means nothing.

    Attributes:
        open: (n, J) bool, whether there is one.
        position: (n, J) int64, which of the job's operations it is.
        duration: (n, J) int64.
        machine: (n, J) int64.
    """

    open: BoolArray
    position: IntArray
    duration: IntArray
    machine: IntArray


def next_operations(state: State, done: IntArray) -> NextOperations:
    """Return what is next, where ``done`` (n, J) operations of each job are scheduled."""
    open_: BoolArray = done < state.n_machines[:, None]
    position = np.minimum(done, state.machine.shape[-1] - 1)
    at = position[..., None]
    duration, machine = (np.take_along_axis(array, at, axis=-1)[..., 0] for array in (state.duration, state.machine))
    return NextOperations(open_, position, duration, machine)


def appended(ready: IntArray, free: IntArray, following: NextOperations) -> IntArray:
    """Return when each job's next operation starts behind everything on its machine, (n, J); NEVER without one.

    Args:
        ready: (n, J), when each job's last scheduled operation ends.
        free: (n, K), when each machine's last scheduled operation ends.
        following: what is next.
    """
    starts = np.maximum(ready, np.take_along_axis(free, following.machine, axis=-1))
    return np.where(following.open, starts, NEVER)


def inserted(state: State, following: NextOperations) -> IntArray:
    """Return when each job's next operation starts in the first gap of its machine that holds it; as ``appended``."""
    # Of job i, the operation on the machine that job j needs next: (n, J of j, J of i).
    rows = np.arange(len(state.ready))[:, None, None]
    jobs = np.arange(state.ready.shape[1])
    rival = state.position_of[rows, jobs, following.machine[..., None]]
    begins = state.start[rows, jobs, rival]
    ends = np.where(begins < 0, -1, begins + state.duration[rows, jobs, rival])
    begins = np.where(begins < 0, NEVER, begins)
    # It starts when the job is ready or when some operation on the machine ends: (n, J, 1 + J).
    candidates = np.maximum(np.concatenate([state.ready[..., None], ends], axis=-1), state.ready[..., None])
    behind = candidates[..., None] >= ends[:, :, None]
    before = candidates[..., None] + following.duration[..., None, None] <= begins[:, :, None]
    starts = np.where((behind | before).all(axis=-1), candidates, NEVER).min(axis=-1)
    return np.where(following.open, starts, NEVER)


def most_work_remaining(starts: IntArray | FloatArray, work: IntArray | FloatArray) -> IntArray:
    """Choose, among the jobs that can start first, the one with the most work left: the rule, without delay.

    Args:
        starts: (n, J), of each job's next operation; NEVER without one.
        work: (n, J), the work left in each job.

    Returns:
        (n,) int64; ties go to the lowest index.
    """
    first = starts == starts.min(axis=-1, keepdims=True)
    chosen: IntArray = np.argmax(np.where(first, work, -1), axis=-1)
    return chosen


def play_rule(state: State) -> None:
    """Schedule one more operation by the rule in the schedule that is kept beside the game, ``state.rule_*``."""
    rows = np.arange(len(state.ready))
    following = next_operations(state, state.rule_done)
    starts = appended(state.rule_ready, state.rule_free, following)
    job = most_work_remaining(starts, state.rule_work)
    end = starts[rows, job] + following.duration[rows, job]
    state.rule_ready[rows, job] = end
    state.rule_free[rows, following.machine[rows, job]] = end
    state.rule_work[rows, job] -= following.duration[rows, job]
    state.rule_done[rows, job] += 1
