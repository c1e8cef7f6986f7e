"""Tours through cities: the greedy one, and the shortest (exact dynamic programming, above that a solver)."""

from __future__ import annotations

import importlib.util
from functools import cache

import numpy as np

from .core.types import BoolArray, FloatArray, IntArray

MAX_EXACT = 11
"""Up to so many cities still to visit, the shortest way is found exactly."""

_CHUNK = 64  # rows solved together: bounds the tables to some 12 MB
_RESOLUTION = 8000  # integer steps per unit of length for the solver, whose distances are 16-bit
_FORCED = 40_000  # added to every edge but one: no tour avoids that one
_SECONDS = 0.02  # time for one tour of more than 20 cities


def greedy_length(distance: FloatArray, start: IntArray, there: BoolArray) -> FloatArray:
    """Return the length of the tour that always goes to the nearest city not yet visited.

    Args:
        distance: (n, N, N).
        start: (n,) int64, the slot where the tour begins and ends.
        there: (n, N) bool, which slots hold a city.

    Returns:
        (n,) float64.
    """
    rows = np.arange(len(start))
    left = there.copy()
    left[rows, start] = False
    here, total = start, np.zeros(len(start))
    for _ in range(int(left.sum(axis=-1).max(initial=0))):
        ways = np.where(left, distance[rows, here], np.inf)
        some = left.any(axis=-1)
        following = np.where(some, np.argmin(ways, axis=-1), here)
        total += np.where(some, distance[rows, here, following], 0.0)
        left[rows, following] = False
        here = following
    return total + distance[rows, here, start]


def insertion_length(distance: FloatArray) -> FloatArray:
    """Return the length of the tour by farthest insertion: what is farthest from it goes in where it costs least.

    Args:
        distance: (n, N, N), of all cities; the tour begins in the first.

    Returns:
        (n,) float64.
    """
    n, n_cities = distance.shape[:2]
    rows = np.arange(n)
    tour = np.zeros((n, 1), np.int64)
    nearest = np.where(np.arange(n_cities) > 0, distance[:, 0], -np.inf)  # how far each city is from the tour
    total = np.zeros(n)
    for size in range(1, n_cities):
        city = np.argmax(nearest, axis=-1)
        following = np.roll(tour, -1, axis=-1)
        before, after = (distance[rows[:, None], end, city[:, None]] for end in (tour, following))
        detour = before + after - distance[rows[:, None], tour, following]
        place = np.argmin(detour, axis=-1)
        total += detour[rows, place]
        slots = np.arange(size + 1)
        old = np.take_along_axis(tour, np.minimum(slots - (slots > place[:, None]), size - 1), axis=-1)
        tour = np.where(slots == place[:, None] + 1, city[:, None], old)
        nearest = np.minimum(nearest, distance[rows, city])
        nearest[rows, city] = -np.inf
    return total


def kool_cities(n_cities: int, count: int = 10_000) -> FloatArray:
    """Return the test sets of Kool et al. 2019 ("Attention, learn to solve routing problems!"), in [0, 1] x [0, 1].

    Args:
        n_cities: 20, 50 or 100 there.
        count: how many of the 10,000, the first ones.

    Returns:
        (count, n_cities, 2) float64.
    """
    random = np.random.RandomState(1234)  # the stream of np.random.seed(1234); the global one stays as it is
    return random.uniform(size=(10_000, n_cities, 2))[:count]


