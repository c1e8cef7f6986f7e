"""Batches without most of their padding: absent rows cost nothing where nobody looks at them.

Shapes: B batch, b observations of a part of it, N_t slots of a type, N slots of all types, n rows left of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attn_rl.nn.normalizer import Entities

SLOTS_PER_PART = 8192
"""A batch with fewer slots is not split: more, smaller tensors would cost more than their padding."""
MOST_PARTS = 4

Encode = Callable[[Tensor | None, Entities], tuple[Tensor, Tensor | None]]


def encode_trimmed(encode: Encode, ego: Tensor | None, entities: Entities) -> tuple[Tensor, Tensor | None]:
    """Encode without most of the padding; the same result as ``encode(ego, entities)`` but for rounding.

    Present rows move to the front and the columns that nobody needs are cut off. A large batch is first sorted by
    entity count and split, so that small observations do not pay for the largest.

    Args:
        encode: from ego (B,E) and entities to readout (B,D) and entity tokens (B,N,D) or None; it must not depend on
            the order of rows within a type.
        ego: (B,E), None without an ego.
        entities: per type, features (B,N_t,F_t) and presence (B,N_t).

    Returns:
        What ``encode`` returns; the tokens of absent rows are zero.
    """
    present = torch.cat([present for _, present in entities.values()], 1)
    n_parts = min(MOST_PARTS, present.numel() // SLOTS_PER_PART)
    if n_parts <= 1:
        return _encode_cut(encode, ego, entities)
    order = present.sum(1).argsort()
    parts = []
    for rows in order.chunk(n_parts):
        some = {name: (x.index_select(0, rows), there.index_select(0, rows)) for name, (x, there) in entities.items()}
        parts.append(_encode_cut(encode, None if ego is None else ego.index_select(0, rows), some))
    readout, tokens = zip(*parts, strict=True)
    back = order.argsort()
    whole = None if tokens[0] is None else torch.cat(tokens).index_select(0, back)
    return torch.cat(readout).index_select(0, back), whole


def _encode_cut(encode: Encode, ego: Tensor | None, entities: Entities) -> tuple[Tensor, Tensor | None]:
    """Encode with every type cut to the most rows that any observation has of it."""
    cut, columns, n_slots = {}, [], 0
    for name, (x, present) in entities.items():
        slots = _occupied(present)
        indices = _indices(slots, x.shape[1])
        rows = x.flatten(0, 1).index_select(0, indices).unflatten(0, slots.shape)
        cut[name] = rows, present.flatten().index_select(0, indices).view(slots.shape)
        columns.append(slots + n_slots)
        n_slots += x.shape[1]
    readout, tokens = encode(ego, cut)
    if tokens is None:
        return readout, None
    everywhere = tokens.new_zeros(tokens.shape[0] * n_slots, tokens.shape[-1])
    filled = everywhere.index_copy(0, _indices(torch.cat(columns, 1), n_slots), tokens.flatten(0, 1))
    return readout, filled.unflatten(0, (-1, n_slots))


def _occupied(present: Tensor) -> Tensor:
    """Slots of the present rows first, as many as any observation has, at least one: (B,N) -> (B,n)."""
    longest = max(int(present.sum(1).max()), 1)
    return present.float().argsort(dim=1, descending=True)[:, :longest]


def _indices(slots: Tensor, n_slots: int) -> Tensor:
    """Index of (observation, slot) among the rows of a flattened batch: (B,n) -> (B n,)."""
    start = torch.arange(0, slots.shape[0] * n_slots, n_slots, device=slots.device)
    return (slots + start.unsqueeze(1)).flatten()
