"""HighwayEnv (the extra ``[highway]``): the ego, and the vehicles around it with their positions in the picture.

HighwayEnv's Kinematics observation is a Box (V,F): row 0 is the ego, the others are vehicles, a column says which rows
exist. With ``order="shuffled"`` it takes the first V-1 vehicles in the order of its list instead of the nearest, drops
the rest without a word, and forgets which row is which vehicle. So here HighwayEnv sorts, the slots are drawn here,
and what is dropped is counted.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from highway_env.envs.common.observation import KinematicObservation

from attn_rl.observation_size import check_slots
from attn_rl.wrappers import EntityBlock
from attn_rl.wrappers.base import Info

CAPACITY = 14
RANGED = ("x", "y", "vx", "vy")
DIRECTIONS = ("cos_h", "sin_h", "cos_d", "sin_d")
LANE_RANGES = {"long_off": [-100, 100], "lat_off": [-4, 4], "ang_off": [-np.pi, np.pi], "heading": [-np.pi, np.pi]}


class TracedKinematics(KinematicObservation):  # type: ignore[misc]  # HighwayEnv has no types
    """HighwayEnv's Kinematics that keeps the vehicles it saw: row i + 1 is ``vehicles[i]``, nearest first.

    They have to be kept at this moment: intersections remove and add vehicles after they have observed. The rows are
    HighwayEnv's, bit for bit, without its DataFrames.
    """

    def observe(self) -> np.ndarray:
        """Return the rows (V,F): the ego's first, then the vehicles', then zeros."""
        ego = self.observer_vehicle
        self.vehicles = self.env.road.close_objects_to(
            ego, self.env.PERCEPTION_DISTANCE, see_behind=self.see_behind, vehicles_only=not self.include_obstacles
        )
        seen = self.vehicles[: self.vehicles_count - 1]
        origin = None if self.absolute else ego
        told = [ego.to_dict(), *(v.to_dict(origin, observe_intentions=self.observe_intentions) for v in seen)]
        columns = {name: np.array([each.get(name, np.nan) for each in told]) for name in self.features}
        if self.normalize:
            columns = self.normalize_obs(columns)
        rows = np.zeros((self.vehicles_count, len(self.features)), np.float32)
        rows[: len(told)] = np.stack([columns[name] for name in self.features], axis=1)
        return rows


class HighwayEntities(gym.Wrapper, RecordConstructorArgs):
    """A HighwayEnv environment with a Kinematics observation, as ``ego`` and ``vehicles``.

    Features are those of the environment's own configuration, normalised to [-1, 1] as HighwayEnv does it. Which
    vehicles are seen is HighwayEnv's rule too: those within ``PERCEPTION_DISTANCE``, and not behind the ego unless the
    configuration says ``see_behind``. Of more than ``capacity`` the nearest along the ego's lane are kept and the
    others counted in ``info["entities_dropped"]["vehicles"]``. The world is the same as without the wrapper: slots are
    drawn from a stream of their own.

    ``info["is_success"]``: the ego arrived, if the environment rewards arriving (intersections); otherwise, the episode
    ended on the road without a crash. Nobody knows which vehicle is relevant: ``relevant()`` is always -1.

    Args:
        env: a HighwayEnv environment, e.g. ``gym.make("highway_env:intersection-v2")``.
        capacity: slots for vehicles; None: 14, or what the environment's configuration observes if that is more.
        order: ``"shuffled"``: new slots at every step; ``"sorted"``: the nearest first.

    Raises:
        ValueError: the environment observes something other than Kinematics.
    """

    min_entities = 0

    def __init__(
        self, env: gym.Env, capacity: int | None = None, order: Literal["shuffled", "sorted"] = "shuffled"
    ) -> None:
        RecordConstructorArgs.__init__(self, capacity=capacity, order=order)
        gym.Wrapper.__init__(self, env)
        if order not in ("shuffled", "sorted"):
            raise ValueError(f"order={order!r}; expected 'shuffled' or 'sorted'")
        observed = _observation_config(self.unwrapped)
        self.max_entities = max(CAPACITY, observed["vehicles_count"] - 1) if capacity is None else capacity
        features = tuple(name for name in observed["features"] if name != "presence")
        check_slots("vehicles", self.max_entities, len(features) + 1)
        self._config = {**observed, "vehicles_count": self.max_entities + 1, "features": ["presence", *features]}
        self._road_env.configure({"observation": self._config})
        self._road_env.define_spaces()
        self.action_space = self.unwrapped.action_space  # HighwayEnv's is replaced at every reset, unseeded
        self._shuffled = order == "shuffled"
        self._in_slot: list[object] = []
        bound = np.array([_bound(name, self._config) for name in features])
        self._block = EntityBlock("vehicles", features, self.max_entities, -bound, bound)
        ego = spaces.Box(-self._block.high, self._block.high, dtype=np.float32)
        self.observation_space = spaces.Dict({"ego": ego, **self._block.spaces})
        names = {"ego": features, "vehicles": features}
        self.metadata = {**env.metadata, "entities": names, "kinds": _kinds(features, bool(observed.get("absolute")))}

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[dict[str, np.ndarray], Info]:
        """Begin an episode; return observation and info."""
        _, info = self.env.reset(seed=seed, options=options)
        # A stream of its own, so that the world stays HighwayEnv's, but begun by the world's: replayed, it is the same.
        self._random = np.random.default_rng(self.np_random.bit_generator.state["state"]["state"])
        self._road_env.observation_type = TracedKinematics(self.unwrapped, **self._config)
        return self._convert(self._traced.observe()), self._told(info, ended=False)

    def step(self, action: object) -> tuple[dict[str, np.ndarray], float, bool, bool, Info]:
        """Drive on; return observation, reward, terminated, truncated and info."""
        rows, reward, terminated, truncated, info = self.env.step(action)
        return self._convert(rows), float(reward), terminated, truncated, self._told(info, terminated or truncated)

    def relevant(self) -> int:
        """Return -1: which vehicle matters is not known."""
        return -1

    def entity_positions(self) -> np.ndarray:
        """Return where each slot's vehicle is in the picture that ``render`` draws now.

        Returns:
            (capacity, 2) float64: x to the right, y upwards, both in [-1, 1] over the whole picture. A vehicle outside
            the picture stands on its border, where the line from the ego to it leaves; NaN where the slot is empty.
        """
        found = np.full((self.max_entities, 2), np.nan)
        for slot, vehicle in enumerate(self._in_slot):
            if vehicle is not None:
                found[slot] = self._in_picture(vehicle)
        return found

    def ego_positions(self) -> np.ndarray:
        """Return where the ego is in the picture: (2,)."""
        return self._in_picture(self._road_env.vehicle)

    @property
    def _road_env(self) -> Any:
        return self.unwrapped

    @property
    def _traced(self) -> TracedKinematics:
        traced: TracedKinematics = self._road_env.observation_type
        return traced

    def _convert(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        vehicles = self._traced.vehicles[: self.max_entities]
        padded = self._block.pad(rows[1 : 1 + len(vehicles), 1:])
        order = self._random.permutation(self.max_entities) if self._shuffled else np.arange(self.max_entities)
        self._in_slot = [vehicles[i] if i < len(vehicles) else None for i in order]
        ego = np.asarray(rows[0, 1:], np.float32)
        return {"ego": ego, "vehicles": padded.x[order], "vehicles_present": padded.present[order]}

    def _told(self, info: Info, ended: bool) -> Info:
        vehicle = self._road_env.vehicle
        intact = not vehicle.crashed and vehicle.on_road
        arrived = info.get("rewards", {}).get("arrived_reward")
        dropped = max(0, len(self._traced.vehicles) - self.max_entities)
        success = bool(intact and (ended if arrived is None else arrived))
        return {"is_success": success, **info, "entities_dropped": {"vehicles": dropped}}

    def _in_picture(self, vehicle: Any) -> np.ndarray:
        """World metres -> picture, as HighwayEnv's viewer does it: the ego stands at ``centering_position``."""
        config = self._road_env.config
        size = np.array([config["screen_width"], config["screen_height"]])
        pixels = (vehicle.position - self._road_env.vehicle.position) * config["scaling"]
        ego = (2 * np.array(config["centering_position"]) - 1) * [1, -1]
        way = 2 * pixels / size * [1, -1]
        room = np.where(way > 0, 1 - ego, 1 + ego)  # from the ego to the border, along each axis
        place: np.ndarray = ego + way * min(1.0, *(room / np.maximum(np.abs(way), 1e-9)))
        return place


