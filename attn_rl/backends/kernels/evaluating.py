"""From observations to PPO's losses in one call, and to the gradients of all weights in another."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attn_rl.backends.kernels import structures as s
from attn_rl.backends.kernels.acting import ActingProgram, Arguments
from attn_rl.backends.kernels.build import library
from attn_rl.backends.kernels.fields import Structure
from attn_rl.backends.kernels.losses import Coefficients, Remembered, fill, refuse_unknown_actions
from attn_rl.backends.kernels.threads import n_threads
from attn_rl.backends.kernels.weights import WEIGHTS, Unchanged, floats, zeros


def evaluate(
    program: ActingProgram,
    observation: Mapping[str, Tensor],
    actions: Tensor,
    old: Remembered,
    weights: Coefficients,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """PPO's losses of a minibatch, as :func:`attn_rl.backends.kernels.losses.ppo_losses` of what the policy says now.

    Args:
        program: of the policy.
        observation: its blocks (S,...).
        actions: taken (S,) int64.
        old: values, log-probabilities, advantages and returns of the rollout, each (S,).
        weights: what else the losses depend on.

    Returns:
        Policy, value and entropy loss and their weighted sum (4,); the log of the probability ratio (S,); the sum,
        whose ``backward()`` adds gradients to the ``grad`` of the weights. None: the observation is of another form.

    Raises:
        IndexError: an action that is none.
    """
    minibatch = s.Minibatch()
    arguments = Arguments(program, minibatch, keeps_weights=False)
    alive = arguments.point(observation)
    if alive is None or any(x.requires_grad for x in alive):
        return None
    minibatch.network.n_threads = n_threads()
    figures, log_ratio = floats(4), floats(actions.shape[0])
    alive += fill(minibatch.losses, actions, old, weights)
    minibatch.losses.n_actions = program.actor.n_out
    minibatch.losses.figures, minibatch.losses.log_ratio = figures.data_ptr(), log_ratio.data_ptr()
    forms = [None if relation is None else relation.forms() for relation in program.network.relations]
    total = _Evaluate.apply(program, arguments, alive, figures, WEIGHTS, *forms)  # type: ignore[no-untyped-call]
    refuse_unknown_actions(figures, actions, program.actor.n_out)
    return figures, log_ratio, total


class _Kept:
    """What an evaluation keeps for its gradient, until nobody needs it any more."""

    def __init__(self, call: Structure) -> None:
        self.call, self._place, self._release = call, ctypes.c_void_p(), library().evaluate_release
        call.kept = ctypes.addressof(self._place)
        library().evaluate(call)

    def __del__(self) -> None:
        self._release(self.call)


class _Evaluate(torch.autograd.Function):
    """The total loss; ``backward`` adds to the weights' ``grad`` and returns the gradients of relations' forms."""

    @staticmethod
    def forward(
        ctx: Any,
        program: ActingProgram,
        arguments: Arguments,
        alive: list[Tensor],
        figures: Tensor,
        _: Tensor,
        *forms: Tensor,
    ) -> Tensor:
        call = arguments.call
        pointed = program.network.point_forms(call.network, forms)
        ctx.kept = _Kept(call)
        ctx.program, ctx.arguments, ctx.alive, ctx.forms, ctx.pointed = program, arguments, alive, forms, pointed
        ctx.unchanged = Unchanged([*program.tensors, *alive])
        return figures[3].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[Any, ...]:
        ctx.unchanged.check()
        call = ctx.arguments.call
        found = [None if x is None else zeros(*x.shape) for x in ctx.forms]
        for part, gradient in zip(ctx.pointed[0], found, strict=True):
            part.d_forms = None if gradient is None else gradient.data_ptr()
        gradients = [part.point_gradients() for part in ctx.program.weights]
        call.d_total = float(d_total)
        library().evaluate_backward(call)
        del gradients
        return None, None, None, None, None, *found
