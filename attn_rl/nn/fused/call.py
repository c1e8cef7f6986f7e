"""What ``encoder.cpp`` is called with: tensors, and the places their gradients go to, as addresses.

Shapes: B observations, R rows of all of them, F features, E ego features, D width, H heads, Z columns that relations
compare.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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


def pack(
    types: Sequence[tuple[Tensor, Tensor, tuple[Tensor, Tensor, float] | None]], n_lead: int
) -> tuple[list[Tensor], Tensor]:
    """The rows that are present, one behind the other, standardised.

    Args:
        types: per entity type, features (B,N_t,F_t), presence (B,N_t) and the arguments of
            :func:`attn_rl.nn.normalizer.standardize`, None = features stay as they are.
        n_lead: tokens before the entities.

    Returns:
        per type, features (R_t,F_t); and how many rows each observation has of each source, int64
        (n_lead + n_types,B).
    """
    n, alive = len(types[0][0]), []
    counts = torch.ones(n_lead + len(types), n, dtype=torch.int64)
    slots, totals = (_Slots * len(types))(), (ctypes.c_int64 * len(types))()
    for i, (x, present, scaling) in enumerate(types):
        x = x if x.stride(-1) == 1 else x.contiguous()
        present, packed = present.contiguous(), torch.empty(x.shape[0] * x.shape[1], x.shape[2])
        mean, scale, clip = (None, None, 0.0) if scaling is None else scaling
        alive.append((x, present, packed))
        slots[i] = _Slots(
            x.shape[1],
            x.shape[2],
            x.stride(0),
            x.stride(1),
            x.data_ptr(),
            present.data_ptr(),
            None if mean is None else mean.data_ptr(),
            None if scale is None else scale.data_ptr(),
            clip,
            packed.data_ptr(),
            counts.data_ptr() + 8 * n * (n_lead + i),
        )
    library().pack(ctypes.c_int64(len(types)), slots, ctypes.c_int64(n), totals)  # type: ignore[union-attr]
    return [packed[:total] for (_, _, packed), total in zip(alive, totals, strict=True)], counts


class _Slots(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "features", "stride", "row_stride")),
        *((name, ctypes.c_void_p) for name in ("x", "present", "mean", "scale")),
        ("clip", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("packed", "counts")),
    ]


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


class Learned:
    """The weights of an encoder and of embeddings as C++ takes them.

    Attributes:
        tensors: the weights.
        embeddings: per embedding, its addresses.
        fields: per embedding, what C++ calls its gradients.
    """

    def __init__(self, encoder: Any, embeddings: Sequence[nn.Module]) -> None:
        block = encoder.blocks[0]
        self.width, self.n_heads, self.n_blocks = len(encoder.norm.weight), block.attention.n_heads, len(encoder.blocks)
        self.hidden = block.feedforward.widen.out_features
        self.tensors: list[Tensor] = list(encoder.parameters())
        self.n_encoder = len(self.tensors)
        self.pointers = (ctypes.c_void_p * self.n_encoder)(*map(Tensor.data_ptr, self.tensors))
        self.embeddings: list[dict[str, int]] = []
        self.fields: list[list[str]] = []
        for embedding in embeddings:
            weights = _weights(embedding)
            self.tensors += weights.values()
            self.fields.append([f"d_{name}" for name in weights])
            self.embeddings.append({name: weight.data_ptr() for name, weight in weights.items()})


def gradient_of(weight: Tensor) -> Tensor:
    """Where the gradient of ``weight`` is added up: its ``grad``, or somewhere to be forgotten if nobody wants it."""
    if not weight.requires_grad:
        return torch.zeros_like(weight)
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


class Call:
    """The arguments as C++ takes them.

    Attributes:
        inputs: the tensors beside the weights that get a gradient: tokens, then left sides of relations.
    """

    def __init__(
        self, weights: Learned, sources: Sequence[Source], rows: Rows, relations: Sequence[Relation | None]
    ) -> None:
        self.weights, n = weights, rows.counts.shape[1]
        self.kept_alive: list[Any] = [rows]  # what is pointed into
        self.width = weights.width
        self.n_rows_out = n if rows.first_only else sum(len(source.x) for source in sources)
        embeddings = iter(weights.embeddings)
        self.terms = (_Relation * len(relations))(*map(self._relation, relations))
        self.sources = (_Source * len(sources))(*(self._source(source, embeddings) for source in sources))
        tokens = [(s.x, part, "d_x") for s, part in zip(sources, self.sources, strict=True) if s.embedding is None]
        left = [(r.left, part, "d_left") for r, part in zip(relations, self.terms, strict=True) if r is not None]
        self._places = [(part, field) for _, part, field in tokens + left]
        self.inputs = [x for x, _, _ in tokens + left]
        self.arguments = _Arguments(
            _Shape(n, len(sources), self.width, weights.n_heads, weights.n_blocks, weights.hidden, rows.first_only),
            ctypes.addressof(weights.pointers),
            ctypes.addressof(self.sources),
            self._point(rows.counts),
            self._point(rows.sharpness),
            ctypes.addressof(self.terms),
        )

    def backward(self, d_out: Tensor) -> list[Tensor]:
        """Add to the gradients of the weights; return those of :attr:`inputs`."""
        weights, found = self.weights, [torch.zeros(x.shape) for x in self.inputs]
        for (structure, field), gradient in zip(self._places, found, strict=True):
            setattr(structure, field, gradient.data_ptr())
        gradients = [gradient_of(weight) for weight in weights.tensors]
        places = map(Tensor.data_ptr, gradients)
        d_pointers = (ctypes.c_void_p * weights.n_encoder)(*islice(places, weights.n_encoder))
        embedded = [part for part in self.sources if part.features]
        for part, fields in zip(embedded, weights.fields, strict=True):
            for field in fields:
                setattr(part, field, next(places))
        library().backward(ctypes.byref(self.arguments), address(d_out), d_pointers)  # type: ignore[union-attr]
        return found

    def _point(self, tensor: Tensor) -> int:
        tensor = tensor if tensor.is_contiguous() else tensor.contiguous()
        self.kept_alive.append(tensor)
        return tensor.data_ptr()

    def _relation(self, relation: Relation | None) -> _Relation:
        if relation is None:
            return _Relation(0)
        left, right = relation
        return _Relation(left.shape[2], self._point(left), self._point(right))

    def _source(self, source: Source, embeddings: Iterator[dict[str, int]]) -> _Source:
        if source.embedding is None:
            return _Source(0, 0, self._point(source.x))
        shared = 0 if source.context is None else source.context.shape[1]
        context = None if source.context is None else self._point(source.context)
        return _Source(source.x.shape[1], shared, self._point(source.x), context, **next(embeddings))


def _weights(embedding: Any) -> dict[str, Tensor]:
    found = {
        "first": embedding.first.weight,
        "b_first": embedding.first.bias,
        "second": embedding.second.weight,
        "b_second": embedding.second.bias,
    }
    return found if embedding.context is None else found | {"from_context": embedding.context.weight}


def address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
