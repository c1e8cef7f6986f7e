"""Transitions as tensors: a whole rollout, cut into minibatches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, RolloutBufferSamples
from torch import Tensor

from attn_rl.sb3.past_buffer import Gatherer, PastBuffer


class Samples(NamedTuple):
    """Transitions, S of them: a whole rollout or a minibatch.

    Attributes:
        observations: per key (S,...); a plain Box stands under the key ``""``.
        actions: (S,) long for Discrete, else (S, action_dim) float.
        values, log_probs, advantages, returns: (S,).
    """

    observations: dict[str, Tensor]
    actions: Tensor
    values: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor

    @classmethod
    def from_buffer(cls, buffer: RolloutBuffer, device: torch.device) -> Samples:
        """Move a full rollout to ``device``, in the order in which SB3's ``buffer.get`` counts transitions."""

        def move(x: np.ndarray) -> Tensor:
            return torch.as_tensor(x if buffer.generator_ready else buffer.swap_and_flatten(x), device=device)

        blocks = buffer.observations if isinstance(buffer, DictRolloutBuffer) else {"": buffer.observations}
        actions = move(buffer.actions)
        return cls(
            {key: move(block) for key, block in blocks.items()},
            actions.long().flatten() if isinstance(buffer.action_space, spaces.Discrete) else actions.float(),
            *(move(x).flatten() for x in (buffer.values, buffer.log_probs, buffer.advantages, buffer.returns)),
        )

    @classmethod
    def from_sb3(cls, samples: RolloutBufferSamples | DictRolloutBufferSamples, discrete: bool) -> Samples:
        """What SB3's buffers, or a subclass of one, hand out as a minibatch."""
        observations: Any = samples.observations
        return cls(
            observations if isinstance(observations, dict) else {"": observations},
            samples.actions.long().flatten() if discrete else samples.actions,
            *(x.flatten() for x in (samples.old_values, samples.old_log_prob, samples.advantages, samples.returns)),
        )

    def with_at_most(self, n_pairs: int) -> Samples:
        """The first of these transitions, 2 or more: as many as have ``n_pairs`` pairs of slots of a type in all."""
        slots = max((block.shape[1] for block in self.observations.values() if block.dim() > 1), default=1)
        n = max(2, n_pairs // max(slots, 1) ** 2)
        return Samples({key: block[:n] for key, block in self.observations.items()}, *(x[:n] for x in self[1:]))

    def minibatches(self, batch_size: int) -> Iterator[Samples]:
        """Shuffle once, then cut views: the minibatches of ``buffer.get``, with the same draw from NumPy."""
        order = torch.from_numpy(np.random.permutation(self.actions.shape[0])).to(self.actions.device)
        observations = {key: block[order].split(batch_size) for key, block in self.observations.items()}
        rest = zip(*(x[order].split(batch_size) for x in self[1:]), strict=True)
        for i, columns in enumerate(rest):
            yield Samples({key: blocks[i] for key, blocks in observations.items()}, *columns)

    def with_past(self, past: Gatherer, batch_size: int) -> Iterator[Samples]:
        """The same, each minibatch with its past."""
        numbered = {**self.observations, "": torch.arange(self.actions.shape[0], device=self.actions.device)}
        for samples in self._replace(observations=numbered).minibatches(batch_size):
            index = samples.observations.pop("")
            yield samples._replace(observations={**samples.observations, **past(index)})


def why_not_plain_buffer(buffer: RolloutBuffer) -> str | None:
    """Why minibatches cannot be cut from the arrays of ``buffer``: it has its own way to hand them out."""
    methods = ("get", "_get_samples", "swap_and_flatten", "to_torch")
    changed = [name for name in methods if name in vars(buffer) or _defined_elsewhere(type(buffer), name)]
    return f"{type(buffer).__name__}.{changed[0]} is not Stable-Baselines3's" if changed else None


def _defined_elsewhere(cls: type, method: str) -> bool:
    definer = next(base for base in cls.__mro__ if method in vars(base))
    return definer not in (BaseBuffer, RolloutBuffer, DictRolloutBuffer, PastBuffer)
