"""Pre-norm transformer blocks in which only the rows that are read are computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attn_rl.nn.attention import ATTENTION
from attn_rl.nn.registry import look_up
from attn_rl.nn.relations.terms import NO_TERMS, ScoreTerms
from attn_rl.nn.stages import (
    AttentionStage,
    BlockStage,
    Described,
    EncoderStage,
    FeedForwardStage,
    LinearStage,
    NormStage,
    stage_of,
)


class FeedForward(Described):
    """Two linear layers with a ReLU between, row by row: (..., D) -> (..., D)."""

    def __init__(self, d_model: int, d_hidden: int) -> None:
        super().__init__()
        self.widen = nn.Linear(d_model, d_hidden)
        self.narrow = nn.Linear(d_hidden, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every row of ``x`` (..., D)."""
        out: Tensor = self.narrow(torch.relu(self.widen(x)))
        return out

    def stage(self) -> FeedForwardStage:
        """Describe this part."""
        return FeedForwardStage(*(stage_of(getattr(self, name), name, LinearStage) for name in ("widen", "narrow")))


class Block(Described):
    r"""One pre-norm transformer block (Xiong et al. 2020).

    .. math:: y = x + \mathrm{MHA}(\mathrm{LN}(x)), \qquad z = y + \mathrm{FF}(\mathrm{LN}(y))

    Args:
        d_model: width D.
        n_heads: heads H.
        d_feedforward: hidden width of FF.
        attention: name of the attention layer, a key of :data:`attn_rl.nn.attention.ATTENTION`.
        keywords: further keywords of that layer.
    """

    def __init__(
        self, d_model: int, n_heads: int, d_feedforward: int, *, attention: str = "multihead", **keywords: object
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(d_model)
        self.attention = look_up("attention", attention, ATTENTION)(d_model, n_heads, **keywords)
        self.norm_feedforward = nn.LayerNorm(d_model)
        self.feedforward = FeedForward(d_model, d_feedforward)

    def forward(self, x: Tensor, present: Tensor, rows: Tensor | None = None, terms: ScoreTerms = NO_TERMS) -> Tensor:
        """Compute the block's output for ``rows``.

        Args:
            x: (B,N,D).
            present: boolean (B,N).
            rows: the rows of ``x`` that anybody reads, (B,Q,D), or (1,Q,D) where they are the same for all
                observations; the others are not computed. None = all.
            terms: what relations add to the scores and to the output.

        Returns:
            (B,Q,D)
        """
        normed = self.norm_attention(x)
        queries = normed if rows is None else self.norm_attention(rows)
        allowed = {} if terms.allowed is None else {"allowed": terms.allowed}  # layers of your own need not know it
        attended = self.attention(queries, normed, present, terms.bias, terms.carry, **allowed)
        mixed = (x if rows is None else rows) + attended
        out: Tensor = mixed + self.feedforward(self.norm_feedforward(mixed))
        return out

    def stage(self) -> BlockStage:
        """Describe this block."""
        return BlockStage(
            stage_of(self.norm_attention, "norm_attention", NormStage),
            stage_of(self.attention, "attention", AttentionStage),
            stage_of(self.norm_feedforward, "norm_feedforward", NormStage),
            stage_of(self.feedforward, "feedforward", FeedForwardStage),
        )


BLOCKS: dict[str, type[nn.Module]] = {"pre_norm": Block}
"""Blocks by name, for ``block=`` of the network. An entry takes the arguments of :class:`Block` and has its
``forward``."""


class Encoder(Described):
    """A stack of blocks; the last one computes only the rows that are read out.

    With one layer and one row there is no N-by-N work at all: the cost is linear in N.

    Args:
        d_model, n_heads, d_feedforward: as for :class:`Block`.
        n_layers: blocks.
        block: their name, a key of :data:`BLOCKS`.
        keywords: further keywords of the blocks.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_layers: int,
        d_feedforward: int,
        *,
        block: str = "pre_norm",
        **keywords: object,
    ) -> None:
        super().__init__()
        if n_layers < 1:
            raise ValueError(
                f"n_layers={n_layers}, expected at least 1; use DeepSetsExtractor for a set without attention"
            )
        made = look_up("block", block, BLOCKS)
        self.blocks = nn.ModuleList(
            made(d_model, n_heads, d_feedforward, scale_products=i == n_layers - 1, **keywords) for i in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        x: Tensor,
        present: Tensor,
        first: Tensor | None = None,
        terms: Sequence[ScoreTerms] | None = None,
    ) -> Tensor:
        """Encode all rows, or only those that are read.

        Args:
            x: (B,N,D).
            present: boolean (B,N).
            first: the first Q rows of ``x``, (B,Q,D) or (1,Q,D), where nobody reads the others; None = all are read.
            terms: what relations add to each layer.

        Returns:
            (B,Q,D), normalised.
        """
        for i, block in enumerate(self.blocks):
            last = first is not None and i == len(self.blocks) - 1
            x = block(x, present, first if last else None, terms[i] if terms else NO_TERMS)
            if first is not None and not last:
                first = x[:, : first.shape[1]]
        normed: Tensor = self.norm(x)
        return normed

    def stage(self) -> EncoderStage:
        """Describe the stack."""
        blocks = tuple(stage_of(block, f"blocks.{i}", BlockStage) for i, block in enumerate(self.blocks))
        return EncoderStage(blocks, stage_of(self.norm, "norm", NormStage))
