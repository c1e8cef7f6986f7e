"""A single environment whose running episode can be restored; its observations are checked before SB3 casts them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from attn_rl.vec_envs.observation_form import check_form
from attn_rl.wrappers.base import Info


@runtime_checkable
class Resumable(Protocol):
    """An environment that can tell what its future depends on, and go on from there."""

    def get_state(self) -> dict[str, Any]:
        """Return arrays and JSON-able values."""

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """Go on where :meth:`get_state` was called."""


class ReplayableEnv(gym.Wrapper, RecordConstructorArgs):
    """Remember how the running episode began and which actions followed, so that a replay restores it.

    An episode begins from a seed, or from the generator as the last one left it (``np_random``; an environment with
    ``get_state`` gives more). Restoring starts there, replays the actions and compares the observation. If that
    differs, because the environment depends on anything else, a new episode begins, and the caller is told so. Wrappers
    inside (``TimeLimit``, ``Monitor``) are put back by the replay as well.

    The form of observations is checked here (:mod:`attn_rl.vec_envs.observation_form`): ``DummyVecEnv`` would cast and
    broadcast it away.
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self.index = 0
        self._begun: dict[str, Any] | None = None
        self._actions: list[np.ndarray] = []
        self._obs: object = None

    def reset(self, *, seed: int | None = None, options: dict[str, object] | None = None) -> tuple[Any, Info]:
        """Begin an episode and remember how."""
        begun = {"options": options} | ({"source": self._source()} if seed is None else {"seed": int(seed)})
        obs, info = self.env.reset(seed=seed, options=options)
        self._begun, self._actions = begun, []
        self._obs = self._checked(obs)
        return obs, info

    def step(self, action: object) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        """Step and remember the action."""
        obs, *rest = self.env.step(action)
        self._actions.append(np.array(action))
        self._obs = self._checked(obs)
        return obs, *rest

    def get_state(self) -> dict[str, Any]:
        """Return how the episode began, the actions since, and a hash of the current observation."""
        actions = np.stack(self._actions) if self._actions else np.zeros(0)
        return {"begun": self._begun, "actions": actions, "seen": digest(self._obs)}

    def set_state(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        """Continue where :meth:`get_state` was called.

        Returns:
            ``exact``: whether the replay led to the same observation; if not, a new episode has begun.
            ``observation``: the current one.
        """
        begun = saved["begun"]
        if "seed" in begun:
            self.reset(seed=begun["seed"], options=begun["options"])
        else:
            self.env.reset(seed=0)  # whatever an environment builds at its first reset
            self._set_source(begun["source"])
            self.reset(options=begun["options"])
        for action in saved["actions"]:
            self.step(action)
        exact = digest(self._obs) == saved["seen"]
        if not exact:
            self.reset()
        return {"exact": exact, "observation": self._obs}

    def _source(self) -> dict[str, object]:
        """Return what the next episode depends on."""
        game = self.env.unwrapped
        if self._begun is not None and isinstance(game, Resumable):
            return {"state": game.get_state()}
        return {"np_random": game.np_random.bit_generator.state}

    def _set_source(self, source: Mapping[str, Any]) -> None:
        game = self.env.unwrapped
        if "state" in source and isinstance(game, Resumable):
            game.set_state(source["state"])
        else:
            game.np_random.bit_generator.state = source["np_random"]

    def _checked(self, obs: object) -> object:
        check_form(obs, self.observation_space, f"environment {self.index}, step {len(self._actions)} of its episode")
        return obs


def digest(obs: object) -> str:
    """SHA-256 of an observation."""
    blocks = obs if isinstance(obs, Mapping) else {"": obs}
    total = hashlib.sha256()
    for key in sorted(blocks):
        block = np.asarray(blocks[key])
        total.update(f"{key} {block.dtype} {block.shape} ".encode() + block.tobytes())
    return total.hexdigest()
