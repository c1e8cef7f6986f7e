"""Does Intersection-v0 drive as HighwayEnv's intersection-v2 does? One command, about a second an episode::

    pip install -e ".[highway]"
    python -m benchmarks.intersection_parity --episodes 200      # for each of three drivers: docs/driving.md

HighwayEnv plays an episode; everything it draws at random (who arrives, where, how fast, and the ego's place) is noted.
The same draws and the same actions go into Intersection-v0. At the start and after every step, each vehicle's position,
heading and speed must agree to 1e-6, and so must rewards and what is observed; crashes and the end of the episode must
be equal. Prints how many of the episodes agree.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from attn_rl.envs.core.randomness import RandomStream
from attn_rl.envs.core.state import State
from attn_rl.envs.intersection import IntersectionVectorEnv
from attn_rl.envs.intersection.arrivals import Arrival

from benchmarks.intersection import observed_intentions

ENV_ID = "highway_env:intersection-v2"
INITIAL_ARRIVALS = 10
TOLERANCE = 1e-6
IDLE = 1
Driver = Callable[[dict[str, np.ndarray], np.random.Generator], int]


class NotedGenerator:
    """A NumPy generator that keeps what it drew, as (method, value); draws with a range are called ``between``."""

    def __init__(self, generator: np.random.Generator):
        self._generator = generator
        self.drawn: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._generator, name)
        if name.startswith("_") or not callable(method):
            return method

        def draw(*args: Any, **kwargs: Any) -> Any:
            value = method(*args, **kwargs)
            self.drawn.append(("between" if "low" in kwargs else name, value))
            return value

        return draw


class Episode(NamedTuple):
    """What HighwayEnv drew, was told and did."""

    arrivals: list[tuple[bool, int, int, float, float, float]]
    """The fields of ``Arrival``: ten before the first step, one after each."""
    ego_s: float
    actions: list[int]
    vehicles: list[np.ndarray]
    """At the start and after each step (before anybody leaves): (V, 4), x, y, heading, speed."""
    observations: list[np.ndarray]
    rewards: list[float]
    crashed: list[bool]
    ended: list[bool]


def idle(obs: dict[str, np.ndarray], random: np.random.Generator) -> int:
    """Keep the speed."""
    return IDLE


def chance(obs: dict[str, np.ndarray], random: np.random.Generator) -> int:
    """Any action."""
    return int(random.integers(3))


def scripted(obs: dict[str, np.ndarray], random: np.random.Generator) -> int:
    """The cautious driver of Intersection-v0."""
    return int(IntersectionVectorEnv().oracle({key: block[None] for key, block in obs.items()})[0])


DRIVERS: dict[str, Driver] = {"idle": idle, "random": chance, "cautious": scripted}


def as_entities(rows: np.ndarray) -> dict[str, np.ndarray]:
    """HighwayEnv's Kinematics rows as Intersection-v0 shows them."""
    return {"ego": rows[0, 1:], "vehicles": rows[1:, 1:], "vehicles_present": rows[1:, 0].astype(np.int8)}


def read_arrival(drawn: list[tuple[str, Any]], probability: float, at: float, spread: tuple[float, float]) -> tuple:
    """Take the draws of one of HighwayEnv's ``_spawn_vehicle`` off the list."""
    if drawn.pop(0)[1] > probability:
        return False, 0, 1, 0.0, 8.0, 4.0
    origin, goal = (int(arm) for arm in drawn.pop(0)[1])
    place, speed = at + 5 + drawn.pop(0)[1] * spread[0], 8 + drawn.pop(0)[1] * spread[1]
    delta = drawn.pop(0)[1] if drawn and drawn[0][0] == "between" else 4.0  # refused: it never gets one
    return True, origin, goal, place, speed, delta


def read_start(drawn: list[tuple[str, Any]]) -> tuple[list[tuple], float]:
    """Take the draws of a reset off the list: ten arrivals, and the ego's place."""
    count = INITIAL_ARRIVALS
    arrivals = [read_arrival(drawn, 0.6, at, (1, 1)) for at in np.linspace(0, 80, count)[: count - 1]]
    challenger = read_arrival(drawn, 1.0, 60, (0.1, 0))
    arrivals.append((*challenger[:2], (challenger[1] + 2) % 4, *challenger[3:]))
    return arrivals, 60 + 5 * drawn.pop(0)[1]


class NotedRoad:
    """HighwayEnv's intersection with its draws noted, and its vehicles as they are before some are taken away."""

    def __init__(self) -> None:
        self.env = gym.make(ENV_ID, config=observed_intentions())
        self.road_env: Any = self.env.unwrapped
        self._make_road, self._clear = self.road_env._make_road, self.road_env._clear_vehicles
        self.road_env._make_road, self.road_env._clear_vehicles = self._note_draws, self._note_vehicles

    def _note_draws(self) -> None:
        self.generator = NotedGenerator(self.road_env._np_random)
        self.road_env._np_random = self.generator
        self._make_road()

    def _note_vehicles(self) -> None:
        self.vehicles = self._look()
        self._clear()

    def _look(self) -> np.ndarray:
        return np.array([(*v.position, v.heading, v.speed) for v in self.road_env.road.vehicles])

    def play(self, driver: Driver, seed: int) -> Episode:
        """Play one episode."""
        random = np.random.default_rng(seed)
        rows, _ = self.env.reset(seed=seed)
        arrivals, ego_s = read_start(self.generator.drawn)
        episode = Episode(arrivals, ego_s, [], [self._look()], [rows], [], [], [])
        ended = False
        while not ended:
            episode.actions.append(driver(as_entities(rows), random))
            rows, reward, terminated, truncated, info = self.env.step(episode.actions[-1])
            arrivals.append(read_arrival(self.generator.drawn, 0.6, 0, (1, 1)))
            ended = terminated or truncated
            episode.vehicles.append(self.vehicles)
            for noted, value in zip(episode[4:], (rows, reward, info["crashed"], ended), strict=True):
                noted.append(value)
        return episode


