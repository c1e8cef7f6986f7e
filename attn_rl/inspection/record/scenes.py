"""The states that attention is looked at in: fixed probe scenes, and an episode of the policy itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import gymnasium as gym
import numpy as np

from attn_rl.entities import ACTION_MASK
from attn_rl.inspection.record.frame import Picture

PROBE_SEED = 1_000_003
RANDOM_STEPS = 8


@dataclass
class Scenes:
    """States of an environment and what it says about them; S states, N slots.

    Attributes:
        obs: observations, key by key, with leading S ("" for a bare array).
        scene: number of the scene that a state belongs to (S,): a single state, or several in order of time.
        time: step within the scene (S,).
        frame: picture of each state, or None where it was not drawn (length S).
        positions: where the slots are in the picture (S,N,2): x right, y up, both in [-1,1]; NaN = unknown or absent.
        ego: where the ego is (S,2), NaN = unknown.
        relevant: slot of the entity that matters (S,), -1 = nobody knows.
        reward: what the action taken there brought (S,), NaN where none was taken.
    """

    obs: dict[str, np.ndarray]
    scene: np.ndarray
    time: np.ndarray
    frame: list[Picture | None]
    positions: np.ndarray
    ego: np.ndarray
    relevant: np.ndarray
    reward: np.ndarray

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def episode_states(self) -> np.ndarray:
        """Which states are steps of an episode that was played."""
        return np.flatnonzero(~np.isnan(self.reward))

    def batch(self) -> Any:
        """The observations as ``predict`` takes them."""
        return self.obs[""] if set(self.obs) == {""} else self.obs


def probe_scenes(
    env: gym.Env, n_slots: int, n_scenes: int = 64, n_pictures: int = 12, seed: int = PROBE_SEED
) -> Scenes:
    """Collect the same states every time: scene i starts from seed ``seed + i`` and a few random steps.

    Random numbers come from the environment's own streams and a private generator; no global stream moves.

    Args:
        env: a single environment that nobody else uses, with ``render_mode="rgb_array"`` for pictures.
        n_slots: entity slots N in an observation.
        n_scenes: how many states S.
        n_pictures: how many of them are rendered.
        seed: of the first scene.
    """
    states = [probe_state(env, seed + i, n_slots, picture=i < n_pictures) for i in range(n_scenes)]
    for i, state in enumerate(states):
        state.scene[:] = i
    return join(states)


def play_episode(
    act: Callable[[Any], Any],
    env: gym.Env,
    n_slots: int,
    scene: int,
    *,
    seed: int = PROBE_SEED,
    max_steps: int = 48,
) -> Scenes:
    """Let a policy play one episode and keep every state that it acted in.

    Args:
        act: observation -> action, called exactly once per state.
        env: as for :func:`probe_scenes`.
        n_slots: entity slots N.
        scene: number of this scene.
        seed: of the episode.
        max_steps: stop here at the latest.
    """
    obs, info = env.reset(seed=seed)
    states = []
    for time in range(max_steps):
        state = _state(env, obs, info, n_slots, picture=True)
        obs, reward, terminated, truncated, info = env.step(act(obs))
        state.scene[:], state.time[:], state.reward[:] = scene, time, float(reward)
        states.append(state)
        if terminated or truncated:
            break
    return join(states)


def join(parts: list[Scenes]) -> Scenes:
    """Put states one after another."""
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Scenes)
        if field.name not in ("obs", "frame")
    }
    obs = {key: np.concatenate([part.obs[key] for part in parts]) for key in parts[0].obs}
    return Scenes(obs=obs, frame=[frame for part in parts for frame in part.frame], **joined)


def probe_state(env: gym.Env, seed: int, n_slots: int, *, picture: bool) -> Scenes:
    """A single state after up to RANDOM_STEPS random steps, the last one before the episode would have ended."""
    n_steps = int(np.random.default_rng(seed).integers(RANDOM_STEPS + 1))
    while True:
        random = np.random.default_rng(seed)
        env.action_space.seed(seed)
        obs, info = env.reset(seed=seed)
        played = 0
        for played in range(n_steps):  # noqa: B007 (read after the loop)
            obs, _, terminated, truncated, info = env.step(_random_action(env, obs, random))
            if terminated or truncated:
                break
        else:
            return _state(env, obs, info, n_slots, picture)
        n_steps = played  # one step less than what ended it


def _random_action(env: gym.Env, obs: object, random: np.random.Generator) -> object:
    space = env.action_space
    if not (isinstance(obs, Mapping) and ACTION_MASK in obs):
        return space.sample()
    sizes = [int(space.n)] if isinstance(space, gym.spaces.Discrete) else space.nvec.tolist()  # type: ignore[attr-defined]
    valid = [np.flatnonzero(part) for part in np.split(np.asarray(obs[ACTION_MASK]), np.cumsum(sizes)[:-1])]
    chosen = np.array([random.choice(choices) if len(choices) else 0 for choices in valid])
    return int(chosen[0]) if isinstance(space, gym.spaces.Discrete) else chosen


def _state(env: gym.Env, obs: object, info: Mapping[str, Any], n_slots: int, picture: bool) -> Scenes:
    blocks = obs if isinstance(obs, Mapping) else {"": obs}
    return Scenes(
        obs={key: np.array(block)[None] for key, block in blocks.items()},
        scene=np.zeros(1, int),
        time=np.zeros(1, int),
        frame=[_frame(env) if picture else None],
        positions=_ask(env, "entity_positions", np.full((n_slots, 2), np.nan))[None],
        ego=_ask(env, "ego_positions", np.full(2, np.nan))[None],
        relevant=np.array([int(info["relevant"] if "relevant" in info else _ask(env, "relevant", np.array(-1)))]),
        reward=np.full(1, np.nan),
    )


def _ask(env: gym.Env, method: str, unknown: np.ndarray) -> np.ndarray:
    return np.array(env.get_wrapper_attr(method)(), float) if env.has_wrapper_attr(method) else unknown


def _frame(env: gym.Env) -> Picture | None:
    frame = env.render() if env.render_mode == "rgb_array" else None
    return Picture(frame) if isinstance(frame, np.ndarray) else None
