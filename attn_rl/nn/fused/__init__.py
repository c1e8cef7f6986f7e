"""Gradient updates in one pass over rows without padding: what ``encoder.cpp`` computes, as a part of autograd's graph.

Used by :class:`attn_rl.sb3.ppo.EntityPPO` while it optimises, on a CPU, where a C++ compiler is at hand. Everywhere
else the same network runs as PyTorch modules; acting, for which there are no kernels, as :mod:`attn_rl.nn.rollout`.

Shapes: B observations, R rows of all of them, F features, E ego features, D width, H heads, Z columns that relations
compare.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attn_rl.nn.fused.build import library
from attn_rl.nn.fused.call import Call, Learned, Relation, Rows, Source, address, pack
from attn_rl.nn.fused.losses import Coefficients, ppo_losses
from attn_rl.nn.fused.towers import WEIGHTS, Tower, can_build, towers

__all__ = [
    "Coefficients",
    "FusedUpdates",
    "Held",
    "Relation",
    "Rows",
    "Source",
    "Tower",
    "can_build",
    "encode",
    "fused_updates",
    "pack",
    "ppo_losses",
    "towers",
]


class FusedUpdates:
    """Mixin of a network that can encode without padding.

    Attributes:
        fused: whether it should; inside :func:`fused_updates` also what is at hand there.
    """

    fused: bool | Held = False


class Held:
    """What need not be looked up for every minibatch, since weights stay where they are."""

    learned: Learned | None = None
    towers: tuple[Tower, ...] | None = None


@contextmanager
def fused_updates(network: nn.Module) -> Iterator[None]:
    """Within the block, let the networks in ``network`` take this path where they can.

    ``backward()`` then adds gradients to the ``grad`` of their weights, past autograd: ``torch.autograd.grad`` does not
    find them, gradients of gradients (TRPO) cannot be had, and networks whose weights somebody listens to stay as
    they are.
    """
    found = [module for module in network.modules() if isinstance(module, FusedUpdates) and _can_take(module)]
    for module in found:
        module.fused = Held()
    try:
        yield
    finally:
        for module in found:
            module.fused = False


def _can_take(network: nn.Module) -> bool:
    return library() is not None and all(
        p.is_contiguous() and not p._backward_hooks and not p._post_accumulate_grad_hooks for p in network.parameters()
    )


def encode(
    encoder: nn.Module,
    sources: Sequence[Source],
    rows: Rows,
    relations: Sequence[Relation | None],
    held: Held | None = None,
) -> Tensor:
    """What ``encoder`` makes of rows without padding.

    Args:
        encoder: an :class:`attn_rl.nn.encoder.Encoder` with dot-product similarity, float32, on the CPU.
        sources: of the tokens.
        rows: which rows make up which observation.
        relations: per block.
        held: the same for every call with the same weights.

    Returns:
        (B,D) of the first rows, or (R,D) of all, an observation's rows side by side.
    """
    held = held or Held()
    if held.learned is None:
        held.learned = Learned(encoder, [source.embedding for source in sources if source.embedding is not None])
    call = Call(held.learned, sources, rows, relations)
    return _Encode.apply(call, WEIGHTS, *call.inputs)  # type: ignore[no-any-return]


class _Encode(torch.autograd.Function):
    spare: list[Tensor] = []  # what a backward pass is done with; fresh memory would have to be mapped page by page

    @staticmethod
    def forward(ctx: Any, call: Call, _weights: Tensor, *inputs: Tensor) -> Tensor:
        ctx.call = call
        size = library().kept_size(ctypes.byref(call.arguments))  # type: ignore[union-attr]
        kept = _Encode.spare.pop() if _Encode.spare else torch.empty(0)
        if kept.numel() < size:
            kept = torch.empty(size + size // 4)  # the next minibatch may hold more rows
        ctx.kept, call.arguments.kept = kept, kept.data_ptr()
        out = torch.empty(call.n_rows_out, call.width)
        library().forward(ctypes.byref(call.arguments), address(out))  # type: ignore[union-attr]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Any, ...]:
        gradients = ctx.call.backward(d_out.contiguous())
        _Encode.spare[:] = [ctx.kept]
        return None, None, *gradients
