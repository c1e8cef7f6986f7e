"""What all environments here share: one definition of the rules serves a whole batch and a single game.

To add an environment, write the rules once, as a subclass of :class:`BatchedEnv`, and name the
single environment with a two-line subclass of :class:`attn_rl.envs.core.single.SingleEnv`. See ``envs/seek.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from .drawing import Canvas
from .randomness import EpisodeStreams, RandomStream
from .rules import Rules
from .slots import MOST_BYTES, all_inside
from .state import Outcome, State
from .types import BoolArray, FloatArray, Info, IntArray, Observation

ADVANTAGES_SCALED: Mapping[str, bool] = {"normalize_advantage": True, "normalize_reward": False}
"""PPO's usual scaling, for presets that were tuned and measured with it (``docs/results.md``)."""


class BatchedEnv(Rules, VectorEnv):
    """Rules over arrays, played by ``num_envs`` sub-environments at once. Autoreset: same step.

    A subclass calls ``super().__init__`` with its spaces and defines the methods of ``rules.Rules``.

    Args:
        num_envs: how many games are played side by side.
        observation_space: of one game; a Dict.
        action_space: of one game.
        max_episode_steps: an episode is truncated after so many steps.
        render_mode: None or "rgb_array".
        entities: feature names, block by block, e.g. ``{"ego": ("x",), "items": ("dx", "dy")}``.
        kinds: which features can be compared, as :class:`attn_rl.entities.EntitySpec` takes them.
    """

    metadata: dict[str, Any] = {
        **{"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"], "render_fps": 6}
    }
    batched_methods: ClassVar[frozenset[str]] = frozenset(
        {"relevant", "relevant_past", "entity_positions", "ego_positions", "render", "action_masks", "oracle"}
    )
    """Methods whose result has one row per sub-environment: ``call`` hands each its own."""

    def __init__(
        self,
        num_envs: int,
        observation_space: gym.spaces.Dict,
        action_space: gym.Space[object],
        *,
        max_episode_steps: int,
        render_mode: str | None,
        entities: Mapping[str, tuple[str, ...]],
        kinds: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}; expected 1 or more")
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps={max_episode_steps}; expected 1 or more")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f'render_mode={render_mode!r}; expected None or "rgb_array"')
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        _check_bytes(observation_space, num_envs)
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.max_episode_steps = max_episode_steps
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "entities": dict(entities), "kinds": dict(kinds or {})}
        self._state: State | None = None
        self._streams = EpisodeStreams(num_envs)

    # ---- playing ----------------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, object] | None = None,
    ) -> tuple[Observation, Info]:
        """Begin a new episode in every sub-environment.

        Args:
            seed: s: sub-environment i is seeded s+i; a sequence: one each; None: continue with the next episode.
            options: of environments that have some; others have no use for them.

        Returns:
            Batched observation, infos (``relevant``, ``is_success``).
        """
        one_seed = seed if seed is None or isinstance(seed, (int, np.integer)) else None
        super().reset(seed=None if one_seed is None else int(one_seed))
        self._streams.seed(seed, self.np_random)
        obs = self._begin(np.arange(self.num_envs))
        return obs, self._infos(np.zeros(self.num_envs, bool))

    def step(self, actions: np.ndarray) -> tuple[Observation, FloatArray, BoolArray, BoolArray, Info]:
        """Play one step of each sub-environment; those whose episode ends begin the next one.

        Returns:
            Batched observation (of the new episode where one ended), rewards (n,) float64,
            terminations, truncations, infos. Where an episode ended, ``final_obs`` (an object
            array of observations) and ``final_info`` describe its last state.
        """
        obs, outcome, truncated = self.play(actions)
        done = outcome.terminated | truncated
        infos: Info = {}
        rows = np.flatnonzero(done)
        if len(rows):
            infos = self._final_infos(obs, outcome, rows)
            first = self._begin(rows)
            if len(rows) == self.num_envs:
                obs = first
            else:
                for key, block in obs.items():
                    block[rows] = first[key]
        return obs, outcome.reward, outcome.terminated, truncated, infos | self._infos(np.zeros_like(done))

    def play(self, actions: IntArray) -> tuple[Observation, Outcome, np.ndarray]:
        """Play one step without autoreset; return the observation, the outcome and truncations (n,)."""
        state = self._require_state()
        random = self._streams.current()
        outcome = self.advance(state, self._checked(actions), random)
        state.steps += 1
        self.shuffle(state, random)
        truncated = (state.steps >= self.max_episode_steps) & ~outcome.terminated
        return self.observe(state), outcome, truncated

    def relevant(self) -> IntArray:
        """Return the slot of the decisive entity in the current observation: (num_envs,) int64, -1: none."""
        return self.relevant_slots(self._require_state())

    def relevant_past(self) -> IntArray:
        """Return how many steps ago the decisive entity was seen (0: it is none of the past), and its slot then."""
        return self.relevant_past_slots(self._require_state())

    def observation(self) -> dict[str, np.ndarray]:
        """Return the current observation again, e.g. after ``set_state``."""
        return self.observe(self._require_state())

    def entity_positions(self) -> FloatArray:
        """Return where the entities are in the picture, in current slot order.

        Returns:
            (num_envs, slots, 2) float64: x to the right, y upwards, both in [-1, 1] over the whole
            picture; NaN for an absent slot.
        """
        return self.entity_places(self._require_state())

    def ego_positions(self) -> FloatArray:
        """Return where the ego is in the picture: (num_envs, 2), as ``entity_positions``."""
        return self.ego_place(self._require_state())

    def render(self, indices: Iterable[int] | None = None, size: int = 256) -> tuple[np.ndarray, ...] | None:
        """Draw sub-environments (default: all); None without ``render_mode="rgb_array"``.

        Returns:
            One (size, size, 3) uint8 picture for each of ``indices``.
        """
        if self.render_mode is None:
            gym.logger.warn('render() needs render_mode="rgb_array" when the environment is made')
            return None
        chosen = range(self.num_envs) if indices is None else indices
        return tuple(self._picture(i, size) for i in chosen)

    # ---- attributes of sub-environments, as SyncVectorEnv has them -----------------------------

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method (or read an attribute) and return one result per sub-environment."""
        value = getattr(self, name)
        result = value(*args, **kwargs) if callable(value) else value
        split = name in self.batched_methods and result is not None
        return tuple(result) if split else (result,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute, once per sub-environment."""
        return (getattr(self, name),) * self.num_envs

    def set_attr(self, name: str, values: object) -> None:
        """Set an attribute: the sub-environments share it, so all get the same value."""
        setattr(self, name, values)

    # ---- exact resume --------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return everything the future depends on: arrays and JSON-able values, all copies."""
        games = {f"game.{name}": value.copy() for name, value in self._require_state().arrays()}
        streams = {f"stream.{name}": value.copy() for name, value in vars(self._streams).items()}
        return games | streams | {"np_random": self.np_random.bit_generator.state}

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """Continue exactly where :meth:`get_state` was called.

        Raises:
            ValueError: where the state is of another environment or number of sub-environments.
        """
        games = {k.removeprefix("game."): v.copy() for k, v in saved.items() if k.startswith("game.")}
        self._check_state(games)
        self._state = State(**games)
        for name in vars(self._streams):
            setattr(self._streams, name, saved[f"stream.{name}"].copy())
        self.np_random.bit_generator.state = saved["np_random"]

    # ---- inside ----------------------------------------------------------------------------------

    def _check_state(self, games: Mapping[str, np.ndarray]) -> None:
        fresh = self.begin(RandomStream(np.zeros(self.num_envs, np.uint64)))
        fresh.steps = np.zeros(self.num_envs, np.int64)
        expected = {name: value.shape for name, value in fresh.arrays()}
        got = {name: value.shape for name, value in games.items()}
        if got != expected:
            raise ValueError(
                f"the saved state does not fit {type(self).__name__}: got {got}, expected {expected}; "
                "make the environment with the number of sub-environments and the arguments it was saved with"
            )

    def _require_state(self) -> State:
        if self._state is None:
            raise gym.error.ResetNeeded("call reset() first: no episode has begun")
        return self._state

    def _checked(self, actions: IntArray) -> np.ndarray:
        actions = np.asarray(actions)
        expected = (self.num_envs, *(self.single_action_space.shape or ()))
        if actions.shape != expected:
            raise ValueError(f"actions have shape {actions.shape}; expected {expected}")
        if not all_inside(self.single_action_space, actions):
            raise ValueError(f"an action is outside {self.single_action_space}: {actions}")
        return actions

    def _begin(self, rows: IntArray) -> Observation:
        """Begin the next episode of the given sub-environments; return their first observations."""
        random = self._streams.next_episode(rows)
        fresh = self._fresh(rows, random)
        fresh.steps = np.zeros(len(rows), np.int64)
        self.shuffle(fresh, random)
        self._streams.store(rows, random)
        if self._state is None or len(rows) == self.num_envs:
            self._state = fresh
        else:
            for name, value in fresh.arrays():
                getattr(self._state, name)[rows] = value
        return self.observe(fresh)

    def _fresh(self, rows: IntArray, random: RandomStream) -> State:
        """Return the new games of some sub-environments; where ``begin`` is dear, more can be begun than are needed."""
        return self.begin(random)

    def _infos(self, success: BoolArray) -> Info:
        everywhere = np.ones(self.num_envs, bool)
        return {
            "is_success": success,
            "_is_success": everywhere,
            "relevant": self.relevant(),
            "_relevant": everywhere.copy(),
        }

    def _final_infos(self, obs: Observation, outcome: Outcome, rows: IntArray) -> Info:
        ended = np.zeros(self.num_envs, bool)
        ended[rows] = True
        final_obs = np.full(self.num_envs, None, dtype=object)
        final_obs[rows] = [
            dict(zip(obs, parts, strict=True)) for parts in zip(*(block[rows] for block in obs.values()), strict=True)
        ]
        final_info = self._infos(outcome.success & ended) | dict(outcome.scores)
        masks = {f"_{name}": ended.copy() for name in ("is_success", "relevant", *outcome.scores)}
        return {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": final_info | masks,
            "_final_info": ended.copy(),
        }

    def _picture(self, i: int, size: int) -> np.ndarray:
        canvas = Canvas(size)
        self.draw(self._require_state().row(i), canvas)
        return canvas.pixels()


def _check_bytes(space: gym.spaces.Dict, num_envs: int) -> None:
    one = sum(math.prod(part.shape or ()) * np.dtype(part.dtype).itemsize for part in space.spaces.values())
    if one * num_envs > MOST_BYTES:
        raise ValueError(
            f"num_envs={num_envs:,} observations of {one:,} bytes are {one * num_envs:,}; expected at most "
            f"{MOST_BYTES:,}: fewer environments or slots (capacity)"
        )
