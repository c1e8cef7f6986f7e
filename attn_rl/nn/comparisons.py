"""What relations compare: groups of features of one kind, on one scale, and the channels of a pair of them.

Shapes: B batch, Q querying rows, N attended rows, C channels, w features of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attn_rl.nn.normalizer import RunningNormalizer

EGO = "ego"


class Group(NamedTuple):
    """Features of one kind that the tokens of one owner carry.

    Attributes:
        kind: groups of the same kind may be compared.
        compare: how: ``"value"``, ``"position"`` or ``"category"``.
        owner: an entity type, or ``"ego"``.
        name: what a relation calls it, e.g. ``"items.colour"``.
        columns: where its w features stand among the owner's.
    """

    kind: str
    compare: str
    owner: str
    name: str
    columns: tuple[int, ...]


def value_channels(u: Tensor, v: Tensor) -> Tensor:
    """Minus half the mean squared difference: u (B,Q,w), v (B,N,w) -> (B,1,Q,N).

    With features of unit variance two rows are 1 apart on average.
    """
    return -0.5 * (u.unsqueeze(2) - v.unsqueeze(1)).square().mean(-1).unsqueeze(1)


def position_channels(u: Tensor, v: Tensor) -> Tensor:
    """Direction, range and nearness of v as seen from u, all bounded: (B,Q,w), (B,N,w) -> (B,w+3,Q,N)."""
    offset = (v.unsqueeze(1) - u.unsqueeze(2)).movedim(-1, 1)
    square = offset.square().sum(1, keepdim=True)
    damping = (1.0 + square).rsqrt()
    return torch.cat([offset * damping, square * damping**2, torch.exp(-square), torch.exp(-8.0 * square)], 1)


def category_channels(u: Tensor, v: Tensor) -> Tensor:
    """Which category meets which: one-hot u (B,Q,w), v (B,N,w) -> one-hot (B,w*w,Q,N)."""
    return torch.einsum("bqs,bnt->bstqn", u, v).flatten(1, 2)


CHANNELS = {"value": value_channels, "position": position_channels, "category": category_channels}


def channel_names(a: Group, b: Group) -> list[str]:
    """One name per channel of a pair of groups."""
    width = range(len(a.columns))
    if a.compare == "value":
        return [f"{a.name} = {b.name}"]
    if a.compare == "position":
        parts = [f"direction {i}" for i in width] + ["range", "near", "touching"]
        return [f"{a.name} -> {b.name}: {part}" for part in parts]
    return [f"{a.name} {i} - {b.name} {j}" for i in width for j in width]


class KindScale(nn.Module):
    """One scale for all groups of a kind, so that they stay comparable.

    Features are centred on each observation's own mean and divided by one running standard deviation *within*
    observations. So positions may be absolute: neighbours 1 apart at x = 1000 keep all their digits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.normalizer = RunningNormalizer(1)

    def forward(self, rows: Sequence[Tensor], presence: Sequence[Tensor]) -> list[Tensor]:
        """Scale each group's features (B,N,w), zero where not ``presence`` (B,N), with the same statistics."""
        x, present = torch.cat(list(rows), 1), torch.cat(list(presence), 1)
        weight = present.unsqueeze(-1).to(x.dtype)
        centre = (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1.0)
        centred = ((x - centre) * weight).unsqueeze(-1)
        scaled = self.normalizer(centred, present.unsqueeze(-1).expand_as(x)).squeeze(-1)
        return list(scaled.split([group.shape[1] for group in rows], 1))


def comparable(a: Group, b: Group) -> bool:
    """Whether two groups form a relation: of one kind, and not both the ego's, which is a single token."""
    return a.kind == b.kind and not a.owner == b.owner == EGO
