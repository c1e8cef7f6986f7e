"""The game whose right target differs by verb has the bound that is stated, and the table says what was measured."""

import numpy as np

from attn_rl.actions import read_actions
from benchmarks.structured import TASKS, best_rate, table
from benchmarks.verb_task import N_VERBS, VerbTask


def test_who_knows_nothing_of_the_verb_is_right_once_in_three_times():
    env = VerbTask()
    right, blind, n = 0.0, 0.0, 3000
    obs, _ = env.reset(seed=0)
    for _ in range(n):
        verb = int(obs["allowed"].argmax())
        target = int(obs["items"][:, 1 + verb].argmax())
        assert obs["items_present"][target]
        blind += target == int(obs["items"][:, 1].argmax())  # points at the item for verb 0, always
        obs, reward, terminated, *_ = env.step(np.array([verb, target]))
        right += reward
        assert terminated
    assert right == n
    assert abs(blind / n - 1 / N_VERBS) < 0.03


def test_independent_heads_see_nothing_of_each_other():
    for task in TASKS.values():
        for name, (_, actions) in task.policies.items():
            if name == "independent heads":
                assert all(argument.parents == () for argument in read_actions(actions).values())


def test_the_table_holds_what_was_measured():
    row = {"task": "Verbs", "policy": "attention", "learning_rate": "0.003", "cpu_seconds": "4"}
    rows = [row | {"mean_return": x, "success": x, "further_return": ""} for x in ("0.5", "0.7")]
    assert "| Verbs | attention | 0.003 | 2 | 0.600 [" in table(rows)
    assert best_rate([row | {"learning_rate": "0.1", "mean_return": "2"}, rows[0]], "Verbs", "attention") == 0.1
    assert best_rate([], "Verbs", "attention") == 3e-3
