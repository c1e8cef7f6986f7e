"""Gradient updates in one pass over rows without padding: what ``encoder.cpp`` computes, as a part of autograd's graph.

Used by :class:`attn_rl.sb3.ppo.EntityPPO` while it optimises, on a CPU, where a C++ compiler is at hand. Everywhere
else, acting included, the same network runs as PyTorch modules.

Shapes: B observations, R rows of all of them, F features, E ego features, D width, H heads, Z columns that relations
compare.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attn_rl.nn.fused.build import library


class Source(NamedTuple):
    """Where tokens come from: an entity type, the ego, a learned query.

    Attributes:
        x: features of its rows, of all observations one after the other (rows,F); without ``embedding``, their tokens
            (rows,D). Only tokens get a gradient.
        embedding: an :class:`attn_rl.nn.tokenizer.Embedding`.
        context: what all rows of an observation share (B,E), for an embedding that wants it.
    """

    x: Tensor
    embedding: nn.Module | None = None
    context: Tensor | None = None


class Relation(NamedTuple):
    """What relations add to the scores of one block: the products of ``left`` and ``right``.

    Attributes:
        left: of the rows that look, (R,H,Z); in a block of which one row is read, (B,H,Z).
        right: of the rows that are looked at, (R,Z); gets no gradient.
    """

    left: Tensor
    right: Tensor


class Rows(NamedTuple):
    """Which rows make up which observation.

    Attributes:
        counts: rows of each source in each observation, (n_sources,B) int64; they stand in the sources' order.
        sharpness: factor on the scores of each observation (B,).
        first_only: only the first row of every observation is read.
    """

    counts: Tensor
    sharpness: Tensor
    first_only: bool


class FusedUpdates:
    """Mixin of a network that can encode without padding: whether it should, which :func:`fused_updates` says."""

    fused = False


@contextmanager
def fused_updates(network: nn.Module) -> Iterator[None]:
    """Within the block, let the networks in ``network`` take this path where they can.

    Their gradients cannot be differentiated once more, so that whoever does that (TRPO) stays outside.
    """
    found = [module for module in network.modules() if isinstance(module, FusedUpdates)] if library() else []
    for module in found:
        module.fused = True
    try:
        yield
    finally:
        for module in found:
            module.fused = False


def encode(encoder: nn.Module, sources: Sequence[Source], rows: Rows, relations: Sequence[Relation | None]) -> Tensor:
    """What ``encoder`` makes of rows without padding.

    Args:
        encoder: an :class:`attn_rl.nn.encoder.Encoder` with dot-product similarity, float32, on the CPU.
        sources: of the tokens.
        rows: which rows make up which observation.
        relations: per block.

    Returns:
        (B,D) of the first rows, or (R,D) of all, an observation's rows side by side.
    """
    call = _Call(encoder, sources, rows, relations)
    return _Encode.apply(call, *call.learned)  # type: ignore[no-any-return]


class _Encode(torch.autograd.Function):
    spare: list[Tensor] = []  # what a backward pass is done with; fresh memory would have to be mapped page by page

    @staticmethod
    def forward(ctx: Any, call: _Call, *learned: Tensor) -> Tensor:
        ctx.call = call
        size = library().kept_size(ctypes.byref(call.arguments))  # type: ignore[union-attr]
        kept = _Encode.spare.pop() if _Encode.spare else torch.empty(0)
        if kept.numel() < size:
            kept = torch.empty(size + size // 4)  # the next minibatch may hold more rows
        ctx.kept, call.arguments.kept = kept, kept.data_ptr()
        out = torch.empty(call.n_rows_out, call.width)
        library().forward(ctypes.byref(call.arguments), _address(out))  # type: ignore[union-attr]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Any, ...]:
        gradients = ctx.call.backward(d_out.contiguous())
        _Encode.spare[:] = [ctx.kept]
        return None, *gradients


class _Shape(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("n_observations", "n_sources", "width", "n_heads", "n_blocks", "hidden", "first_only")
    ]


class _Relation(ctypes.Structure):
    _fields_ = [("columns", ctypes.c_int64), *((name, ctypes.c_void_p) for name in ("left", "right", "d_left"))]


_WEIGHTS = ("first", "b_first", "from_context", "second", "b_second")


class _Source(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("features", "contexts")),
        *((name, ctypes.c_void_p) for name in ("x", "context", *_WEIGHTS)),
        *((f"d_{name}", ctypes.c_void_p) for name in ("x", *_WEIGHTS)),
    ]


class _Arguments(ctypes.Structure):
    _fields_ = [
        ("shape", _Shape),
        *((name, ctypes.c_void_p) for name in ("parameters", "sources", "counts", "sharpness", "relations", "kept")),
    ]


class _Call:
    """The arguments as C++ takes them.

    Attributes:
        learned: the tensors that get a gradient.
        places: per such tensor, the structure and field that its gradient's address belongs in.
    """

    def __init__(
        self, encoder: Any, sources: Sequence[Source], rows: Rows, relations: Sequence[Relation | None]
    ) -> None:
        self.kept_alive: list[Any] = [rows]  # what is pointed into
        self.learned: list[Tensor] = []
        self.places: list[tuple[Any, str | int]] = []
        block, n = encoder.blocks[0], rows.counts.shape[1]
        self.width = encoder.norm.weight.shape[0]
        self.n_rows_out = n if rows.first_only else sum(len(source.x) for source in sources)
        parameters = list(encoder.parameters())
        self.pointers = (ctypes.c_void_p * len(parameters))(*map(self._point, parameters))
        self.d_pointers = (ctypes.c_void_p * len(parameters))()
        for i, parameter in enumerate(parameters):
            self._learn(parameter, self.d_pointers, i)
        self.terms = (_Relation * len(relations))(*map(self._relation, relations))
        self.sources = (_Source * len(sources))(*map(self._source, sources))
        for structure, tensors in ((self.terms, relations), (self.sources, sources)):
            for part, given in zip(structure, tensors, strict=True):
                if isinstance(given, Relation):
                    self._learn(given.left, part, "d_left")
                elif isinstance(given, Source) and given.embedding is None:
                    self._learn(given.x, part, "d_x")
                elif isinstance(given, Source):
                    for name, weight in _weights(given.embedding).items():
                        self._learn(weight, part, f"d_{name}")
        self.arguments = _Arguments(
            _Shape(
                n,
                len(sources),
                self.width,
                block.attention.n_heads,
                len(encoder.blocks),
                block.feedforward.widen.out_features,
                rows.first_only,
            ),
            ctypes.addressof(self.pointers),
            ctypes.addressof(self.sources),
            self._point(rows.counts),
            self._point(rows.sharpness),
            ctypes.addressof(self.terms),
        )

    def backward(self, d_out: Tensor) -> list[Tensor]:
        """The gradients of what is learned."""
        sizes = [x.numel() for x in self.learned]
        flat = torch.zeros(sum(sizes))
        address = flat.data_ptr()
        for size, (structure, field) in zip(sizes, self.places, strict=True):
            if isinstance(field, int):
                structure[field] = address
            else:
                setattr(structure, field, address)
            address += 4 * size
        library().backward(ctypes.byref(self.arguments), _address(d_out), self.d_pointers)  # type: ignore[union-attr]
        parts = zip(flat.split(sizes), self.learned, strict=True)
        return [part if x.ndim == 1 else part.view(x.shape) for part, x in parts]

    def _learn(self, tensor: Tensor, structure: Any, field: str | int) -> None:
        self.learned.append(tensor)
        self.places.append((structure, field))

    def _point(self, tensor: Tensor) -> int:
        tensor = tensor if tensor.is_contiguous() else tensor.contiguous()
        self.kept_alive.append(tensor)
        return tensor.data_ptr()

    def _relation(self, relation: Relation | None) -> _Relation:
        if relation is None:
            return _Relation(0)
        left, right = relation
        return _Relation(left.shape[2], self._point(left), self._point(right))

    def _source(self, source: Source) -> _Source:
        if source.embedding is None:
            return _Source(0, 0, self._point(source.x))
        weights = {name: self._point(weight) for name, weight in _weights(source.embedding).items()}
        shared = 0 if source.context is None else source.context.shape[1]
        context = None if source.context is None else self._point(source.context)
        return _Source(source.x.shape[1], shared, self._point(source.x), context, **weights)


def _weights(embedding: Any) -> dict[str, Tensor]:
    found = {
        "first": embedding.first.weight,
        "b_first": embedding.first.bias,
        "second": embedding.second.weight,
        "b_second": embedding.second.bias,
    }
    return found if embedding.context is None else found | {"from_context": embedding.context.weight}


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