def shortest_way(distance: FloatArray, here: IntArray, start: IntArray, left: BoolArray) -> tuple[FloatArray, IntArray]:
    """Find the shortest way from ``here`` through every city that is left to ``start``.

    Exact for up to 11 cities left (Held and Karp 1962); more need the package fast-tsp, whose
    result is exact up to 18 and very nearly so above.

    Args:
        distance: (n, N, N), symmetric, at most 2.83.
        here: (n,) int64.
        start: (n,) int64.
        left: (n, N) bool.

    Returns:
        Length (n,) float64 and the first city of the way (n,) int64.

    Raises:
        ImportError: where fast-tsp is needed and missing.
    """
    length, first = np.zeros(len(here)), np.zeros(len(here), np.int64)
    few = left.sum(axis=-1) <= MAX_EXACT
    exact = np.flatnonzero(few)
    for chunk in np.split(exact, range(_CHUNK, len(exact), _CHUNK)):
        if len(chunk):
            length[chunk], first[chunk] = _exact(distance[chunk], here[chunk], start[chunk], left[chunk])
    for i in np.flatnonzero(~few):
        length[i], first[i] = _solved(distance[i], int(here[i]), int(start[i]), np.flatnonzero(left[i]))
    return length, first


def require_solver(reason: str) -> None:
    """Check that fast-tsp is installed.

    Raises:
        ImportError: where it is not; the message begins with ``reason``.
    """
    if importlib.util.find_spec("fast_tsp") is None:
        raise ImportError(f'{reason} needs the package fast-tsp; pip install "attn_rl[route]"')


@cache
def _layers(m: int) -> list[list[np.ndarray]]:
    """Return, for each size and city k, the subsets of m cities (as bit masks) of that size that hold k."""
    masks = np.arange(1 << m)
    size = np.array([int(mask).bit_count() for mask in masks])
    return [[masks[(size == s) & (masks >> k & 1 == 1)] for k in range(m)] for s in range(m)]


def _exact(distance: FloatArray, here: IntArray, start: IntArray, left: BoolArray) -> tuple[FloatArray, IntArray]:
    """Held and Karp's dynamic programming, backwards, for several games at once.

    Games with fewer cities left than the others get copies of ``start`` to visit: by the triangle
    inequality these cost nothing at the end of the way.
    """
    n, m = len(here), max(int(left.sum(axis=-1).max(initial=0)), 1)
    rows = np.arange(n)[:, None]
    slots = np.argsort(~left, axis=-1, kind="stable")[:, :m]
    real = left[rows, slots]
    city = np.where(real, slots, start[:, None])
    between = distance[rows[..., None], city[:, :, None], city[:, None, :]]
    # best[S, :, j]: the shortest way from city j through the subset S to the start
    best = np.full((1 << m, n, m), np.inf)
    best[0] = distance[rows, city, start[:, None]]
    for layer in _layers(m)[1:]:
        for k, subsets in enumerate(layer):
            through_k = between[:, :, k] + best[subsets ^ (1 << k), :, k, None]
            best[subsets] = np.minimum(best[subsets], through_k)
    others = (1 << m) - 1 - (1 << np.arange(m))
    way = distance[rows, here[:, None], city] + best[others, :, np.arange(m)].T
    first = np.argmin(np.where(real, way, np.inf), axis=-1)
    nothing_left = ~real.any(axis=-1)
    length = np.where(nothing_left, distance[rows[:, 0], here, start], way[rows[:, 0], first])
    return length, np.where(nothing_left, start, slots[rows[:, 0], first])


def _solved(distance: FloatArray, here: int, start: int, left: IntArray) -> tuple[float, int]:
    """Ask fast-tsp for the shortest tour that holds the edge from ``start`` to ``here``."""
    require_solver(f"the shortest way through more than {MAX_EXACT} cities")
    import fast_tsp

    city = np.concatenate([[start] if here == start else [start, here], left])
    scaled = np.round(distance[np.ix_(city, city)] * _RESOLUTION).astype(np.int64)
    if here != start:
        scaled += _FORCED
        scaled[0, 1] = scaled[1, 0] = 0
        np.fill_diagonal(scaled, 0)
    tour = fast_tsp.find_tour(scaled, duration_seconds=_SECONDS)
    begin = tour.index(0 if here == start else 1)
    tour = tour[begin:] + tour[:begin]
    if here != start and tour[1] == 0:
        tour = [tour[0], *reversed(tour[1:])]
    way = city[[*tour, tour[0]] if here == start else tour]
    return float(distance[way[:-1], way[1:]].sum()), int(way[1])
