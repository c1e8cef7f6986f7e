"""What minibatches say: losses, gradients to begin with, and the figures of an update."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from attn_rl.backends.kernels.losses import Coefficients
from attn_rl.sb3.samples import Samples


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


def torch_losses(
    samples: Samples, values: Tensor, log_prob: Tensor, entropy: Tensor | None, weights: Coefficients
) -> Losses:
    """PPO's losses of a minibatch, by PyTorch.

    Args:
        samples: the minibatch.
        values, log_prob, entropy: what the policy says now; entropy None: it knows none.
        weights: what else the losses depend on.
    """
    clip, clip_values, advantages = weights.clip, weights.clip_values, samples.advantages
    if weights.normalize and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_ratio = log_prob - samples.log_probs
    ratio = log_ratio.exp()
    policy_loss = -torch.min(advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)).mean()
    values = values.flatten()
    if clip_values is not None:
        values = samples.values + (values - samples.values).clamp(-clip_values, clip_values)
    value_loss = (values - samples.returns).square().mean()
    entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
    total = policy_loss + weights.entropy * entropy_loss + weights.value * value_loss
    figures = torch.stack([policy_loss, value_loss, entropy_loss, total]).detach()
    return Losses(figures, log_ratio.detach(), [(total, None)])


def approximate_kl(log_ratio: Tensor) -> float:
    """Estimate the KL divergence from the old to the new policy, as SB3 does (Schulman 2020, k3)."""
    return float((log_ratio.exp() - 1 - log_ratio).mean())


def relative_difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """How far losses and gradients are from the expected ones.

    Args:
        found, expected: figures and log-ratios, then the gradients of all parameters.

    Returns:
        The largest difference: of losses in units of 1 or the largest of them; of a gradient in units of its largest
        entry, or of a hundredth of the largest of all gradients, or of 1e-6: what is smaller is rounding.
    """
    pairs = [(a.detach(), b.detach()) for a, b in zip(found, expected, strict=True)]
    largest = [float(b.abs().max()) for _, b in pairs]
    floors = [1.0, 1.0, *[max(0.01 * max(largest[2:]), 1e-6)] * len(largest[2:])]
    apart = [float((a - b).abs().max()) for a, b in pairs]
    shares = [x / max(size, floor) for x, size, floor in zip(apart, largest, floors, strict=True)]
    return float(torch.tensor(shares).max())  # NaN wins
