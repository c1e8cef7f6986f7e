"""From features to tokens: one embedding per entity type, one for the ego."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from attn_rl.nn.fused import Source
from attn_rl.nn.normalizer import Entities


class Tokens(NamedTuple):
    """A set of tokens.

    Attributes:
        x: embeddings (B,N,D).
        present: boolean (B,N), True = there.
        first: the first row of ``x`` once more, (B,1,D), or (1,1,D) where it is the same for all observations. Whoever
            reads only that row is spared a slice and its gradient, which is as large as ``x``.
    """

    x: Tensor
    present: Tensor
    first: Tensor


def narrow_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` for few input features, with a weight gradient that is up to 7 times as fast.

    Autograd computes the gradient in the layout of the matrix that was multiplied with. Of (D,F) with F < 16 it is a
    product with very few columns, which the CPU's BLAS is bad at; of (F,D) it is not.

    Args:
        x: (...,F).
        weight: (D,F).
        bias: (D,).
    """
    if not torch.is_grad_enabled():
        return linear(x, weight, bias)
    wide = weight.t().contiguous()
    rows = x.flatten(0, -2)
    product = rows @ wide if bias is None else torch.addmm(bias, rows, wide)
    return product.unflatten(0, x.shape[:-1])


def embed(
    x: Tensor,
    context: Tensor | None,
    first: Tensor,
    b_first: Tensor,
    from_context: Tensor | None,
    second: Tensor,
    b_second: Tensor,
) -> Tensor:
    """Two linear layers with a ReLU between; the arguments are those and the weights of :class:`Embedding`."""
    hidden = narrow_linear(x, first, b_first)
    if from_context is not None and context is not None:
        hidden = hidden + narrow_linear(context, from_context).unsqueeze(-2)
    return linear(torch.relu_(hidden), second, b_second)


class Embedding(nn.Module):
    """Two linear layers with a ReLU between: features (..., F) -> (..., D).

    ``context`` (the ego's features) enters as if it were concatenated to every row: a linear layer of a
    concatenation is a sum of two, so the context's half is computed once per observation instead of once per row.
    """

    def __init__(self, n_features: int, d_model: int, n_context: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(n_features, d_model)
        self.context = nn.Linear(n_context, d_model, bias=False) if n_context else None
        self.second = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Embed rows ``x`` (B,N,F), or (B,F); ``context`` (B,E) is shared by all rows of an observation."""
        return embed(x, context, *self.weights())

    def weights(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        """For :func:`embed`."""
        from_context = None if self.context is None else self.context.weight
        return self.first.weight, self.first.bias, from_context, self.second.weight, self.second.bias


class Tokenizer(nn.Module):
    """Embed the ego and every entity type into one set of tokens, the ego first.

    Args:
        widths: number of features F of each entity type, in slot order.
        ego_width: number of ego features E; 0 = no ego.
        d_model: width D of a token.
        ego_conditioning: let every entity's embedding see the ego's features. A query-key product can only
            compare; with the ego in the row, the embedding itself can say "this is the one I look for".
    """

    def __init__(
        self, widths: Mapping[str, int], ego_width: int, d_model: int, *, ego_conditioning: bool = True
    ) -> None:
        super().__init__()
        context = ego_width if ego_conditioning else 0
        self.embed = nn.ModuleList(Embedding(width, d_model, context) for width in widths.values())
        self.embed_ego = Embedding(ego_width, d_model) if ego_width else None

    def forward(self, ego: Tensor | None, entities: Entities, query: Tensor | None = None) -> Tokens:
        """Embed features in which absent rows are finite (see :class:`EntityNormalizer`).

        Args:
            ego: (B,E), None without an ego.
            entities: per type, features (B,N_t,F_t) and presence (B,N_t).
            query: a further token (D,), the same for all observations.

        Returns:
            Tokens with x (B,N,D): the query and the ego first where there are any, then the types in slot order.
        """
        rows = [embed(x, ego) for embed, (x, _) in zip(self.embed, entities.values(), strict=True)]
        first = rows[0][:, :1]
        if self.embed_ego is not None and ego is not None:
            first = self.embed_ego(ego).unsqueeze(1)
            rows.insert(0, first)
        if query is not None:
            first = query.expand(1, 1, -1)
            rows.insert(0, first.expand(len(rows[0]), -1, -1))
        present = _joined([present for _, present in entities.values()])
        return Tokens(_joined(rows), pad(present, (len(rows) - len(entities), 0), value=True), first)

    def sources(self, ego: Tensor | None, rows: Sequence[Tensor], query: Tensor | None = None) -> list[Source]:
        """The same tokens, in the same order, for the fused kernels to embed.

        Args:
            ego, query: as for :meth:`forward`; the query once per observation (B,D).
            rows: per type, features of the rows that are present (R_t,F).
        """
        found = [] if query is None else [Source(query)]
        if self.embed_ego is not None and ego is not None:
            found.append(Source(ego, self.embed_ego))
        types = zip(rows, self.embed, strict=True)
        return found + [Source(x, embed, ego if embed.context is not None else None) for x, embed in types]


def _joined(rows: list[Tensor]) -> Tensor:
    """Concatenate along the rows; a single part is not copied."""
    return rows[0] if len(rows) == 1 else torch.cat(rows, 1)
