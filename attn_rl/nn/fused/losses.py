"""PPO's losses and their gradient in one pass over a minibatch (``Minibatch`` in ``heads.h``)."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from attn_rl.nn.fused.build import library


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


_INPUTS = ("logits", "values", "log_probs", "old_values", "advantages", "returns", "actions")
_OUTPUTS = ("d_logits", "d_values", "log_ratio", "figures")


class _Minibatch(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "n_actions", "normalize")),
        *((name, ctypes.c_void_p) for name in _INPUTS),
        *((name, ctypes.c_float) for name in ("clip", "clip_values", "entropy_weight", "value_weight")),
        *((name, ctypes.c_void_p) for name in _OUTPUTS),
    ]


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
    """
    inputs = [x.contiguous() for x in (logits, values, old[1], old[0], *old[2:], actions)]
    outputs = torch.empty_like(inputs[0]), torch.empty_like(inputs[1]), torch.empty(len(logits)), torch.empty(4)
    arguments = _Minibatch(
        *logits.shape,
        weights.normalize,
        *map(Tensor.data_ptr, inputs),
        weights.clip,
        -1.0 if weights.clip_values is None else weights.clip_values,
        weights.entropy,
        weights.value,
        *map(Tensor.data_ptr, outputs),
    )
    library().ppo_losses(ctypes.byref(arguments))  # type: ignore[union-attr]
    d_logits, d_values, log_ratio, figures = outputs
    return figures, log_ratio, d_logits, d_values
