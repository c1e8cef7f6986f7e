"""Actor and critic in one step of autograd's graph, forward and backward in C++ (``Tower`` in ``heads.h``)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attn_rl.nn.fused.build import library
from attn_rl.nn.fused.call import address, gradient_of

WEIGHTS = torch.zeros((), requires_grad=True)
"""Stands for the weights in autograd's graph: somebody wants gradients, which do not pass through it."""

ACTIVATIONS = {nn.Tanh: 0, nn.ReLU: 1}


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_in", "n_out")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "d_weight", "d_bias")),
    ]


class _Tower(ctypes.Structure):
    _fields_ = [("n_layers", ctypes.c_int64), ("activation", ctypes.c_int64), ("layers", ctypes.c_void_p)]


class Tower:
    """Linear layers with one kind of activation between them, as C++ takes them while weights stay where they are.

    Attributes:
        weights: weight and bias of every layer.
        hidden: floats per row that the backward pass needs.
        n_out: width of the output.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        linear = [module for module in modules if isinstance(module, nn.Linear)]
        kinds = {ACTIVATIONS[type(module)] for module in modules if not isinstance(module, nn.Linear)}
        self.weights = [x for layer in linear for x in (layer.weight, layer.bias)]
        self.layers = (_Layer * len(linear))(
            *(_Layer(x.in_features, x.out_features, x.weight.data_ptr(), x.bias.data_ptr()) for x in linear)
        )
        self.tower = _Tower(len(linear), *(kinds or {0}), ctypes.addressof(self.layers))
        self.hidden, self.n_out = sum(x.out_features for x in linear[:-1]), linear[-1].out_features

    def point(self, gradients: Sequence[Tensor]) -> None:
        """Say where the gradients of :attr:`weights` go."""
        for i, layer in enumerate(self.layers):
            layer.d_weight, layer.d_bias = map(Tensor.data_ptr, gradients[2 * i : 2 * i + 2])


def can_build(modules: Sequence[nn.Module]) -> bool:
    """Whether C++ knows all of ``modules``: float32 linear layers on the CPU, activations of one kind between them."""
    linear, between = modules[::2], modules[1::2]
    if len(linear) != len(between) + 1 or any(
        type(module) is not nn.Linear or module.bias is None for module in linear
    ):
        return False
    weights = [weight for module in linear for weight in module.parameters()]
    plain = all(w.dtype == torch.float32 and w.is_cpu and w.is_contiguous() for w in weights)
    kinds = {type(module) for module in between}
    return plain and len(kinds) <= 1 and kinds <= ACTIVATIONS.keys()


def towers(x: Tensor, *parts: Tower) -> tuple[Tensor, ...]:
    """What each of ``parts`` makes of ``x`` (B,D).

    Raises:
        ValueError: ``x`` is of another width or dtype than their first layers.
    """
    if any(x.shape[1:] != part.weights[0].shape[1:] for part in parts) or x.dtype != torch.float32:
        wanted = tuple(parts[0].weights[0].shape[1:])
        raise ValueError(f"features are {tuple(x.shape[1:])} {x.dtype}, actor and critic expect {wanted} torch.float32")
    return _Towers.apply(parts, WEIGHTS, x.contiguous())  # type: ignore[no-any-return]


class _Towers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Sequence[Tower], _weights: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        n = len(x)
        outs = tuple(torch.empty(n, part.n_out) for part in parts)
        hidden = [torch.empty(n * part.hidden) for part in parts]
        for part, kept, out in zip(parts, hidden, outs, strict=True):
            library().tower_forward(  # type: ignore[union-attr]
                ctypes.byref(part.tower), ctypes.c_int64(n), address(x), address(kept), address(out)
            )
        ctx.parts, ctx.x, ctx.hidden = parts, x, hidden
        return outs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outs: Tensor) -> tuple[Any, ...]:
        d_x = torch.zeros(ctx.x.shape)
        for part, kept, d_out in zip(ctx.parts, ctx.hidden, d_outs, strict=True):
            d_out, gradients = d_out.contiguous(), [gradient_of(weight) for weight in part.weights]
            part.point(gradients)
            library().tower_backward(  # type: ignore[union-attr]
                ctypes.byref(part.tower),
                ctypes.c_int64(len(ctx.x)),
                address(ctx.x),
                address(kept),
                address(d_out),
                address(d_x),
            )
        return None, None, d_x