def _observation_config(env: Any) -> dict[str, Any]:
    """The environment's Kinematics configuration with all defaults filled in, nearest vehicle first."""
    config = env.config["observation"]
    if config["type"] != "Kinematics":
        raise ValueError(
            f"{type(env).__name__} observes {config['type']!r}; expected 'Kinematics': pass "
            "config={'observation': {'type': 'Kinematics'}} (and one controlled vehicle)"
        )
    defaults = KinematicObservation(env)
    merged = {"features": list(defaults.features), "vehicles_count": defaults.vehicles_count, **config}
    if merged.get("features_range"):
        wanted = {name: span for name, span in LANE_RANGES.items() if name in merged["features"]}
        merged["features_range"] = {**wanted, **merged["features_range"]}
    return {**merged, "order": "sorted"}


def _bound(feature: str, config: dict[str, Any]) -> float:
    """1 if HighwayEnv normalises and clips the feature, or if it is a sine or cosine; otherwise infinity."""
    ranged = feature in (config.get("features_range") or RANGED)
    clipped = ranged and config.get("normalize", True) and config.get("clip", True)
    return 1.0 if clipped or feature in DIRECTIONS else np.inf


def _kinds(features: tuple[str, ...], absolute: bool) -> dict[str, dict[str, tuple[str, ...]]]:
    """Vehicles compare position, velocity and heading: with each other, and with the ego if all are absolute."""
    kinds = {"position": ("x", "y"), "velocity": ("vx", "vy"), "heading": ("cos_h", "sin_h")}
    owners = ("ego", "vehicles") if absolute else ("vehicles",)
    return {kind: dict.fromkeys(owners, group) for kind, group in kinds.items() if set(group) <= set(features)}
