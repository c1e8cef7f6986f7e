"""From tokens to one vector: masked pooling with a defined answer for the empty set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

READOUTS = ("ego", "learned", "mean", "max")


def masked_mean(x: Tensor, present: Tensor) -> Tensor:
    """Mean of the present rows: x (B,N,D), present (B,N) -> (B,D); zeros where nothing is present."""
    weight = present.unsqueeze(-1).to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)


def masked_max(x: Tensor, present: Tensor) -> Tensor:
    """Maximum over the present rows: x (B,N,D), present (B,N) -> (B,D); zeros where nothing is present."""
    lowest = torch.finfo(x.dtype).min
    pooled = x.masked_fill(~present.unsqueeze(-1), lowest).amax(1)
    return pooled.masked_fill(~present.any(1, keepdim=True), 0.0)


class Pooling(nn.Module):
    """Pool tokens with masked means and maxima; a learned vector stands for the empty set.

    Args:
        d_model: width D.
        pools: any of ``"mean"`` and ``"max"``, concatenated in this order.
    """

    def __init__(self, d_model: int, pools: tuple[str, ...]) -> None:
        super().__init__()
        self.pools = tuple({"mean": masked_mean, "max": masked_max}[name] for name in pools)
        self.empty = nn.Parameter(torch.zeros(d_model * len(pools)))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """(B,N,D) and (B,N) -> (B, D * number of pools)."""
        pooled = torch.cat([pool(x, present) for pool in self.pools], -1)
        return torch.where(present.any(1, keepdim=True), pooled, self.empty)
