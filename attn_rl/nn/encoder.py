"""Pre-norm transformer blocks in which only the rows that are read are computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.nn.relations.layers import UNRELATED, Related


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between, row by row: (..., D) -> (..., D)."""

    def __init__(self, d_model: int, d_hidden: int) -> None:
        super().__init__()
        self.widen = nn.Linear(d_model, d_hidden)
        self.narrow = nn.Linear(d_hidden, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every row of ``x`` (..., D)."""
        return self.narrow(torch.relu(self.widen(x)))


class Block(nn.Module):
    r"""One pre-norm transformer block (Xiong et al. 2020).

    .. math:: y = x + \mathrm{MHA}(\mathrm{LN}(x)), \qquad z = y + \mathrm{FF}(\mathrm{LN}(y))

    Args:
        d_model: width D.
        n_heads: heads H.
        d_feedforward: hidden width of FF.
        attention: further keywords of :class:`MultiHeadAttention`.
    """

    def __init__(self, d_model: int, n_heads: int, d_feedforward: int, **attention) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, n_heads, **attention)
        self.norm_feedforward = nn.LayerNorm(d_model)
        self.feedforward = FeedForward(d_model, d_feedforward)

    def forward(self, x: Tensor, present: Tensor, rows: Tensor | None = None, related: Related = UNRELATED) -> Tensor:
        """Compute the block's output for ``rows``.

        Args:
            x: (B,N,D).
            present: boolean (B,N).
            rows: the rows of ``x`` that anybody reads, (B,Q,D), or (1,Q,D) where they are the same for all
                observations; the others are not computed. None = all.
            related: what relations add to the scores and to the output.

        Returns:
            (B,Q,D)
        """
        normed = self.norm_attention(x)
        queries = normed if rows is None else self.norm_attention(rows)
        mixed = (x if rows is None else rows) + self.attention(queries, normed, present, *related)
        return mixed + self.feedforward(self.norm_feedforward(mixed))


class Encoder(nn.Module):
    """A stack of blocks; the last one computes only the rows that are read out.

    With one layer and one row there is no N-by-N work at all: the cost is linear in N.
    """

    def __init__(self, d_model: int, n_heads: int, n_layers: int, d_feedforward: int, **attention) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(d_model, n_heads, d_feedforward, inner=i < n_layers - 1, **attention) for i in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        x: Tensor,
        present: Tensor,
        first: Tensor | None = None,
        related: Sequence[Related] | None = None,
    ) -> Tensor:
        """Encode all rows, or only those that are read.

        Args:
            x: (B,N,D).
            present: boolean (B,N).
            first: the first Q rows of ``x``, (B,Q,D) or (1,Q,D), where nobody reads the others; None = all are read.
            related: what relations add to each layer.

        Returns:
            (B,Q,D), normalised.
        """
        for i, block in enumerate(self.blocks):
            last = first is not None and i == len(self.blocks) - 1
            x = block(x, present, first if last else None, related[i] if related else UNRELATED)
            if first is not None and not last:
                first = x[:, : first.shape[1]]
        return self.norm(x)
