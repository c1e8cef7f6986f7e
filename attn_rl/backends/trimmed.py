"""Batches without most of their padding: absent rows cost nothing where nobody looks at them.

Shapes: B batch, b observations of a part of it, N_t slots of a type, N slots of all types, n rows left of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from attn_rl.nn.normalizer import Entities
from attn_rl.nn.relations.edges import EdgeRows, Joined

SLOTS_PER_PART = 8192
"""A batch with fewer slots is not split: more, smaller tensors would cost more than their padding."""
MOST_PARTS = 4

Encode = Callable[..., tuple[Tensor, Tensor | None]]
"""A network, or what stands for one that takes no edges."""


def encode_trimmed(
    encode: Encode, ego: Tensor | None, entities: Entities, edges: EdgeRows | None = None
) -> tuple[Tensor, Tensor | None]:
    """Encode without most of the padding; the same result as ``encode(ego, entities)`` but for rounding.

    Present rows move to the front and the columns that nobody needs are cut off. A large batch is first sorted by
    entity count and split, so that small observations do not pay for the largest.

    Args:
        encode: from ego (B,E), entities and, where there are some, edges to readout (B,D) and entity tokens (B,N,D) or
            None; it must not depend on the order of rows within a type, nor on that of edges.
        ego: (B,E), None without an ego.
        entities: per type, features (B,N_t,F_t) and presence (B,N_t).
        edges: per edge type, slots of both ends (B,2,E), features (B,E,F) and which exist (B,E); None = none.

    Returns:
        What ``encode`` returns; the tokens of absent rows are zero.
    """
    present = torch.cat([present for _, present in entities.values()], 1)
    n_parts = min(MOST_PARTS, present.numel() // SLOTS_PER_PART)
    if n_parts <= 1:
        return _encode_cut(encode, ego, entities, edges)
    order = present.sum(1).argsort()
    parts = []
    for rows in order.chunk(n_parts):
        some = _select(entities, rows)
        joined = None if edges is None else _select(edges, rows)
        parts.append(_encode_cut(encode, None if ego is None else ego.index_select(0, rows), some, joined))
    readout, tokens = zip(*parts, strict=True)
    back = order.argsort()
    whole = None if tokens[0] is None else torch.cat(tokens).index_select(0, back)
    return torch.cat(readout).index_select(0, back), whole


def _select(parts: Mapping[str, tuple[Tensor, ...]], rows: Tensor) -> Any:
    """Some observations of every part."""
    return {name: tuple(x.index_select(0, rows) for x in part) for name, part in parts.items()}


def _encode_cut(
    encode: Any, ego: Tensor | None, entities: Entities, edges: EdgeRows | None
) -> tuple[Tensor, Tensor | None]:
    """Encode with every type cut to the most rows that any observation has of it."""
    cut, columns, n_slots, moved = {}, [], 0, {}
    for name, (x, present) in entities.items():
        slots = _occupied(present)
        indices = _indices(slots, x.shape[1])
        rows = x.flatten(0, 1).index_select(0, indices).unflatten(0, slots.shape)
        cut[name] = rows, present.flatten().index_select(0, indices).view(slots.shape)
        columns.append(slots + n_slots)
        moved[name] = slots, x.shape[1]
        n_slots += x.shape[1]
    readout, tokens = encode(ego, cut) if edges is None else encode(ego, cut, _cut_edges(encode.joined, edges, moved))
    if tokens is None:
        return readout, None
    everywhere = tokens.new_zeros(tokens.shape[0] * n_slots, tokens.shape[-1])
    filled = everywhere.index_copy(0, _indices(torch.cat(columns, 1), n_slots), tokens.flatten(0, 1))
    return readout, filled.unflatten(0, (-1, n_slots))


def _cut_edges(joined: Mapping[str, Joined], edges: EdgeRows, moved: Mapping[str, tuple[Tensor, int]]) -> EdgeRows:
    """Edges whose ends are where the rows have moved to, cut to the most that any observation has.

    Args:
        joined: per edge type, which entity types it joins.
        edges: of the whole observation.
        moved: per entity type, the slots (B,n) that its rows come from, and how many there were.
    """
    cut = {}
    for name, (slots, x, exists) in edges.items():
        kept = _occupied(exists)
        ends = []
        for end, owner in enumerate(joined[name][:2]):
            at = slots[:, end].gather(1, kept)
            if owner in moved:
                came_from, n = moved[owner]
                gone = torch.full((len(at), n + 1), -1, device=at.device)  # one more, for what is no slot
                now = gone.scatter_(
                    1, came_from, torch.arange(came_from.shape[1], device=at.device).expand_as(came_from)
                )
                at = now.gather(1, torch.where((at >= 0) & (at < n), at, n))
            ends.append(at)
        features = x.gather(1, kept.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        cut[name] = torch.stack(ends, 1), features, exists.gather(1, kept)
    return cut


def _occupied(present: Tensor) -> Tensor:
    """Slots of the present rows first, as many as any observation has, at least one: (B,N) -> (B,n)."""
    longest = max(int(present.sum(1).max()), 1)
    return present.float().argsort(dim=1, descending=True)[:, :longest]


def _indices(slots: Tensor, n_slots: int) -> Tensor:
    """Index of (observation, slot) among the rows of a flattened batch: (B,n) -> (B n,)."""
    start = torch.arange(0, slots.shape[0] * n_slots, n_slots, device=slots.device)
    return (slots + start.unsqueeze(1)).flatten()
