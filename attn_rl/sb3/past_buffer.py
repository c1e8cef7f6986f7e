"""A rollout whose past steps are stored once: they are the steps before, gathered when a minibatch needs them.

Shapes: T steps, n environments, S = n T transitions (environment by environment), K remembered steps of N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples
from torch import Tensor

from attn_rl.vec_envs.memory import VecMemory
from attn_rl.wrappers.memory.rows import PastSteps
from attn_rl.wrappers.memory.sources import PRESENT

Gathered = dict[str, Tensor]


class PastBuffer(DictRolloutBuffer):
    """SB3's buffer without the copies of a memory's past steps.

    What a remembered row says was observed in an earlier step of the same rollout, or before it began. So only the K
    steps before the rollout are stored, and what was done and earned where that is remembered; with K = T that is one
    copy of the past in the place of K. Minibatches hold what the environment showed, bit for bit.

    Args:
        memory: around the environment.
        args, kwargs: as the buffer's.
    """

    def __init__(self, memory: VecMemory, *args: Any, **kwargs: Any) -> None:
        self.parts = [part for part in memory.memory.parts if isinstance(part, PastSteps)]
        self.steps = memory.options.steps
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Empty the buffer."""
        gathered = {key for part in self.parts for key in (part.name, part.name + PRESENT)}
        self.obs_shape = {key: shape for key, shape in self.obs_shape.items() if key not in gathered}
        super().reset()
        self.before: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        shape = self.buffer_size, self.n_envs
        self.deeds = {part.name: np.zeros((*shape, part.source.n_deeds), np.float32) for part in self.parts}

    def add(self, obs: Mapping[str, np.ndarray], *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Add a step of all environments."""
        self.keep_past(obs)
        super().add(dict(obs), *args, **kwargs)

    def keep_past(self, obs: Mapping[str, np.ndarray]) -> None:
        """Keep of an observation what the rollout's own steps cannot tell; before the step is counted."""
        for part in self.parts:
            n, width = part.source.capacity, len(part.source.features)
            rows = obs[part.name]
            if self.pos == 0:  # newest first in an observation, oldest first here
                x = rows[..., :width].reshape(self.n_envs, self.steps, n, width)[:, ::-1].copy()
                there = obs[part.name + PRESENT].reshape(self.n_envs, self.steps, n)[:, ::-1] > 0.5
                self.before[part.name] = x, there
            if part.source.n_deeds:
                self.deeds[part.name][self.pos] = rows[:, 0, width - part.source.n_deeds : width]

    def gatherer(self, device: torch.device | str) -> Gatherer:
        """What finds the past of transitions of the full rollout."""
        return Gatherer(self, device)

    def in_order(self, x: np.ndarray) -> np.ndarray:
        """An array (T,n,...), or what :meth:`get` has made of it, environment by environment (S,...)."""
        return x if self.generator_ready else self.swap_and_flatten(x)

    def get(self, batch_size: int | None = None) -> Iterator[DictRolloutBufferSamples]:  # type: ignore[override]
        """Minibatches in random order, as SB3 hands them out."""
        self._gather = self.gatherer(self.device)
        yield from super().get(batch_size)

    def _get_samples(  # type: ignore[override]
        self, batch_inds: np.ndarray, env: Any = None
    ) -> DictRolloutBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        past = self._gather(torch.as_tensor(batch_inds, device=self.device))
        return samples._replace(observations={**samples.observations, **past})


class Gatherer:
    """Finds the past of transitions of a full rollout.

    Args:
        buffer: the rollout.
        device: of the tensors.
    """

    def __init__(self, buffer: PastBuffer, device: torch.device | str) -> None:
        n_steps, n_envs, self.steps = buffer.buffer_size, buffer.n_envs, buffer.steps
        self.n_steps, self.length = n_steps, n_steps + self.steps - 1
        starts = buffer.in_order(buffer.episode_starts).reshape(n_envs, n_steps) > 0.5
        begun = np.maximum.accumulate(np.where(starts, np.arange(n_steps), -self.steps), axis=1)
        played = np.minimum(np.arange(n_steps) - begun, self.steps)  # steps of the episode before this one
        self._played = torch.as_tensor(played.reshape(-1), device=device)
        self._back = torch.arange(self.steps - 1, -1, -1, device=device)  # the window of a step, newest first
        self._ages = torch.arange(1, self.steps + 1, device=device)
        blocks = {key: buffer.in_order(block) for key, block in buffer.observations.items()}
        self._parts: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for part in buffer.parts:
            x, there = buffer.before[part.name]
            deeds = np.roll(buffer.deeds[part.name], -1, axis=0)  # each is told by the step after it
            done = deeds.swapaxes(0, 1).reshape(n_envs * n_steps, deeds.shape[2])
            own = part.source.rows(blocks, done)  # what the next step remembers of each; of the last, nobody asks
            rows, present = (
                np.concatenate([before, now.reshape(n_envs, n_steps, *now.shape[1:])[:, :-1]], axis=1)
                for before, now in zip((x, there), own, strict=True)
            )
            flat = [
                torch.as_tensor(y.reshape(n_envs * self.length, *y.shape[2:]), device=device) for y in (rows, present)
            ]
            self._parts[part.name] = flat[0], flat[1], torch.as_tensor(part.columns, device=device)

    def __call__(self, index: Tensor) -> Gathered:
        """The past of transitions ``index`` (B,) as the observations had it: per type (B,KN,F), and presence (B,KN)."""
        env, step = index // self.n_steps, index % self.n_steps
        windows = (env * self.length + step).unsqueeze(1) + self._back  # (B,K)
        own = self._ages <= self._played[index].unsqueeze(1)  # (B,K): of the same episode
        found: Gathered = {}
        for name, (rows, present, ages) in self._parts.items():
            there = (present[windows] & own.unsqueeze(-1)).flatten(1)
            x = torch.cat([rows[windows].flatten(1, 2), ages.expand(len(index), -1, -1)], -1)
            found[name], found[name + PRESENT] = x.masked_fill(~there.unsqueeze(-1), 0.0), there.to(torch.int8)
        return found
