"""The picture of a job shop: above, what every machine does; below, what every job still needs."""

from __future__ import annotations

import numpy as np

from .core.drawing import FLOOR, INK, LINE, Canvas
from .core.state import State
from .core.types import FloatArray

LEFT, RIGHT = -0.84, 0.96  # where time begins and ends
TOP = 0.95
LABEL = -0.92


def places(state: State, operations: bool) -> FloatArray:
    """Return where each slot's entity is: jobs, machines and, where they are shown, operations; NaN if absent."""
    n, n_jobs, n_machines = state.duration.shape
    rows = np.arange(n)[:, None]
    job_y, machine_y = _rows(n_jobs, 0.0)[state.job_at], _rows(n_machines, TOP)[state.machine_at]
    left = (state.done < state.n_machines[:, None])[rows, state.job_at]
    parts = [np.where(left, job_y, np.nan), np.where((state.load > 0)[rows, state.machine_at], machine_y, np.nan)]
    x = [np.where(np.isnan(part), np.nan, LABEL) for part in parts]
    if operations:
        begins, ends = _chain(state)
        middle = (_time(state, begins) + _time(state, ends)) / 2
        y = np.where(np.isnan(middle), np.nan, _rows(n_jobs, 0.0)[:, None])
        x.append(middle[rows, state.job_at].reshape(n, -1))
        parts.append(y[rows, state.job_at].reshape(n, -1))
    return np.stack([np.concatenate(x, axis=-1), np.concatenate(parts, axis=-1)], axis=-1)


def draw_game(game: State, canvas: Canvas) -> None:
    """Draw one game: time runs to the right, a colour is a job."""
    one = State(**{name: np.asarray(value)[None] for name, value in game.arrays()})
    n_jobs, n_machines = game.duration.shape
    job_y, machine_y = _rows(n_jobs, 0.0), _rows(n_machines, TOP)
    half = 0.38 * TOP / max(n_jobs, n_machines)
    middle = (LEFT + RIGHT) / 2
    for y in machine_y[: game.n_machines]:
        canvas.box((middle, y), ((RIGHT - LEFT) / 2, half), FLOOR, outline=LINE, width=0.006)
    scheduled = np.where(game.start < 0, np.nan, game.start)
    bars = [(scheduled, scheduled + game.duration, machine_y[game.machine])]
    begins, ends = _chain(one)
    bars.append((begins[0], ends[0], np.tile(job_y[:, None], n_machines)))
    for begin, end, y in bars:
        x, width = _time(one, begin[None])[0], _time(one, end[None])[0]
        for job, position in np.argwhere(~np.isnan(begin)):
            a, b = x[job, position], width[job, position]
            canvas.box(((a + b) / 2, y[job, position]), ((b - a) / 2, half), _colour(int(job), n_jobs), width=0.006)
    for job in np.flatnonzero(game.done < game.n_machines):
        canvas.disc((LABEL, job_y[job]), 0.8 * half, _colour(int(job), n_jobs), outline=INK, width=0.006)
    for machine in np.flatnonzero(game.load > 0):
        canvas.box((LABEL, machine_y[machine]), (0.8 * half, 0.8 * half), INK, outline=None)


def _rows(count: int, top: float) -> FloatArray:
    """Return the heights of so many rows below ``top``."""
    return top - TOP * (np.arange(count) + 0.5) / count


def _time(state: State, time: FloatArray) -> FloatArray:
    """Return where a time (n, J, K) is in the picture."""
    whole = np.maximum(state.bound, state.rule_ready.max(axis=-1))
    whole = np.maximum(whole, 1.5 * state.lowest)[:, None, None]
    place: FloatArray = LEFT + (RIGHT - LEFT) * np.minimum(time / whole, 1.0)
    return place


def _chain(state: State) -> tuple[FloatArray, FloatArray]:
    """Return when each operation would begin and end if its job never waited again, (n, J, K); NaN if scheduled."""
    left = np.arange(state.machine.shape[-1]) >= state.done[..., None]
    left &= state.duration > 0
    ends = state.ready[..., None] + np.cumsum(np.where(left, state.duration, 0), axis=-1)
    return np.where(left, ends - state.duration, np.nan), np.where(left, ends, np.nan)


def _colour(job: int, n_jobs: int) -> FloatArray:
    """Return the job's colour, one of a circle of hues."""
    angle = 2 * np.pi * (job / n_jobs + np.arange(3) / 3)
    return np.asarray(0.66 + 0.28 * np.cos(angle))
