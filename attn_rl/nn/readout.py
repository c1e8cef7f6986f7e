"""From tokens to one vector: masked pooling with a defined answer for the empty set."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attn_rl.nn.stages import Described, stage_of


class PoolingStage(NamedTuple):
    """Means and maxima over present rows, side by side.

    Attributes:
        pools: which, in this order.
        empty: (D * number of pools), where nothing is present.
    """

    pools: tuple[str, ...]
    empty: Tensor


class ReadoutStage(NamedTuple):
    """From encoded rows to one: the first, or those of the entities pooled."""

    pooling: PoolingStage | None


def masked_mean(x: Tensor, present: Tensor) -> Tensor:
    """Mean of the present rows: x (B,N,D), present (B,N) -> (B,D); zeros where nothing is present."""
    weight = present.unsqueeze(-1).to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)


def masked_max(x: Tensor, present: Tensor) -> Tensor:
    """Maximum over the present rows: x (B,N,D), present (B,N) -> (B,D); zeros where nothing is present."""
    lowest = torch.finfo(x.dtype).min
    pooled = x.masked_fill(~present.unsqueeze(-1), lowest).amax(1)
    return pooled.masked_fill(~present.any(1, keepdim=True), 0.0)


POOLS = {"mean": masked_mean, "max": masked_max}


class Pooling(Described):
    """Pool tokens with masked means and maxima; a learned vector stands for the empty set.

    Args:
        d_model: width D.
        pools: any of ``"mean"`` and ``"max"``, concatenated in this order.
    """

    def __init__(self, d_model: int, pools: tuple[str, ...]) -> None:
        super().__init__()
        self.pools = pools
        self.empty = nn.Parameter(torch.zeros(d_model * len(pools)))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """(B,N,D) and (B,N) -> (B, D * number of pools)."""
        pooled = torch.cat([POOLS[name](x, present) for name in self.pools], -1)
        return torch.where(present.any(1, keepdim=True), pooled, self.empty)

    def stage(self) -> PoolingStage:
        """Describe the pooling."""
        return PoolingStage(self.pools, self.empty)


class Readout(Described):
    """From the encoder's rows to one vector.

    Attributes:
        needs: a token that must stand first for this: ``"ego"``, ``"query"`` (a learned one), or None.
        reads_first: only the first row is read, so that the last layer computes no other.
    """

    needs: str | None = None
    reads_first = False

    def __init__(self, d_model: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, present: Tensor, n_lead: int) -> Tensor:
        """Read out.

        Args:
            x: rows (B,N,D): ``n_lead`` tokens, then the entities; only (B,1,D) where ``reads_first``.
            present: boolean (B,N), of all tokens.
            n_lead: tokens before the entities.

        Returns:
            (B,D)
        """
        raise NotImplementedError

    def rows(self, present: Tensor, n_lead: int) -> Tensor:
        """How much of every row is read (B,N): weights that sum to 1, or to 0 where nothing is present."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say which rows it reads; define rows(present, n_lead) to record its maps"
        )


class FirstRow(Readout):
    """The ego's row, where the ego asks."""

    needs = "ego"
    reads_first = True

    def forward(self, x: Tensor, present: Tensor, n_lead: int) -> Tensor:
        """(B,N,D) -> (B,D)."""
        return x[:, 0]

    def rows(self, present: Tensor, n_lead: int) -> Tensor:
        """All of the first row."""
        first = torch.zeros_like(present, dtype=torch.float32)
        first[:, 0] = 1.0
        return first

    def stage(self) -> ReadoutStage:
        """Describe the readout."""
        return ReadoutStage(None)


class LearnedQuery(FirstRow):
    """The row of a learned query."""

    needs = "query"

    def stage(self) -> ReadoutStage:
        """Describe the readout."""
        return ReadoutStage(None)


class MeanOfEntities(Readout):
    """The mean of the present entities' rows; a learned vector where there is none."""

    pools: tuple[str, ...] = ("mean",)

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.pooling = Pooling(d_model, self.pools)

    def forward(self, x: Tensor, present: Tensor, n_lead: int) -> Tensor:
        """(B,N,D) -> (B,D)."""
        pooled: Tensor = self.pooling(x[:, n_lead:], present[:, n_lead:])
        return pooled

    def rows(self, present: Tensor, n_lead: int) -> Tensor:
        """Present entities alike."""
        there = present.float()
        there[:, :n_lead] = 0.0
        return there / there.sum(1, keepdim=True).clamp(min=1.0)

    def stage(self) -> ReadoutStage:
        """Describe the readout."""
        return ReadoutStage(stage_of(self.pooling, "pooling", PoolingStage))


class MaxOfEntities(MeanOfEntities):
    """The maximum over the present entities' rows, column by column; every row may supply some."""

    pools = ("max",)

    def stage(self) -> ReadoutStage:
        """Describe the readout."""
        return ReadoutStage(stage_of(self.pooling, "pooling", PoolingStage))


READOUTS: dict[str, type[Readout]] = {
    "ego": FirstRow,
    "learned": LearnedQuery,
    "mean": MeanOfEntities,
    "max": MaxOfEntities,
}
"""Readouts by name, for ``readout=`` of the network."""
