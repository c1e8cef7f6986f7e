"""Route: visit every city once and come home, by a short way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.drawing import BAD, FLOOR, GOOD, INK, LINE, PAPER, Canvas
from .core.geometry import length
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import check_counts, features, reorder
from .core.state import Outcome, State
from .core.types import BoolArray, FloatArray, Info, IntArray, Observation
from .tours import MAX_EXACT, greedy_length, require_solver, shortest_way

EGO = ("x", "y", "home_x", "home_y", "left")
CITY = ("x", "y", "dx", "dy", "distance", "visited")
SIDE = 2.0
SCALE = 0.9  # the map's share of the picture
SYMMETRIES = {"square": {"ego": (EGO[:2], EGO[2:4]), "cities": (CITY[:2], CITY[2:4])}}
PRESET = {"settings": {**ADVANTAGES_SCALED, "pointer": "cities", "gamma": 1.0}, "transfer": (12,)}


class RouteVectorEnv(BatchedEnv):
    """Visit every city once, then return to where you began: the travelling salesman's problem.

    **Description.** Cities lie at random in [-1, 1] x [-1, 1]; you begin in one of them. Every step takes
    you to the city that you point at; from the last one you go home in the same step. Visited
    cities stay in sight, masked, and slots are shuffled anew at every step.

    **Entities.**

    ========  ==============  ====================================  ============
    block     feature         meaning                               range
    ========  ==============  ====================================  ============
    ego       x, y            where you are                         -1 to 1
    ego       home_x, home_y  where you began                       -1 to 1
    ego       left            share of the cities still to visit    0 to 1
    cities    x, y            position                              -1 to 1
    cities    dx, dy          position relative to you              -2 to 2
    cities    distance        length of (dx, dy)                    0 to 2.83
    cities    visited         1 = visited                           0 or 1
    ========  ==============  ====================================  ============

    **Actions.** ``Discrete(capacity)``: go to the city in this slot. ``action_mask`` (in the
    observation, and from ``action_masks()``) is 1 for the cities still to visit. An invalid choice,
    a visited city or an empty slot, takes you to the *farthest* city still to visit.

    **Reward.** Minus the distance travelled / (2 sqrt(cities)), so that the shortest tour returns about
    -.9 at any number of cities. Maximum: the shortest tour; it differs from game to game. The last info of
    an episode tells the ``tour_length`` and, with ``report_gap=True``, the ``gap``: how much
    longer than the shortest tour, as a share of it. ``is_success``: no longer than the greedy tour
    (always to the nearest city).

    ==============================  ======  ====  =======
    policy, at 5 to 10 cities       return  gap   success
    ==============================  ======  ====  =======
    random slot                     -1.58   .72   .01
    random among cities unvisited   -1.42   .55   .06
    greedy                          -.99    .08   1.00
    scripted (shortest way)         -.92    0     1.00
    ==============================  ======  ====  =======

    **Instances.** ``reset(options={"cities": cities})`` plays given ones, the first in the first sub-environment;
    ``attn_rl.envs.tours.kool_cities`` regenerates a published test set. Later episodes are random again.

    **Termination.** When all cities are visited, after one step less than there are cities. Never truncated.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest cities (at least 2).
        max_entities: most cities.
        capacity: city slots; None: ``max_entities``.
        report_gap: compare every tour with the shortest one, found exactly for up to 12 cities. More
            need the package fast-tsp, and some hundredths of a second for each tour. ``attn_rl.train`` does so when it
            evaluates, not while it trains.
        render_mode: None or "rgb_array".
    """

    metadata = {
        **BatchedEnv.metadata,
        "preset": PRESET,
        "evaluation_only": ("report_gap",),
        "symmetries": SYMMETRIES,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 5,
        max_entities: int = 10,
        capacity: int | None = None,
        report_gap: bool = False,
        render_mode: str | None = None,
    ):
        self.capacity = check_counts(min_entities, max_entities, capacity, least=2)
        self.min_entities, self.max_entities = min_entities, max_entities
        if report_gap and max_entities > MAX_EXACT + 1:
            require_solver(f"report_gap=True with max_entities={max_entities} (above {MAX_EXACT + 1})")
        self.report_gap = report_gap
        observation_space = spaces.Dict(
            {
                "action_mask": spaces.MultiBinary(self.capacity),
                "cities": features([-1, -1, -2, -2, 0, 0], [1, 1, 2, 2, np.sqrt(8), 1], self.capacity),
                "cities_present": spaces.MultiBinary(self.capacity),
                "ego": features([-1, -1, -1, -1, 0], [1] * 5),
            }
        )
        super().__init__(
            num_envs,
            observation_space,
            spaces.Discrete(self.capacity),
            max_episode_steps=max_entities,
            render_mode=render_mode,
            entities={"ego": EGO, "cities": CITY},
            kinds={"position": {"ego": (EGO[:2], EGO[2:4]), "cities": CITY[:2]}},
        )

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, object] | None = None
    ) -> tuple[Observation, Info]:
        """Begin a new episode in every sub-environment.

        Args:
            seed: as for every environment here.
            options: ``{"cities": positions}``, (num_envs, cities, 2) in [-1, 1]: play these, from the first of each.

        Raises:
            ValueError: positions of another shape or outside the square.
        """
        obs, infos = super().reset(seed=seed, options=options)
        if not options or "cities" not in options:
            return obs, infos
        cities = np.asarray(options["cities"], np.float64)
        fits = cities.ndim == 3 and 2 <= cities.shape[1] <= self.capacity
        if not fits or cities.shape != (self.num_envs, cities.shape[1], 2) or not (np.abs(cities) <= 1).all():
            raise ValueError(
                f"cities have shape {cities.shape} (games, cities, 2); expected {self.num_envs} games, one for each "
                f"sub-environment, of 2 to {self.capacity} cities in [-1, 1] x [-1, 1]"
            )
        position = np.zeros((self.num_envs, self.capacity, 2))
        position[:, : cities.shape[1]] = cities
        self._state = _fresh(position, np.tile(np.arange(self.capacity) < cities.shape[1], (self.num_envs, 1)))
        self._state.steps = np.zeros(self.num_envs, np.int64)
        self.shuffle(self._state, self._streams.current())
        return self.observe(self._state), self._infos(np.zeros(self.num_envs, bool))

    def begin(self, random: RandomStream) -> State:
        present = np.arange(self.capacity) < random.integers(1, self.min_entities, self.max_entities + 1)
        position = random.uniform(2 * self.capacity, -1, 1).reshape(-1, self.capacity, 2)
        return _fresh(position * present[..., None], present)

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        rows = np.arange(len(actions))
        open_ = self._open(state)
        away = length(state.position - state.position[rows, state.here, None])
        farthest = np.argmax(np.where(open_, away, -1.0), axis=-1)
        goal = np.where(open_[rows, actions], actions, farthest)
        last = open_.sum(axis=-1) == 1
        home = length(state.position[rows, goal] - state.position[rows, state.home])
        leg = away[rows, goal] + np.where(last, home, 0.0)
        state.here = goal
        state.turn[rows, goal] = state.turn.max(axis=-1) + 1
        state.length += leg
        reward = -leg / (SIDE * np.sqrt(state.present.sum(axis=-1)))
        return Outcome(reward, last, last & (state.length <= state.greedy + 1e-9), self._scores(state, last))

    def _open(self, state: State) -> BoolArray:
        """Return which cities are still to visit, (n, N) bool."""
        open_: BoolArray = state.present & (state.turn < 0)
        return open_

    def _scores(self, state: State, done: BoolArray) -> dict[str, np.ndarray]:
        scores = {"tour_length": state.length.copy()}
        if self.report_gap:
            gap = np.zeros(len(done))
            ended = np.flatnonzero(done)
            if len(ended):
                gap[ended] = state.length[ended] / self._shortest(state, ended) - 1
            scores["gap"] = gap
        return scores

    def _shortest(self, state: State, rows: IntArray) -> FloatArray:
        """Return the lengths of the shortest tours of some games."""
        home, left = state.home[rows], state.present[rows].copy()
        left[np.arange(len(rows)), home] = False
        return shortest_way(_distances(state.position[rows]), home, home, left)[0]

    def shuffle(self, state: State, random: RandomStream) -> None:
        order = random.order(state.present)
        reorder(state, order, ("present", "position", "turn"), slots=("here", "home"))

    def observe(self, state: State) -> dict[str, np.ndarray]:
        rows = np.arange(len(state.here))
        here, home = state.position[rows, state.here], state.position[rows, state.home]
        relative = state.position - here[:, None]
        visited = (state.turn >= 0)[..., None]
        cities = [state.position, relative, length(relative)[..., None], visited]
        open_ = self._open(state)
        left = open_.sum(axis=-1) / state.present.sum(axis=-1)
        return {
            "action_mask": open_.astype(np.int8),
            "cities": np.concatenate(cities, axis=-1, dtype=np.float32) * state.present[..., None],
            "cities_present": state.present.astype(np.int8),
            "ego": np.concatenate([here, home, left[:, None]], axis=-1, dtype=np.float32),
        }

    def action_masks(self) -> BoolArray:
        """Return which actions are valid now: (num_envs, capacity) bool, as MaskablePPO asks for it."""
        return self._open(self._require_state())

    def entity_places(self, state: State) -> FloatArray:
        return np.where(state.present[..., None], SCALE * state.position, np.nan)

    def ego_place(self, state: State) -> FloatArray:
        place: FloatArray = SCALE * state.position[np.arange(len(state.here)), state.here]
        return place

    def draw(self, game: State, canvas: Canvas) -> None:
        canvas.box((0, 0), (0.985, 0.985), FLOOR, outline=LINE, corner=0.06)
        position, visited = SCALE * game.position, game.turn >= 0
        way = [slot for _, slot in sorted((game.turn[slot], slot) for slot in np.flatnonzero(visited))]
        if visited[game.present].all():
            way.append(game.home)
        if len(way) > 1:
            canvas.line(position[way], BAD, width=0.022)
        for slot in np.flatnonzero(game.present):
            canvas.disc(position[slot], 0.045, LINE if visited[slot] else INK, outline=PAPER)
        canvas.box(position[game.home], (0.06, 0.06), GOOD, corner=0.015)
        canvas.ring(position[game.here], 0.095, BAD, width=0.02)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Go the shortest way; with more than 12 cities this needs the package fast-tsp."""
        position = obs["cities"][..., :2].astype(np.float64)
        here, home = (_slot_at(obs, obs["ego"][:, i : i + 2]) for i in (0, 2))
        return shortest_way(_distances(position), here, home, obs["action_mask"].astype(bool))[1]


