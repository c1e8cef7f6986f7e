"""The tasks of the benchmark of memory can be solved, and only by who remembers."""

import numpy as np
import pytest

from benchmarks.memory import TASKS, table
from benchmarks.memory_tasks import LastDeed

N = 16


def knowing(task):
    rows = np.arange(task.num_envs)
    if hasattr(task, "cards"):
        return task.cards[rows, np.maximum(task.time - task.lag, 0)]
    return task.first if hasattr(task, "first") else (task.goal > 0).astype(int)


@pytest.mark.parametrize("name", TASKS)
def test_who_knows_everything_is_always_right(name):
    task = TASKS[name][0](3)
    task.reset()
    while len(task.scores) < N:
        *_, infos = task.step(knowing(task))
    assert np.mean(task.scores) == 1
    assert all("terminal_observation" in infos[row] for row in np.flatnonzero(task.time == 0) if infos[row])


@pytest.mark.parametrize(("name", "chance"), [("proof", 0.5), ("repeat-easy", 0.25), ("bandit", 0.5)])
def test_who_does_always_the_same_is_right_by_chance(name, chance):
    task = TASKS[name][0](3)
    task.reset()
    while len(task.scores) < 400:
        task.step(np.zeros(N, int))
    assert np.mean(task.scores) == pytest.approx(chance, abs=0.08)


def test_what_was_done_last_is_shown_to_those_who_cannot_look_back():
    task = LastDeed(TASKS["bandit"][0](0))
    assert (task.reset()[:, 6:] == 0).all()
    paid = task.task.first
    obs, rewards, *_ = task.step(paid)
    assert (rewards == 1).all()
    assert (obs[:, 6:8].argmax(1) == paid).all()
    assert (obs[:, 8] == 1).all()


def test_the_table_has_a_line_for_each_method():
    row = dict.fromkeys(("solved_at", "solved_cpu_seconds", "three_times"), "") | {"task": "proof", "steps": "9"}
    row |= {"method": "lstm", "learning_rate": "0.001", "parameters": "7", "cpu_seconds": "3", "score": "0.5"}
    solved = row | {"method": "entities", "solved_at": "8192", "solved_cpu_seconds": "1", "three_times": "1"}
    lines = table([row, solved, solved]).splitlines()
    assert len(lines) == 4
    assert "8k, 8k" in lines[3]
