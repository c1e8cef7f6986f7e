"""PPO as Stable-Baselines3 computes it, with less around every minibatch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from attn_rl.nn import fused
from attn_rl.nn.normalizer import collect_statistics
from attn_rl.sb3.collection import LeanRollouts
from attn_rl.sb3.contiguous_adam import ContiguousAdam, side_by_side
from attn_rl.sb3.policy import EntityAttentionPolicy


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

    def minibatches(self, batch_size: int) -> Iterator[Samples]:
        """Shuffle once, then cut views: the minibatches of ``buffer.get``, with the same draw from NumPy."""
        order = torch.from_numpy(np.random.permutation(len(self.actions))).to(self.actions.device)
        observations = {key: block[order].split(batch_size) for key, block in self.observations.items()}
        rest = zip(*(x[order].split(batch_size) for x in self[1:]), strict=True)  # type: ignore[index]
        for i, columns in enumerate(rest):
            yield Samples({key: blocks[i] for key, blocks in observations.items()}, *columns)


class Losses(NamedTuple):
    """What one minibatch says.

    Attributes:
        figures: policy, value and entropy loss and their weighted sum (4,).
        log_ratio: log of the probability ratio (S,).
        gradients: where to begin with the gradient of the sum: what depends on weights, and the gradient by it.
    """

    figures: Tensor
    log_ratio: Tensor
    gradients: list[tuple[Tensor, Tensor | None]]

    @property
    def total(self) -> float:
        """The weighted sum."""
        return float(self.figures[3])


@dataclass
class UpdateLog:
    """The figures of an update, read off the device only once, at its end."""

    losses: list[Tensor] = field(default_factory=list)
    log_ratios: list[Tensor] = field(default_factory=list)
    n_samples: int = 0

    def begin_epoch(self) -> None:
        """Forget which samples the epoch before consisted of: ``approx_kl`` is the last epoch's."""
        self.n_samples = 0

    def add(self, losses: Losses) -> None:
        """Keep a minibatch's figures."""
        self.losses.append(losses.figures)
        self.log_ratios.append(losses.log_ratio)
        self.n_samples += len(losses.log_ratio)

    def figures(self, clip_range: float) -> dict[str, float]:
        """Means over minibatches (losses) and samples (KL divergence of the last epoch, share of clipped ratios)."""
        policy, value, entropy, _ = torch.stack(self.losses).mean(0).tolist()
        log_ratio = torch.cat(self.log_ratios)
        return {
            "entropy_loss": entropy,
            "policy_gradient_loss": policy,
            "value_loss": value,
            "approx_kl": approximate_kl(log_ratio[-self.n_samples :]),
            "clip_fraction": float(((log_ratio.exp() - 1).abs() > clip_range).float().mean()),
            "loss": float(self.losses[-1][3]),
        }


