"""Weights as C++ reads them, and where it adds their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attn_rl.backends.kernels import structures as s
from attn_rl.nn.stages import LinearStage, NormStage, Opaque, is_plain

WEIGHTS = torch.zeros((), requires_grad=True)
"""Stands for the weights in autograd's graph: makes it call backward, though no gradient flows through it."""


class Weights:
    """Structures that hold weights, and where their gradients go.

    Attributes:
        tensors: the weights, in the order in which structures name them.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._fields: list[tuple[s.Structure, str]] = []
        self._alive: list[Any] = []

    def linear(self, part: s.Structure, stage: LinearStage | None) -> None:
        """Fill a ``Linear``; without ``stage`` it stays empty."""
        if stage is None:
            return
        part.n_out, part.n_in = stage.weight.shape
        self.point(part, "weight", stage.weight)
        if stage.bias is not None:
            self.point(part, "bias", stage.bias)

    def norm(self, part: s.Structure, stage: NormStage) -> None:
        """Fill a ``Norm``."""
        part.eps = stage.eps
        self.point(part, "weight", stage.weight)
        self.point(part, "bias", stage.bias)

    def point(self, part: s.Structure, field: str, weight: Tensor) -> None:
        """Let ``field`` point to a weight, and ``d_<field>`` to its gradient.

        Raises:
            Opaque: C++ cannot read it.
        """
        setattr(part, field, readable(weight))
        self.tensors.append(weight)
        self._fields.append((part, f"d_{field}"))

    def array(self, kind: type[s.Structure], length: int) -> Any:
        """An array of structures that lives as long as this."""
        made = (kind * length)()
        self._alive.append(made)
        return made

    def keep(self, thing: Any) -> Any:
        """Keep what structures point to alive."""
        self._alive.append(thing)
        return thing

    def point_gradients(self) -> list[Tensor]:
        """Say where gradients are added: to the ``grad`` of the weights, which are returned to be kept alive."""
        gradients = [gradient_of(weight) for weight in self.tensors]
        for (part, field), gradient in zip(self._fields, gradients, strict=True):
            setattr(part, field, gradient.data_ptr())
        return gradients


def readable(x: Tensor) -> int:
    """The address of ``x``.

    Raises:
        Opaque: it is not float32 in one stretch of the CPU's memory.
    """
    if not is_plain(x):
        raise Opaque("", f"has {x.dtype} weights on {x.device}, where float32 in one piece on the CPU is needed")
    return x.data_ptr()


def gradient_of(weight: Tensor) -> Tensor:
    """Where the gradient of ``weight`` is added up: its ``grad``, or scratch memory for a frozen weight."""
    if not weight.requires_grad:
        return torch.zeros_like(weight)
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad
