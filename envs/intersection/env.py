"""Intersection: cross a regulated junction among other drivers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from ..core.batched import BatchedEnv
from ..core.drawing import Canvas
from ..core.randomness import RandomStream
from ..core.single import SingleEnv
from ..core.slots import features
from ..core.state import Outcome, State
from ..core.types import FloatArray, IntArray
from . import cautious, lanes, picture
from .arrivals import Arrival, admit, draw_arrival, empty, leaving, normal_pair, put, take_away
from .compiled import play
from .early import EarlyGames
from .observation import FEATURES, INTENTIONS, first_met, in_sight, kinematics

FRAMES = 15  # of a step: fifteen a second, and a decision a second
WARM_UP = 3 * FRAMES
SPEEDS = np.array([0, 4.5, 9])  # that the ego may aim at
REWARDED_SPEED, REWARDED_RANGE = 7.0, 2.0
ARRIVES_AT = 25.0  # metres along the way out
ROOM = 20.0  # metres around the ego that are free at the start
FIRST_PROBABILITY = 0.6  # that each of the first vehicles is there
DESTINATIONS = ("o1", "o2", "o3")
MOST_VEHICLES, LONGEST, MOST_SLOTS = 100, 1000, 1000
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 1_000_000,
    "n_envs": 128,
    "settings": {"gamma": 0.95, "learning_rate": 3e-3, "batch_size": 256},
    "transfer": (
        {"spawn_probability": 0.9, "initial_vehicle_count": 15, "capacity": 21},
        {"spawn_probability": 1.0, "initial_vehicle_count": 20, "capacity": 28},
    ),
}


class IntersectionVectorEnv(BatchedEnv):
    """Turn left at a junction without traffic lights: HighwayEnv's ``intersection-v2``, in NumPy.

    **Description.** Four arms of 100 m meet. You come from the south at 10 m/s and are to leave by
    ``destination`` ("o1" west, "o2" north, "o3" east); steering is done for you. The others follow their lanes and
    the vehicle in front (Intelligent Driver Model), and twice a second those whose ways would cross within three
    seconds are told who yields: west and east go before south and north, left turns last. Nobody makes you yield.
    The rules are those of HighwayEnv 1.12 to the last bit, its peculiarities included; docs/driving.md says what was
    compared and what differs. A step is a second, 15 frames. Vehicle slots are shuffled anew at every step.

    **Entities.** Those vehicles that HighwayEnv's Kinematics observation shows: not more than 10 m behind you along
    your lane, and of more than ``capacity`` the nearest. Features are absolute; x points east and y *south*.

    ========  =================  ==============================================  ============
    block     feature            meaning                                         range
    ========  =================  ==============================================  ============
    ego       x, y               own position / 100 m                            -1 to 1
    ego       vx, vy             own velocity / 20 m/s                           -1 to 1
    ego       cos_h, sin_h       own heading                                     -1 to 1
    vehicles  (the same six)     of another vehicle                              -1 to 1
    both      cos_d, sin_d       with ``observe_intentions``: direction of its   -1 to 1
                                 destination
    ========  =================  ==============================================  ============

    The decisive entity is the vehicle that you would meet first, within three seconds, if you drove 9 m/s and all
    others kept their routes and speeds; none where the way is free.

    **Actions.** ``Discrete(3)``: SLOWER, IDLE, FASTER: aim at the next lower or higher of 0, 4.5 and 9 m/s, counted
    from the one nearest to your speed.

    **Reward.** A step: the speed above 7 m/s, as a share of 2 m/s; -5 for a crash; on arriving, 1 instead; 0 off the
    road. Maximum about 9 on the way to the west. Success rate, crash rate and return:

    ==========================  =======  =====  ======
    policy                      success  crash  return
    ==========================  =======  =====  ======
    random                      .20      .44    1.42
    IDLE                        .56      .44    5.35
    scripted (cautious)         .49      .18    4.83
    ==========================  =======  =====  ======

    **Termination.** On arriving 25 m beyond the junction, or on a crash. Truncated after ``duration`` seconds.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        initial_vehicle_count: as many places at the start, most of which are taken with probability .6.
        spawn_probability: that a vehicle wants to come in, each second.
        destination: "o1", "o2" or "o3".
        duration: seconds until an episode is truncated.
        observe_intentions: also see where everybody is going: the direction to the end of his way, from where he is.
        capacity: slots for vehicles in sight.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET, "render_fps": 2}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        initial_vehicle_count: int = 10,
        spawn_probability: float = 0.6,
        destination: str = "o1",
        duration: int = 13,
        observe_intentions: bool = False,
        capacity: int = 14,
        render_mode: str | None = None,
    ):
        _check("initial_vehicle_count", initial_vehicle_count, 1, MOST_VEHICLES)
        _check("spawn_probability", spawn_probability, 0, 1)
        _check("duration", duration, 1, LONGEST)
        _check("capacity", capacity, 1, MOST_SLOTS)
        if destination not in DESTINATIONS:
            raise ValueError(f"destination={destination!r}; expected one of {DESTINATIONS}: you come from 'o0'")
        self.initial_vehicle_count, self.spawn_probability = initial_vehicle_count, spawn_probability
        self.destination, self.capacity = destination, capacity
        self.min_entities, self.max_entities = 0, capacity
        self._n_places = initial_vehicle_count + duration  # the first, the ego, and one a second after the first
        self.observe_intentions = bool(observe_intentions)
        names = FEATURES + INTENTIONS * self.observe_intentions
        one, minus = [1.0] * len(names), [-1.0] * len(names)
        blocks = {"ego": features(minus, one), "vehicles": features(minus, one, capacity)}
        groups = {"position": FEATURES[:2], "velocity": FEATURES[2:4], "heading": FEATURES[4:6]}
        super().__init__(
            num_envs,
            spaces.Dict({**blocks, "vehicles_present": spaces.MultiBinary(capacity)}),
            spaces.Discrete(len(SPEEDS)),
            max_episode_steps=duration,
            render_mode=render_mode,
            entities=dict.fromkeys(blocks, names),
            kinds={kind: dict.fromkeys(blocks, group) for kind, group in groups.items()},
        )
        self._early = EarlyGames(num_envs, self.begin)

    # ---- an episode ---------------------------------------------------------------------------

    def begin(self, random: RandomStream) -> State:
        state, count = empty(len(random), self._n_places), self.initial_vehicle_count
        for at in np.linspace(0, 80, count)[: count - 1]:
            admit(state, self.draw_arrival(random, at, FIRST_PROBABILITY))
        play(state, WARM_UP)
        challenger = self.draw_arrival(random, 60, 1, (0.1, 0))
        admit(state, challenger._replace(goal=(challenger.origin + 2) % 4))
        self._add_ego(state, self.draw_ego(random))
        state.slots = np.full((len(random), self.capacity), -1)
        state.dropped = np.zeros(len(random), np.int64)
        return state

    def draw_arrival(
        self, random: RandomStream, at: float, probability: float, spread: tuple[float, float] = (1, 1)
    ) -> Arrival:
        """Draw who comes in; replaced where the arrivals of another simulator are replayed."""
        return draw_arrival(random, at, probability, spread)

    def draw_ego(self, random: RandomStream) -> FloatArray:
        """Draw how far along its way in the ego begins, in metres: (n,)."""
        place: FloatArray = 60 + 5 * (1 + normal_pair(random)[:, 0])
        return place

    def _add_ego(self, state: State, s: FloatArray) -> None:
        lane, rows = np.full(len(s), lanes.IN), np.arange(len(s))
        x, y, _, _ = lanes.point(lane, s)
        ego = {"x": x, "y": y, "heading": lanes.HEADING[lane], "lane": lane, "goal": self._goal(len(s))}
        ego |= {"speed": np.full(len(s), lanes.SPEED_LIMIT), "target_speed": np.full(len(s), SPEEDS[-1])}
        state.ego = put(state, rows, ego)
        dx, dy = state.x - x[:, None], state.y - y[:, None]
        others = state.present & (np.arange(state.x.shape[1]) != state.ego[:, None])
        take_away(state, others & (np.sqrt(dx * dx + dy * dy) < ROOM))

    def _goal(self, n: int) -> IntArray:
        return np.full(n, 1 + DESTINATIONS.index(self.destination))

    def _fresh(self, rows: IntArray, random: RandomStream) -> State:
        return self._early.take(rows, self._streams, random)

    def advance(self, state: State, actions: np.ndarray, random: RandomStream) -> Outcome:
        arrival = self.draw_arrival(random, 0, self.spawn_probability)
        later = state.steps > 0  # HighwayEnv clears and lets in after it has observed: before the next step
        take_away(state, leaving(state) & later[:, None])
        admit(state, arrival._replace(comes=arrival.comes & later))
        ego = np.arange(len(actions)), state.ego
        nearest = np.clip(np.round(state.speed[ego] / SPEEDS[-1] * 2), 0, 2).astype(np.int64)
        aim = SPEEDS[np.clip(nearest + actions - 1, 0, 2)]
        state.target_speed[ego] = np.where(actions == 1, state.target_speed[ego], aim)
        self.play_second(state)
        return _outcome(state)

    def play_second(self, state: State) -> None:
        """Play the frames of a step; replaced where they are filmed."""
        play(state, FRAMES)

    # ---- what is seen -------------------------------------------------------------------------

    def shuffle(self, state: State, random: RandomStream) -> None:
        shown, more = in_sight(state, self.capacity)
        state.dropped = state.dropped + more
        order = random.order(shown)[:, : self.capacity]
        state.slots = np.full((len(order), self.capacity), -1)
        there = np.arange(order.shape[1]) < shown.sum(axis=1)[:, None]
        state.slots[:, : order.shape[1]] = np.where(there, order, -1)

    def observe(self, state: State) -> dict[str, np.ndarray]:
        rows, present = np.arange(len(state.x)), state.slots >= 0
        vehicles = kinematics(state, rows[:, None], state.slots, self.observe_intentions)
        vehicles[~present] = 0
        return {
            "ego": kinematics(state, rows, state.ego, self.observe_intentions),
            "vehicles": vehicles,
            "vehicles_present": present.astype(np.int8),
        }

    def relevant_slots(self, state: State) -> IntArray:
        return first_met(state)

    def entity_places(self, state: State) -> FloatArray:
        rows = np.arange(len(state.x))[:, None]
        places = picture.place(state.x[rows, state.slots], state.y[rows, state.slots])
        return np.where(state.slots[..., None] >= 0, places, np.nan)

    def ego_place(self, state: State) -> FloatArray:
        rows = np.arange(len(state.x))
        return picture.place(state.x[rows, state.ego], state.y[rows, state.ego])

    def draw(self, game: State, canvas: Canvas) -> None:
        picture.draw(game, int(self._goal(1)[0]), canvas)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Drive as far as possible where nobody would be, if all others kept their speed: see ``cautious.py``."""
        return cautious.drive(obs, self._goal(len(obs["ego"])))


class IntersectionEnv(SingleEnv):
    """One junction; rules and arguments: :class:`IntersectionVectorEnv`."""

    rules = IntersectionVectorEnv


def _outcome(state: State) -> Outcome:
    ego = np.arange(len(state.x)), state.ego
    lane, speed, crashed = state.lane[ego], state.speed[ego], state.crashed[ego]
    s, r = lanes.coordinates(lane, state.x[ego], state.y[ego])
    arrived = (lane % 5 == lanes.OUT) & (s >= ARRIVES_AT)
    on_road = lanes.is_on(lane, s, r)
    fast = np.clip((speed - REWARDED_SPEED) / REWARDED_RANGE, 0, 1)
    reward = np.where(arrived, 1.0, fast - 5.0 * crashed) * on_road
    scores = {"crashed": crashed.astype(np.float64), "vehicles_dropped": state.dropped.astype(np.float64)}
    return Outcome(reward, crashed | arrived, arrived & ~crashed & on_road, scores)


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}={value}; expected {least} to {most}")
