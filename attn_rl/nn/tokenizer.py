"""From features to tokens: one embedding per entity type, one for the ego."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from attn_rl.nn.normalizer import Entities
from attn_rl.nn.registry import look_up
from attn_rl.nn.stages import Described, EmbeddingStage, LinearStage, stage_of
from attn_rl.nn.token_order import EGO, QUERY, TokenOrder


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
    out: Tensor = product.unflatten(0, x.shape[:-1])
    return out


class Embedding(Described):
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
        hidden = narrow_linear(x, self.first.weight, self.first.bias)
        if self.context is not None and context is not None:
            hidden = hidden + narrow_linear(context, self.context.weight).unsqueeze(-2)
        return linear(torch.relu_(hidden), self.second.weight, self.second.bias)

    def stage(self) -> EmbeddingStage:
        """Describe this embedding."""
        first, second = stage_of(self.first, "first", LinearStage), stage_of(self.second, "second", LinearStage)
        context = None if self.context is None else stage_of(self.context, "context", LinearStage).weight
        return EmbeddingStage(first, context, second)


EMBEDDINGS: dict[str, type[nn.Module]] = {"mlp": Embedding}
"""Embeddings by name, for ``embedding=`` of the network. An entry takes the arguments of :class:`Embedding` and has its
``forward``."""


class Tokenizer(Described):
    """Embed the ego and every entity type into one set of tokens, the ego first.

    Args:
        widths: number of features F of each entity type, in slot order.
        ego_width: number of ego features E; 0 = no ego.
        d_model: width D of a token.
        ego_conditioning: let every entity's embedding see the ego's features. A query-key product can only
            compare; with the ego in the row, the embedding itself can say "this is the one I look for".
        query: a learned query stands before all.
        embedding: a key of :data:`EMBEDDINGS`.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        ego_width: int,
        d_model: int,
        *,
        ego_conditioning: bool = True,
        query: bool = False,
        embedding: str = "mlp",
    ) -> None:
        super().__init__()
        self.order = TokenOrder.of(tuple(widths), query=query, ego=ego_width > 0)
        made, context = look_up("embedding", embedding, EMBEDDINGS), ego_width if ego_conditioning else 0
        self.embed = nn.ModuleList(made(width, d_model, context) for width in widths.values())
        self.embed_ego = made(ego_width, d_model) if ego_width else None

    def forward(self, ego: Tensor | None, entities: Entities, query: Tensor | None = None) -> Tokens:
        """Embed features in which absent rows are finite (see :class:`EntityNormalizer`).

        Args:
            ego: (B,E), None without an ego.
            entities: per type, features (B,N_t,F_t) and presence (B,N_t).
            query: the learned query (D,), the same for all observations.

        Returns:
            Tokens with x (B,N,D), in :attr:`order`.
        """
        rows = [embed(x, ego) for embed, (x, _) in zip(self.embed, entities.values(), strict=True)]
        lead: dict[str, Tensor] = {}
        if self.embed_ego is not None and ego is not None:
            lead[EGO] = self.embed_ego(ego).unsqueeze(1)
        if query is not None:
            lead[QUERY] = query.expand(rows[0].shape[0], 1, -1)
        first = query.expand(1, 1, -1) if query is not None else lead.get(EGO, rows[0][:, :1])
        return Tokens(self.order.join(lead, rows), self.order.presence(entities), first)

    def stage(self) -> tuple[EmbeddingStage | None, ...]:
        """The embeddings in the order of the tokens; None for a learned query, which needs none."""
        types = [stage_of(part, f"embed.{i}", EmbeddingStage) for i, part in enumerate(self.embed)]
        ego = None if self.embed_ego is None else stage_of(self.embed_ego, "embed_ego", EmbeddingStage)
        return *(ego if owner == EGO else None for owner in self.order.lead), *types
