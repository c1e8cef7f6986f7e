"""Actor and critic as C++ takes them: linear layers with one kind of activation between."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attn_rl.backends.kernels import structures as s
from attn_rl.backends.kernels.build import library
from attn_rl.backends.kernels.weights import WEIGHTS, Unchanged, Weights, floats, zeros
from attn_rl.nn.stages import ActivationStage, LinearStage, Opaque, stage_of

ACTIVATIONS = {"tanh": 0, "relu": 1}
"""Their numbers in ``enum Activation``."""


class MlpProgram:
    """Some layers as C++ takes them, while weights stay where they are.

    Args:
        layers: linear layers and activations in turn, by their names.

    Raises:
        Opaque: something that C++ does not compute.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        names = list(layers)
        if len(names) % 2 == 0:
            raise Opaque(names[-1] if names else "", "ends with no linear layer")
        stages = [stage_of(layers[name], name, LinearStage) for name in names[::2]]
        between = {stage_of(layers[name], name, ActivationStage).name for name in names[1::2]}
        if len(between) > 1:
            raise Opaque(names[0], f"has {' and '.join(sorted(between))} between its layers; C++ takes one of them")
        self.weights, self.layers, width = Weights(), (s.Linear * len(stages))(), None
        for name, part, stage in zip(names[::2], self.layers, stages, strict=True):
            try:
                self.weights.linear(part, stage, width, None)
            except Opaque as opaque:
                raise Opaque(name, opaque.why) from None
            width = part.n_out
        activation = ACTIVATIONS[between.pop()] if between else 0
        self.mlp = s.Mlp(n_layers=len(stages), activation=activation, layers=ctypes.addressof(self.layers))
        self.n_in, self.n_out = self.layers[0].n_in, self.layers[len(stages) - 1].n_out
        self.n_hidden = sum(layer.n_out for layer in self.layers[:-1])
        self._transposed = zeros(2, library().mlp_transposed_size(self.mlp))
        self.transposed_at = [x.data_ptr() for x in self._transposed]

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output (B,n_out) and all hidden layers' outputs, of x (B,n_in)."""
        n = x.shape[0]
        out, hidden = floats(n, self.n_out), floats(n * self.n_hidden)
        transposed, transposed_from = self.transposed_at
        call = s.MlpCall(
            mlp=ctypes.addressof(self.mlp),
            n=n,
            x=x.data_ptr(),
            transposed=transposed,
            transposed_from=transposed_from,
            hidden=hidden.data_ptr(),
            out=out.data_ptr(),
        )
        library().mlp_forward(call)
        return out, hidden

    def gradients(self, x: Tensor, hidden: Tensor, d_out: Tensor, d_x: Tensor) -> None:
        """Add to the gradients of the weights, and to ``d_x`` (B,n_in)."""
        gradients = self.weights.point_gradients()
        call = s.MlpCall(
            mlp=ctypes.addressof(self.mlp),
            n=x.shape[0],
            x=x.data_ptr(),
            hidden=hidden.data_ptr(),
            d_out=d_out.data_ptr(),
            d_x=d_x.data_ptr(),
        )
        library().mlp_backward(call)
        del gradients


def run_all(x: Tensor, programs: Sequence[MlpProgram]) -> tuple[Tensor, ...]:
    """What each of ``programs`` makes of ``x`` (B,n_in); with a graph where gradients are wanted.

    Raises:
        ValueError: ``x`` is of another width or dtype than their first layers.
    """
    if any(x.shape[1:] != (program.n_in,) for program in programs) or x.dtype != torch.float32:
        raise ValueError(
            f"features are {tuple(x.shape[1:])} {x.dtype}, actor and critic expect ({programs[0].n_in},) torch.float32"
        )
    if not torch.is_grad_enabled():
        x = x.contiguous()
        return tuple(program.run(x)[0] for program in programs)
    return _Learn.apply(programs, WEIGHTS, x.contiguous())  # type: ignore[no-any-return, no-untyped-call]


class _Learn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, programs: Sequence[MlpProgram], _: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        outs, hidden = zip(*(program.run(x) for program in programs), strict=True)
        ctx.programs, ctx.x, ctx.hidden = programs, x, hidden
        ctx.unchanged = Unchanged([x, *(weight for program in programs for weight in program.weights.tensors)])
        return outs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outs: Tensor) -> tuple[Any, ...]:
        ctx.unchanged.check()
        d_x = zeros(*ctx.x.shape)
        for program, hidden, d_out in zip(ctx.programs, ctx.hidden, d_outs, strict=True):
            program.gradients(ctx.x, hidden, d_out.contiguous(), d_x)
        return None, None, d_x
