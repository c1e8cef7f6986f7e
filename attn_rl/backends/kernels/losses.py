"""PPO's losses and their gradient in one pass over a minibatch (``losses`` in ``heads.h``)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from attn_rl.backends.kernels.build import library
from attn_rl.backends.kernels.fields import Structure
from attn_rl.backends.kernels.structures import Losses
from attn_rl.backends.kernels.weights import floats

Remembered = tuple[Tensor, Tensor, Tensor, Tensor]
"""Values, log-probabilities, advantages and returns of the rollout, each (S,)."""


class Coefficients(NamedTuple):
    """What the losses depend on beside the minibatch.

    Attributes:
        normalize: advantages are standardised.
        clip: range of the probability ratio.
        clip_values: range in which values may move, None = any.
        entropy, value: weights in the total.
    """

    normalize: bool
    clip: float
    clip_values: float | None
    entropy: float
    value: float


@torch.no_grad()
def ppo_losses(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    old: Remembered,
    weights: Coefficients,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The losses of Schulman et al. 2017 (equations 7 and 9) as :meth:`attn_rl.sb3.ppo.EntityPPO.losses` states them.

    Args:
        logits: of the policy now (S,A).
        values: now (S,1).
        actions: taken (S,) int64.
        old: values, log-probabilities, advantages and returns of the rollout, each (S,).
        weights: the rest.

    Returns:
        Policy, value and entropy loss and their weighted sum (4,); the log of the probability ratio (S,); the gradients
        of the sum by ``logits`` and by ``values``.

    Raises:
        IndexError: an action that is none.
    """
    logits, values, n = logits.contiguous(), values.contiguous(), logits.shape[0]
    d_logits, d_values = torch.empty_like(logits), torch.empty_like(values)
    log_ratio, figures = floats(n), floats(4)
    blocks = {"logits": logits, "values": values, "d_logits": d_logits, "d_values": d_values}
    blocks |= {"log_ratio": log_ratio, "figures": figures}
    minibatch = Losses(n=n, n_actions=logits.shape[1], **{name: x.data_ptr() for name, x in blocks.items()})
    alive = fill(minibatch, actions, old, weights)
    library().ppo_losses(minibatch)
    del alive
    refuse_unknown_actions(figures, actions, logits.shape[1])
    return figures, log_ratio, d_logits, d_values


def fill(minibatch: Structure, actions: Tensor, old: Remembered, weights: Coefficients) -> list[Tensor]:
    """Say what is known of a minibatch before the policy is asked; return what has to stay alive."""
    minibatch.normalize, minibatch.clip = weights.normalize, weights.clip
    minibatch.clip_values = -1.0 if weights.clip_values is None else weights.clip_values
    minibatch.entropy_weight, minibatch.value_weight = weights.entropy, weights.value
    alive = [x.contiguous() for x in (actions, *old)]
    addresses = map(Tensor.data_ptr, alive)
    minibatch.actions, minibatch.old_values, minibatch.log_probs, minibatch.advantages, minibatch.returns = addresses
    return alive


def refuse_unknown_actions(figures: Tensor, actions: Tensor, n_actions: int) -> None:
    """Raise where an action is none: the figures (4,) are NaN then.

    Raises:
        IndexError: it is.
    """
    if (total := figures[3].item()) != total:
        least, most = int(actions.min()), int(actions.max())
        if least < 0 or most >= n_actions:
            raise IndexError(f"actions from {least} to {most}, expected 0 to {n_actions - 1}")
