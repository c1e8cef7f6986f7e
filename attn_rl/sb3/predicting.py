"""``predict`` in one call: from an observation as NumPy has it to an action."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from attn_rl.sb3.acting_blocks import by_key
from attn_rl.sb3.compat import CALLED_BY_PREDICT

if TYPE_CHECKING:
    from attn_rl.backends.heads import WholePolicy
    from attn_rl.entities import EntitySpec


class PredictsAtOnce:
    """Mixin over an actor-critic policy of SB3: the same actions from the same draws, in a fraction of the time."""

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose actions, as Stable-Baselines3 does: of one observation or of a batch, drawn or the most probable."""
        actions = self._predict_at_once(observation, deterministic)
        if actions is None:
            return super().predict(observation, state, episode_start, deterministic)  # type: ignore[misc, no-any-return]
        return actions, state

    def _predict_at_once(self, observation: Any, deterministic: bool) -> np.ndarray | None:
        cls, own = type(self), vars(self)
        if any(getattr(cls, name) is not method or name in own for name, method in CALLED_BY_PREDICT.items()):
            return None  # somebody has replaced it
        whole = self._at_once(learns=False)
        batch = None if whole is None else as_batch(observation, self.observation_space)  # type: ignore[attr-defined]
        if whole is None or batch is None:
            return None
        if not whole.settled:
            self.set_training_mode(False)  # type: ignore[attr-defined]
        tensors, single = batch
        try:
            drawn = whole.program.run(by_key(self._observed, tensors), deterministic)
        except ValueError:  # whatever it is: SB3's own way has its own words for it
            return None
        if drawn is None:
            return None
        actions: np.ndarray = drawn[0].numpy()
        return actions.squeeze(axis=0) if single else actions

    def _at_once(self, learns: bool) -> WholePolicy | None:
        """What one call of C++ takes of this policy now; None where it takes several."""
        raise NotImplementedError

    @property
    def _observed(self) -> EntitySpec:
        """What observations hold."""
        raise NotImplementedError


def as_batch(observation: Any, space: gym.Space[Any]) -> tuple[Any, bool] | None:
    """An observation or a batch of them as tensors with a leading dimension, and whether it was a single one.

    Returns:
        None where SB3 must look at it: something other than arrays of the space's shapes.
    """
    if not isinstance(space, spaces.Dict):
        return _with_batch(observation, space.shape)
    if not isinstance(observation, dict) or observation.keys() != space.spaces.keys():
        return None
    found = {key: _with_batch(observation[key], part.shape) for key, part in space.spaces.items()}
    singles = {None if x is None else x[1] for x in found.values()}
    if len(singles) != 1 or None in singles:
        return None
    return {key: x[0] for key, x in found.items() if x is not None}, singles.pop()  # type: ignore[return-value]


def _with_batch(x: Any, shape: tuple[int, ...] | None) -> tuple[Tensor, bool] | None:
    if type(x) is not np.ndarray:
        return None
    x = x if x.flags.carray else x.copy()  # PyTorch reads no others
    if x.shape == shape:
        return torch.from_numpy(x).unsqueeze(0), True
    return (torch.from_numpy(x), False) if x.shape[1:] == shape else None