class RouteEnv(SingleEnv):
    """One game of Route; rules and arguments: :class:`RouteVectorEnv`."""

    rules = RouteVectorEnv

    @property
    def report_gap(self) -> bool:
        """Whether tours are compared with the shortest one; may be changed between steps."""
        return bool(self.batch.get_attr("report_gap")[0])

    @report_gap.setter
    def report_gap(self, value: bool) -> None:
        self.batch.set_attr("report_gap", value)

    def action_masks(self) -> BoolArray:
        """Return which actions are valid now: (capacity,) bool."""
        masks: BoolArray = self.batch.call("action_masks")[0]
        return masks


def _fresh(position: FloatArray, present: BoolArray) -> State:
    """Return games that begin in the first slot's city: position (n, N, 2), present (n, N)."""
    turn = np.full(present.shape, -1)  # when a city was visited; -1: not yet
    turn[:, 0] = 0
    first = np.zeros(len(present), np.int64)
    return State(
        present=present,
        position=position,
        turn=turn,
        here=first,
        home=first.copy(),
        length=np.zeros(len(present)),
        greedy=greedy_length(_distances(position), first, present),
    )


def _distances(position: FloatArray) -> FloatArray:
    """Return the (n, N, N) distances between (n, N, 2) positions."""
    return length(position[:, :, None] - position[:, None])


def _slot_at(obs: Mapping[str, np.ndarray], place: FloatArray) -> IntArray:
    """Return the slot of the city at a place, (n,)."""
    same = (obs["cities"][..., :2] == place[:, None]).all(axis=-1) & obs["cities_present"].astype(bool)
    slots: IntArray = np.argmax(same, axis=-1)
    return slots