class ReplayedIntersection(IntersectionVectorEnv):
    """Intersection-v0 with the draws of noted episodes, one a row."""

    def __init__(self, episodes: list[Episode]):
        super().__init__(len(episodes), observe_intentions=True)
        self._episodes, self._n_drawn = episodes, 0

    def draw_arrival(self, random: RandomStream, *args: Any, **kwargs: Any) -> Arrival:
        """The next noted arrival of each episode; nobody after its end. What the first step draws does not count."""
        i = self._n_drawn - (self._n_drawn > INITIAL_ARRIVALS)
        self._n_drawn += 1
        nobody = (False, 0, 1, 0.0, 8.0, 4.0)
        drawn = [e.arrivals[i] if i < len(e.arrivals) else nobody for e in self._episodes]
        return Arrival(*(np.array(part) for part in zip(*drawn, strict=True)))

    def draw_ego(self, random: RandomStream) -> np.ndarray:
        """The noted places."""
        return np.array([e.ego_s for e in self._episodes])

    def _fresh(self, rows: np.ndarray, random: RandomStream) -> State:
        return self.begin(random)

    def vehicles(self, row: int) -> np.ndarray:
        """As ``Episode.vehicles``."""
        game = self._require_state().row(row)
        return np.stack([game.x, game.y, game.heading, game.speed], axis=1)[game.present]


def _differs(env: ReplayedIntersection, row: int, episode: Episode, step: int, obs: dict[str, np.ndarray]) -> str:
    """What differs after a step; nothing: an empty text."""
    mine, theirs = env.vehicles(row), episode.vehicles[step]
    if len(mine) != len(theirs):
        return f"{len(mine)} vehicles instead of {len(theirs)}"
    gap = np.abs(mine - theirs).max()
    if not gap <= TOLERANCE:
        return f"vehicles differ by {gap:.1e}"
    seen = episode.observations[step]
    rows = np.concatenate([obs["ego"][row, None], obs["vehicles"][row][obs["vehicles_present"][row] > 0]])
    expected = seen[seen[:, 0] > 0, 1:]
    if rows.shape != expected.shape:
        return f"{len(rows)} rows observed instead of {len(expected)}"
    mine, theirs = (part[np.argsort(part[:, :2] @ [1, 0.3137])] for part in (rows, expected))  # slots are shuffled
    gap = np.abs(mine - theirs).max()
    return "" if gap <= 2 * TOLERANCE else f"observations differ by {gap:.1e}"


def compare(episodes: list[Episode]) -> list[str]:
    """Replay noted episodes; return for each where it first differs, or an empty text."""
    env = ReplayedIntersection(episodes)
    obs, _ = env.reset(seed=0)
    faults = [_differs(env, row, episode, 0, obs) for row, episode in enumerate(episodes)]
    faults = [f"at the start, {fault}" if fault else "" for fault in faults]
    for step in range(1, 1 + max(len(e.actions) for e in episodes)):
        actions = np.array([e.actions[step - 1] if step <= len(e.actions) else IDLE for e in episodes])
        obs, outcome, truncated = env.play(actions)
        for row, episode in enumerate(episodes):
            if step > len(episode.actions) or faults[row]:
                continue
            fault = _differs(env, row, episode, step, obs)
            reward, i = episode.rewards[step - 1], step - 1
            if abs(outcome.reward[row] - reward) > TOLERANCE:
                fault = fault or f"reward {outcome.reward[row]} instead of {reward}"
            mine = bool(outcome.scores["crashed"][row]), bool(outcome.terminated[row] | truncated[row])
            if mine != (episode.crashed[i], episode.ended[i]):
                fault = fault or f"crashed, ended {mine} instead of {(episode.crashed[i], episode.ended[i])}"
            faults[row] = f"after step {step}, {fault}" if fault else ""
    return faults


def main(arguments: argparse.Namespace) -> None:
    """Print k/N for each driver."""
    road = NotedRoad()
    print("| driver | steps | crashes | episodes that agree |\n|---|---:|---:|---:|")
    for name in arguments.drivers:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.episodes)
        episodes = [road.play(DRIVERS[name], seed) for seed in seeds]
        faults = compare(episodes)
        steps, crashes = sum(len(e.actions) for e in episodes), sum(e.crashed[-1] for e in episodes)
        print(f"| {name} | {steps:,} | {crashes} | {faults.count('')}/{len(episodes)} |", flush=True)
        for seed, fault in zip(seeds, faults, strict=True):
            if fault:
                print(f"    seed {seed}: {fault}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200, help="of each driver")
    parser.add_argument("--drivers", nargs="+", default=list(DRIVERS), choices=DRIVERS)
    parser.add_argument("--first-seed", type=int, default=0)
    main(parser.parse_args())
