"""From features to tokens: one embedding per entity type, one for the ego."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attn_rl.nn.normalizer import Entities


class Tokens(NamedTuple):
    """A set of tokens.

    Attributes:
        x: embeddings (B,N,D).
        present: boolean (B,N), True = there.
    """

    x: Tensor
    present: Tensor


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
        hidden = self.first(x)
        if self.context is not None and context is not None:
            hidden = hidden + self.context(context).unsqueeze(-2)
        return self.second(torch.relu(hidden))


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

    def forward(self, ego: Tensor | None, entities: Entities) -> Tokens:
        """Embed features in which absent rows are finite (see :class:`EntityNormalizer`).

        Args:
            ego: (B,E), None without an ego.
            entities: per type, features (B,N_t,F_t) and presence (B,N_t).

        Returns:
            Tokens with x (B,N,D): the ego first where there is one, then the types in slot order.
        """
        rows = [embed(x, ego) for embed, (x, _) in zip(self.embed, entities.values(), strict=True)]
        presence = [present for _, present in entities.values()]
        if self.embed_ego is not None and ego is not None:
            rows.insert(0, self.embed_ego(ego).unsqueeze(1))
            presence.insert(0, presence[0].new_ones(ego.shape[0], 1))
        return Tokens(torch.cat(rows, 1), torch.cat(presence, 1))
