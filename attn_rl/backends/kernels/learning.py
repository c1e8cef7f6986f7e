"""A pass as a part of autograd's graph: what it keeps, and the gradients that it hands back."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attn_rl.backends.kernels.build import library
from attn_rl.backends.kernels.fields import Structure
from attn_rl.backends.kernels.weights import Unchanged, zeros

if TYPE_CHECKING:
    from attn_rl.backends.kernels.program import Program


class KeptPass:
    """What a pass keeps for its gradient, until nobody needs it any more.

    Args:
        call: the arguments; the pass is taken at once.
    """

    def __init__(self, call: Structure) -> None:
        self.call, self._place, self._release = call, ctypes.c_void_p(), library().release
        call.kept = ctypes.addressof(self._place)
        library().forward(call)

    def __del__(self) -> None:
        self._release(self.call)


class Learn(torch.autograd.Function):
    """A pass whose ``backward`` adds to the weights' ``grad``, and returns the gradients of what terms are made of."""

    @staticmethod
    def forward(
        ctx: Any, program: Program, call: Any, alive: list[Any], out: Tensor, _: Tensor, *terms: Tensor
    ) -> Tensor:
        forms, added = terms[: len(program.relations)], terms[len(program.relations) :]
        pointed = program.point_forms(call, forms), program.point_added(call, added)
        call.out = out.data_ptr()
        ctx.kept = KeptPass(call)
        del pointed
        ctx.program, ctx.alive, ctx.forms, ctx.added = program, alive, forms, added
        ctx.unchanged = Unchanged([*program.weights.tensors, *(x for x in alive if isinstance(x, Tensor))])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Any, ...]:
        program, call, d_out = ctx.program, ctx.kept.call, d_out.contiguous()
        ctx.unchanged.check()
        pointed = program.point_forms(call, ctx.forms), program.point_added(call, ctx.added)
        found = [None if x is None else zeros(*x.shape) for x in (*ctx.forms, *ctx.added)]
        for held, field, gradients_of in (
            (pointed[0][0], "d_forms", found[: len(ctx.forms)]),
            (pointed[1][0], "d_bias", found[len(ctx.forms) :]),
        ):
            for part, gradient in zip(held, gradients_of, strict=True):
                setattr(part, field, None if gradient is None else gradient.data_ptr())
        gradients = program.weights.point_gradients()
        call.d_out = d_out.data_ptr()
        library().backward(call)
        del gradients, pointed
        return None, None, None, None, None, *found
