"""PPO's losses and their gradient in one pass over a minibatch (``losses`` in ``heads.h``)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from attn_rl.backends.kernels.build import library
from attn_rl.backends.kernels.structures import Losses
from attn_rl.backends.kernels.weights import floats


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
    old: tuple[Tensor, Tensor, Tensor, Tensor],
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
    logits, values, actions = logits.contiguous(), values.contiguous(), actions.contiguous()
    names = ("old_values", "log_probs", "advantages", "returns")
    given = dict(zip(names, (x.contiguous() for x in old), strict=True), logits=logits, values=values, actions=actions)
    d_logits, d_values = torch.empty_like(logits), torch.empty_like(values)
    log_ratio, figures = floats(logits.shape[0]), floats(4)
    found = {"d_logits": d_logits, "d_values": d_values, "log_ratio": log_ratio, "figures": figures}
    minibatch = Losses(
        n=logits.shape[0],
        n_actions=logits.shape[1],
        normalize=weights.normalize,
        clip=weights.clip,
        clip_values=-1.0 if weights.clip_values is None else weights.clip_values,
        entropy_weight=weights.entropy,
        value_weight=weights.value,
        **{name: x.data_ptr() for name, x in (given | found).items()},
    )
    library().ppo_losses(minibatch)
    if (total := figures[3].item()) != total:
        least, most = int(actions.min()), int(actions.max())
        if least < 0 or most >= logits.shape[1]:
            raise IndexError(f"actions from {least} to {most}, expected 0 to {logits.shape[1] - 1}")
    return figures, log_ratio, d_logits, d_values