class EntityPPO(LeanRollouts, PPO):
    """:class:`stable_baselines3.PPO` with a leaner training step; same arguments, same zips, same learning.

    The update is SB3's: same minibatches from the same draws, same losses, weights equal to rounding. What is
    spared is around it: the rollout becomes tensors once per update instead of once per minibatch, the normaliser looks
    at each observation once instead of once per epoch, figures for the log are read once, gradients lie side by
    side, and the network's and those of the losses come from fused kernels (:mod:`attn_rl.nn.fused`). Rollouts: see
    :class:`attn_rl.sb3.collection.LeanRollouts`. Zips load with plain ``PPO.load`` and the other way round.

    :meth:`train` consists of small methods; :meth:`optimize` is the place where a subclass checks loss, gradients
    and weights.
    """

    _flat: ContiguousAdam | None = None
    _gradient: Tensor | None = None

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """Play; see :class:`LeanRollouts`."""
        self._flat_adam()  # the last bit of a matrix product may depend on where weights lie, so it is always there
        return super().collect_rollouts(*args, **kwargs)

    def train(self) -> None:
        """Optimise on the rollout just collected."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self._flat = self._flat_adam()
        try:
            self._train()
        finally:
            self._flat = self._gradient = None  # or they would be saved with the agent

    def _flat_adam(self) -> ContiguousAdam | None:
        optimizer: Any = self.policy.optimizer
        return ContiguousAdam(optimizer) if ContiguousAdam.can_take(optimizer) else None

    def _train(self) -> None:
        log = UpdateLog()
        rollout = Samples.from_buffer(self.rollout_buffer, self.device)
        for epoch in range(self.n_epochs):
            log.begin_epoch()
            with collect_statistics(self.policy, epoch == 0), fused.fused_updates(self.policy):
                near = all(self._minibatch(samples, log) for samples in rollout.minibatches(self.batch_size))
            self._n_updates += 1
            if not near:
                break
        self._record(log)

    def _minibatch(self, samples: Samples, log: UpdateLog) -> bool:
        """Take one gradient step; False (and no step) where the policy has moved beyond ``target_kl``."""
        losses = self.losses(samples)
        log.add(losses)
        if self.target_kl is not None and approximate_kl(losses.log_ratio) > 1.5 * self.target_kl:
            return False
        self.optimize(losses)
        return True

    def losses(self, samples: Samples) -> Losses:
        """Compute PPO's clipped losses (Schulman et al. 2017, equations 7 and 9) of a minibatch."""
        observations: Any = samples.observations.get("", samples.observations)
        left = self._current_progress_remaining
        clip = self.clip_range(left)  # type: ignore[operator]
        clip_values = None if self.clip_range_vf is None else self.clip_range_vf(left)  # type: ignore[operator]
        policy = self.policy
        if isinstance(policy, EntityAttentionPolicy) and policy.gives_logits:
            logits, values = policy.logits_and_values(observations)
            weights = fused.Coefficients(self.normalize_advantage, clip, clip_values, self.ent_coef, self.vf_coef)
            figures, log_ratio, *gradients = fused.ppo_losses(logits, values, samples.actions, samples[2:], weights)
            return Losses(figures, log_ratio, list(zip((logits, values), gradients, strict=True)))
        values, log_prob, entropy = policy.evaluate_actions(observations, samples.actions)
        advantages = samples.advantages
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = log_prob - samples.log_probs
        ratio = log_ratio.exp()
        policy_loss = -torch.min(advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)).mean()
        values = values.flatten()
        if clip_values is not None:
            values = samples.values + (values - samples.values).clamp(-clip_values, clip_values)
        value_loss = (values - samples.returns).square().mean()
        entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
        total = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        figures = torch.stack([policy_loss, value_loss, entropy_loss, total]).detach()
        return Losses(figures, log_ratio.detach(), [(total, None)])

    def optimize(self, losses: Losses) -> Tensor:
        """Take one optimiser step; return the norm of the gradient before clipping."""
        norm = self.backward(losses)
        self.step()
        return norm

    def backward(self, losses: Losses) -> Tensor:
        """Compute the gradient, clipped as :meth:`step` takes it; return its norm before clipping.

        Where all parameters have one in an update's first minibatch, one that is missing later on counts as zero.
        """
        parameters = self.policy.optimizer.param_groups[0]["params"]
        if self._gradient is not None:
            self._gradient.zero_()
        else:
            for parameter in parameters:
                parameter.grad = None
        torch.autograd.backward(*zip(*losses.gradients, strict=True))  # type: ignore[arg-type]
        if self._gradient is None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            if self._flat is None or len(gradients) < len(parameters):
                self._flat = None  # some parameters stay where they are
                return clip_gradients(gradients, self.max_grad_norm)
            self._gradient = side_by_side(gradients)
        return clip_gradients([self._gradient], self.max_grad_norm)

    def step(self) -> None:
        """Move the weights along the gradient that :meth:`backward` has left."""
        if self._flat is None or self._gradient is None:
            self.policy.optimizer.step()
        else:
            self._flat.step(self._gradient)

    def _record(self, log: UpdateLog) -> None:
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        figures = log.figures(clip_range)
        buffer = self.rollout_buffer
        figures["explained_variance"] = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        if hasattr(self.policy, "log_std"):
            figures["std"] = float(self.policy.log_std.detach().exp().mean())
        figures["clip_range"] = clip_range
        if self.clip_range_vf is not None:
            figures["clip_range_vf"] = self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]
        for name, value in figures.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")


def approximate_kl(log_ratio: Tensor) -> float:
    """Estimate the KL divergence from the old to the new policy, as SB3 does (Schulman 2020, k3)."""
    return float((log_ratio.exp() - 1 - log_ratio).mean())


@torch.no_grad()
def clip_gradients(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Scale ``gradients`` in place to a common norm of at most ``max_norm``; return their norm before.

    ``torch.nn.utils.clip_grad_norm_`` in a third of its time: one norm of all instead of a norm of norms.
    """
    norm = (torch.cat([g.flatten() for g in gradients]) if len(gradients) > 1 else gradients[0]).norm()
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
