"""Weights as C++ reads them, and where it adds their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import is_

import torch
from torch import Tensor

from attn_rl.backends.kernels.fields import Structure
from attn_rl.compat import version_of
from attn_rl.nn.changes import is_plain
from attn_rl.nn.stages import LinearStage, NormStage, Opaque

WEIGHTS = torch.zeros((), dtype=torch.float32, device="cpu", requires_grad=True)
"""Stands for the weights in autograd's graph: makes it call backward, though no gradient flows through it."""


FLOAT = torch.empty(0, dtype=torch.float32, device="cpu")


def floats(*shape: int) -> Tensor:
    """Memory for C++ to write, whatever PyTorch's default dtype and device are now."""
    return FLOAT.new_empty(shape)


def zeros(*shape: int) -> Tensor:
    """As :func:`floats`, filled with zeros."""
    return FLOAT.new_zeros(shape)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Let an :class:`Opaque` that is raised within the block say which part it means.

    Args:
        path: of the part, from those around it on.
    """
    try:
        yield
    except Opaque as opaque:
        raise Opaque(f"{path}.{opaque.path}" if opaque.path else path, opaque.why) from None


class Weights:
    """Structures that hold weights, and where their gradients go.

    Attributes:
        tensors: the weights, in the order in which structures name them.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._fields: list[tuple[Structure, str]] = []
        self._gradients: list[Tensor] = []
        self._pointed: list[int] = []

    def linear(
        self, part: Structure, stage: LinearStage, n_in: int | None, n_out: int | None, *, bias: bool = True
    ) -> None:
        """Fill a ``Linear``.

        Raises:
            Opaque: it is not of this form; None = any width.
        """
        shape = tuple(stage.weight.shape)
        part.n_out, part.n_in = shape
        if (n_in, n_out) != (n_in and shape[1], n_out and shape[0]):
            raise Opaque("", f"has a weight {shape}, where ({n_out}, {n_in}) is expected")
        if (stage.bias is not None) != bias:
            raise Opaque("", f"has {'no' if bias else 'a'} bias")
        self.point(part, "weight", stage.weight, *shape)
        if stage.bias is not None:
            self.point(part, "bias", stage.bias, part.n_out)

    def norm(self, part: Structure, stage: NormStage, width: int) -> None:
        """Fill a ``Norm``.

        Raises:
            Opaque: it is of another width.
        """
        part.eps = stage.eps
        self.point(part, "weight", stage.weight, width)
        self.point(part, "bias", stage.bias, width)

    def point(self, part: Structure, field: str, weight: Tensor, *shape: int) -> None:
        """Let ``field`` point to a weight, and ``d_<field>`` to its gradient.

        Raises:
            Opaque: C++ cannot read it.
        """
        setattr(part, field, readable(weight, *shape))
        self.tensors.append(weight)
        self._fields.append((part, f"d_{field}"))

    def point_gradients(self) -> list[Tensor]:
        """Say where gradients are added: to the ``grad`` of the weights, which are returned to be kept alive."""
        gradients = [weight.grad for weight in self.tensors]
        addresses = [
            0 if gradient is None or not weight.requires_grad else gradient.data_ptr()  # a frozen one keeps what it has
            for weight, gradient in zip(self.tensors, gradients, strict=True)
        ]
        if addresses == self._pointed and all(map(is_, gradients, self._gradients)):
            return self._gradients
        self._gradients = [gradient_of(weight) for weight in self.tensors]
        self._pointed = [gradient.data_ptr() for gradient in self._gradients]
        for (part, field), address in zip(self._fields, self._pointed, strict=True):
            setattr(part, field, address)
        return self._gradients


def readable(x: Tensor, *shape: int) -> int:
    """The address of ``x``.

    Raises:
        Opaque: it is of another shape, or not float32 in one stretch of the CPU's memory.
    """
    if type(x) not in (Tensor, torch.nn.Parameter) or not is_plain(x):
        raise Opaque("", f"has {x.dtype} weights on {x.device}, where float32 in one piece on the CPU is needed")
    if tuple(x.shape) != shape:
        raise Opaque("", f"has a weight {tuple(x.shape)}, where {shape} is expected")
    return x.data_ptr()


def gradient_of(weight: Tensor) -> Tensor:
    """Where the gradient of ``weight`` is added up: its ``grad``, or scratch memory for a frozen weight."""
    if not weight.requires_grad:
        return torch.zeros_like(weight)
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    elif not is_plain(weight.grad):  # a view that somebody put there
        weight.grad = weight.grad.detach().contiguous().clone()
    return weight.grad


class Unchanged:
    """Whether tensors are still what a pass read, when its gradient is computed.

    Args:
        tensors: weights and observations.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors = tensors
        self._taken = self._now()

    def _now(self) -> list[int]:
        return [*map(version_of, self._tensors), *map(Tensor.data_ptr, self._tensors)]

    def check(self) -> None:
        """Raise if not.

        Raises:
            RuntimeError: as autograd's own, for weights and observations alike.
        """
        if self._now() != self._taken:
            raise RuntimeError(
                "a weight or an observation was changed between a pass and its backward(): take the step afterwards"
            )
