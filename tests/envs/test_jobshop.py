"""JobShop: rules by hand and against a plain reference, and the scripted policy's figures on published instances."""

import gymnasium as gym
import numpy as np
import pytest
from attn_rl.envs.job_shop_instances import Instances, l2d_instances, taillard_instances

ID = "AttnRL/JobShop-v0"
SCHEDULES = ("append", "active", "non-delay", "insertion")
# Durations and machines of two jobs: the first holds machine 0 for long, the second begins on machine 1.
GAP = Instances(np.array([[[5, 1], [2, 1]]]), np.array([[[0, 1], [1, 0]]]))
# Both begin on machine 0.
QUEUE = Instances(np.array([[[3, 2], [2, 4]]]), np.array([[[0, 1], [0, 1]]]))


def make(size: int | None = None, num_envs: int = 1, **kwargs):
    sizes = {} if size is None else {"min_entities": size, "max_entities": size}
    return gym.make_vec(ID, num_envs=num_envs, **sizes, **kwargs)


def slot_of(env, job: int, row: int = 0) -> int:
    return int(np.flatnonzero(env._state.job_at[row] == job)[0])


def play(env, instances: Instances, jobs: list[int]) -> tuple[float, dict]:
    """Name the jobs in this order; return the return and the last info."""
    env.reset(seed=0, options={"instances": instances})
    total = 0.0
    for job in jobs:
        _, reward, ended, _, infos = env.step(np.array([slot_of(env, job)]))
        total += reward[0]
    assert ended[0]
    return total, {name: value[0] for name, value in infos["final_info"].items()}


@pytest.mark.parametrize(
    ("instances", "schedule", "jobs", "makespan", "lowest"),
    [
        (QUEUE, "append", [0, 0, 1, 1], 9, 6),  # 0: 0-3, 3-5; 1: 3-5, 5-9
        (QUEUE, "append", [1, 0, 1, 0], 8, 6),  # 1: 0-2, 2-6; 0: 2-5, 6-8
        (QUEUE, "non-delay", [1, 1, 0, 0], 8, 6),
        (GAP, "append", [0, 0, 1, 1], 9, 6),  # 0: 0-5, 5-6; 1: 6-8, 8-9
        (GAP, "insertion", [0, 0, 1, 1], 6, 6),  # 0 as before; 1: 0-2, 5-6
        (GAP, "non-delay", [0, 1, 0, 1], 6, 6),
    ],
)
def test_makespans_by_hand(instances, schedule, jobs, makespan, lowest):
    total, info = play(make(2, schedule=schedule), instances, jobs)
    assert info["makespan"] == makespan
    assert info["gap"] == pytest.approx(makespan / lowest - 1)
    assert total == pytest.approx(1 - makespan / lowest)


def test_which_jobs_may_be_named_by_hand():
    """After job 0 has machine 0 until 5, its next operation starts at 5 and job 1 at 0, until 2."""
    for schedule, valid in (("append", {0, 1}), ("insertion", {0, 1}), ("active", {1}), ("non-delay", {1})):
        env = make(2, schedule=schedule)
        env.reset(seed=0, options={"instances": GAP})
        obs = env.step(np.array([slot_of(env, 0)]))[0]
        assert {job for job in range(2) if obs["action_mask"][0, slot_of(env, job)]} == valid, schedule
        np.testing.assert_array_equal(env.action_masks(), obs["action_mask"] == 1)


def test_an_invalid_choice_takes_the_job_with_the_least_work_left():
    env = make(2, schedule="non-delay", capacity=3)
    env.reset(seed=0, options={"instances": GAP})
    env.step(np.array([2]))  # nobody is in slot 2: job 1, of 3, not job 0, of 6
    assert env._state.start[0, 1, 0] == 0
    assert (env._state.start[0, 0] == -1).all()
    env.reset(seed=0, options={"instances": GAP})
    env.step(np.array([slot_of(env, 0)]))
    env.step(np.array([slot_of(env, 0)]))  # which would have to wait
    assert env._state.start[0, 1, 0] == 0


def reference(duration: np.ndarray, machine: np.ndarray, jobs: list[int], insertion: bool) -> int:
    """The makespan of a sequence of jobs, operation by operation."""
    busy: list[list[tuple[int, int]]] = [[] for _ in range(duration.shape[1])]
    ready, done = [0] * len(duration), [0] * len(duration)
    for job in jobs:
        length, on = duration[job, done[job]], busy[machine[job, done[job]]]
        start = max([ready[job], *(end for _, end in on)])
        if insertion:
            start = next(
                t for t in range(ready[job], start + 1) if all(t + length <= begin or t >= end for begin, end in on)
            )
        on.append((start, start + length))
        ready[job], done[job] = start + length, done[job] + 1
    return max(ready)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_random_schedules_equal_a_plain_reference(schedule):
    n = 23
    env = make(5, n, schedule=schedule)
    instances = l2d_instances(5, 5, count=n, seed=3)
    obs, _ = env.reset(seed=0, options={"instances": instances})
    rng, named = np.random.default_rng(0), []
    for _ in range(25):
        slots = np.array([rng.choice(np.flatnonzero(mask)) for mask in obs["action_mask"]])
        named.append(env._state.job_at[np.arange(n), slots])
        obs, _, ended, _, infos = env.step(slots)
    assert ended.all()
    for i, jobs in enumerate(np.array(named).T):
        expected = reference(instances.duration[i], instances.machine[i], list(jobs), schedule == "insertion")
        assert infos["final_info"]["makespan"][i] == expected


@pytest.mark.parametrize(("size", "figure"), [(6, 543.54), (10, 939.18)])
def test_most_work_remaining_on_the_instances_of_l2d(size, figure):
    """Jobs of equal work are rare, but there are some: by index for the rule, by chance for the scripted policy."""
    for schedule, features in (("append", "sums"), ("insertion", "sums"), ("non-delay", "operations")):
        env = make(size, 100, schedule=schedule, features=features)
        obs, _ = env.reset(seed=1, options={"instances": l2d_instances(size, size)})
        for _ in range(size * size):
            obs, _, _, _, infos = env.step(env.oracle(obs))
        info = infos["final_info"]
        assert info["rule_makespan"].mean() == pytest.approx(figure)
        assert info["makespan"].mean() == pytest.approx(figure, abs=1.5)
        assert info["is_success"].mean() >= 0.97


def test_a_single_game_takes_instances_and_goes_on_at_random():
    env = gym.make(ID, min_entities=2, max_entities=2)
    env.reset(seed=0, options={"instances": GAP})
    assert env.unwrapped.batch._state.duration.tolist() == GAP.duration.tolist()
    env.reset()
    assert env.unwrapped.batch._state.duration.tolist() != GAP.duration.tolist()


def test_smaller_instances_fit_into_more_slots():
    total, info = play(make(None, capacity=7, schedule="insertion"), GAP, [0, 0, 1, 1])
    assert (info["makespan"], total) == (6, 0)


@pytest.mark.parametrize(
    ("duration", "machine", "message"),
    [
        (np.ones((2, 2, 2)), np.array([[[0, 1]] * 2] * 2), "expected 1 of them, one for each sub-environment"),
        (np.ones((1, 3, 2)), np.array([[[0, 1]] * 3]), "of at most 2 jobs and 2 machines"),
        (np.ones((1, 2, 2)), np.array([[[0, 1], [1, 1]]]), "does not visit each of the 2 machines once"),
        (np.zeros((1, 2, 2)), np.array([[[0, 1]] * 2]), "durations begin at 0"),
        (np.ones((1, 2, 2)), np.array([[0, 1]] * 2), r"expected both \(instances, jobs, machines\)"),
    ],
)
def test_instances_that_are_none_are_refused(duration, machine, message):
    with pytest.raises(ValueError, match=message):
        make(2).reset(options={"instances": (duration.astype(int), machine)})


@pytest.mark.parametrize("argument", ["schedule", "features"])
def test_unknown_variants_are_refused(argument):
    with pytest.raises(ValueError, match=f"{argument}='most'; expected one of '"):
        make(**{argument: "most"})


@pytest.mark.parametrize(
    ("num_envs", "kwargs", "message"),
    [
        (1, {"capacity": 1 << 15}, "means 1,073,741,824 operations in each; expected at most 1,048,576"),
        (512, {"capacity": 1 << 9}, "means 262,144 operations in each; expected at most 131,072"),
        (1, {"capacity": 1 << 7, "features": "operations"}, "means 2,097,152 edges in each"),
    ],
)
def test_sizes_that_fill_the_memory_are_refused(num_envs, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(None, num_envs, **kwargs)


def test_edges_join_what_the_instance_joins():
    """Precedence along each job, rivals on each machine, both ends still to schedule."""
    env = make(None, 7, min_entities=2, max_entities=5, features="operations")
    obs, _ = env.reset(seed=4)
    for _ in range(9):
        for row in range(7):
            assert edges_of(obs, row) == expected_edges(env._state.row(row))
        obs = env.step(env.oracle(obs))[0]


def edges_of(obs: dict, row: int) -> dict[str, set[tuple[int, int]]]:
    found = {}
    for name in ("precedes", "rivals", "of_job", "on_machine"):
        index, mask = obs[f"{name}_edge_index"][row], obs[f"{name}_edge_mask"][row] == 1
        pairs = list(zip(*index[:, mask].tolist(), strict=True))
        found[name] = set(pairs)
        assert len(pairs) == len(found[name])
    return found


def expected_edges(game) -> dict[str, set[tuple[int, int]]]:
    n_machines = game.duration.shape[1]
    left = [
        (slot, position, game.machine[job, position])
        for slot, job in enumerate(game.job_at)
        for position in range(game.done[job], game.n_machines)
    ]
    numbered = [(slot * n_machines + position, slot, position, machine) for slot, position, machine in left]
    return {
        "precedes": {(a, b) for a, s, p, _ in numbered for b, t, q, _ in numbered if s == t and q == p + 1},
        "rivals": {(a, b) for a, s, _, m in numbered for b, t, _, k in numbered if s != t and m == k},
        "of_job": {(a, s) for a, s, _, _ in numbered},
        "on_machine": {(a, list(game.machine_at).index(m)) for a, _, _, m in numbered},
    }


def test_sums_by_hand():
    """GAP after job 0 has machine 0 until 5: mean duration 9/4, lowest makespan 6, clock 0."""
    env = make(2)
    env.reset(seed=0, options={"instances": GAP})
    obs = env.step(np.array([slot_of(env, 0)]))[0]
    names, mean = env.metadata["entities"], 9 / 4
    jobs = [dict(zip(names["jobs"], obs["jobs"][0, slot_of(env, job)].tolist(), strict=True)) for job in range(2)]
    times = ("ready", "start", "duration", "slack", "then_free")
    others = ("work", "after", "operations", "machine_load", "machine_queue", "then_load")
    first, second = ((5, 5, 1, 0, 0), (1, 0, 3, 3, 6, 0)), ((0, 0, 2, 3, 5), (3, 1, 6, 3, 6, 1))
    for job, (in_means, in_sixths) in zip(jobs, (first, second), strict=True):
        np.testing.assert_allclose([job[name] for name in times], np.array(in_means) / mean, rtol=1e-6)
        np.testing.assert_allclose([job[name] for name in others], np.array(in_sixths) / 6, rtol=1e-6)
    machines = obs["machines"][0][np.argsort(env._state.machine_at[0])]
    np.testing.assert_allclose(machines, [[5 / mean, 1 / 6, 0, 0], [0, 3 / 6, 1, 3 / mean]], rtol=1e-6)
    np.testing.assert_allclose(obs["ego"][0], [3 / 4, 0])


def test_lowest_makespans_of_taillard_are_those_of_his_table():
    env = make(15, 10)
    env.reset(options={"instances": taillard_instances()})
    assert env._state.lowest.tolist() == [977, 942, 921, 911, 940, 889, 935, 963, 982, 911]
