"""Intersection-v0 against the installed HighwayEnv: a few episodes of benchmarks/intersection_parity.py."""

import pytest

pytest.importorskip("highway_env", reason="needs HighwayEnv: pip install -e '.[highway]'")

from benchmarks.intersection_parity import DRIVERS, INITIAL_ARRIVALS, Episode, NotedRoad, compare


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    road = NotedRoad()
    return [road.play(driver, seed) for seed, driver in enumerate(DRIVERS.values())]


def test_every_vehicle_is_where_highway_env_has_it_until_the_end(episodes: list[Episode]):
    assert compare(episodes) == [""] * len(DRIVERS)


def test_another_action_or_arrival_is_noticed(episodes: list[Episode]):
    braked = episodes[0]._replace(actions=[0, *episodes[0].actions[1:]])
    coming = next(i for i, arrival in enumerate(episodes[1].arrivals[:INITIAL_ARRIVALS]) if arrival[0])
    arrivals = list(episodes[1].arrivals)
    arrivals[coming] = (*arrivals[coming][:3], arrivals[coming][3] + 1e-4, *arrivals[coming][4:])
    faults = compare([braked, episodes[1]._replace(arrivals=arrivals)])
    assert faults[0].startswith("after step 1, vehicles differ by")
    assert faults[1].startswith("at the start, ")
