"""The terms that edges add to one attention layer: scores, and what the output is told of them.

Shapes: B batch, H heads, Q queries, N tokens, P pairs of all edge types in both directions, C channels.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from attn_rl.nn.relations.terms import SPEED, ScoreTerms
from attn_rl.nn.stages import Described, Opaque, stage_of

STRONG = 3.0
"""A head starts with this much on the pairs of one direction of one edge type, and with nothing on the others."""


class Pairs(NamedTuple):
    """All pairs of tokens that edges join, in both directions.

    Attributes:
        query: which token looks (B,P), int64.
        key: at which (B,P), int64.
        shown: what the pair shows (B,P,C): zeros where there is no edge.
        exists: boolean (B,P).
        n_tokens: N.
    """

    query: Tensor
    key: Tensor
    shown: Tensor
    exists: Tensor
    n_tokens: int

    def of_first(self) -> Pairs:
        """The pairs in which the first token looks."""
        first = self.query == 0
        shown, exists = self.shown * first.unsqueeze(-1), self.exists & first
        return self._replace(query=torch.zeros_like(self.query), shown=shown, exists=exists)

    def places(self) -> Tensor:
        """Where each pair stands in a flattened pattern (B,P)."""
        return self.query * self.n_tokens + self.key

    def allowed(self, n_lead: int) -> Tensor:
        """Who may look at whom along edges only, boolean (B,N,N): itself, its neighbours and what leads; that: all."""
        free = torch.eye(self.n_tokens, dtype=torch.bool, device=self.query.device)
        free[:n_lead] = free[:, :n_lead] = True
        return self.joined() | free

    def joined(self, some: slice = slice(None)) -> Tensor:
        """Which tokens these pairs, or some of them, join: boolean (B,N,N)."""
        n, places, exists = self.n_tokens, self.places()[:, some], self.exists[:, some].float()
        return torch.zeros(len(places), n * n, device=places.device).scatter_add(1, places, exists).view(-1, n, n) > 0


class EdgeScores(Described):
    r"""One layer's weight on every channel of every edge type, per head.

    .. math:: b_{hij} = \sum_{e: i \to j} (w_h + u_h^\top x_e) + \sum_{e: j \to i} (w'_h + u_h'^\top x_e)

    Graphormer's edge encoding (Ying et al. 2021, equation 7: the mean of :math:`x_e^\top w` along a shortest path) for
    the paths of one edge, with its spatial encoding (equation 6) for "joined" and "not joined"; here both ways of an
    edge have weights of their own, and several edges of a pair add up.

    Args:
        names: of the C channels.
        starts: which channels say that there is an edge.
        n_heads: heads H.
    """

    def __init__(self, names: list[str], starts: list[int], n_heads: int) -> None:
        super().__init__()
        self.names, self.starts = names, starts
        self.weight = nn.Parameter(torch.zeros(n_heads, len(names)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Heads start on different directions of different edge types."""
        self.weight.zero_()
        for i in range(max(len(self.weight), len(self.starts))):
            self.weight[i % len(self.weight), self.starts[i % len(self.starts)]] = STRONG / SPEED

    @torch.no_grad()
    def switch_off(self, name: str) -> None:
        """Let the channel of that name have no say in any head."""
        self.weight[:, self.names.index(name)] = 0.0

    def strengths(self) -> Tensor:
        """The weights as they enter the scores (H,C)."""
        return SPEED * self.weight

    def stage(self) -> EdgeScores:
        """Itself: what pairs add is computed here, whoever adds it."""
        return self

    def forward(self, pairs: Pairs) -> Tensor:
        """What each pair adds to the scores of every head (B,P,H)."""
        return linear(pairs.shown, self.strengths())


class EdgeValues(Described):
    r"""One layer's output tells along which edges each head looks (in the values, as Shaw et al. 2018).

    .. math:: o_i = \sum_h W_h \sum_{e: i \to j} p_{hij} [1, x_e]

    Args:
        n_channels: C.
        n_heads: heads H.
        d_model: width D.
    """

    def __init__(self, n_channels: int, n_heads: int, d_model: int) -> None:
        super().__init__()
        self.project = nn.Linear(n_heads * n_channels, d_model, bias=False)

    def forward(self, pattern: Tensor, pairs: Pairs) -> Tensor:
        """Pattern (B,H,Q,N), pairs of its Q queries -> (B,Q,D)."""
        n, n_heads, n_queries, _ = pattern.shape
        places = pairs.places().unsqueeze(1).expand(-1, n_heads, -1)
        weights = pattern.flatten(2).gather(2, places).transpose(1, 2)  # (B,P,H)
        seen = (weights.unsqueeze(-1) * pairs.shown.unsqueeze(2)).flatten(2)  # (B,P,H C)
        rows = pairs.query.unsqueeze(-1).expand_as(seen)
        out: Tensor = self.project(seen.new_zeros(n, n_queries, seen.shape[2]).scatter_add(1, rows, seen))
        return out


class LayerEdges(Described):
    """What edges add to one layer.

    Args:
        names, starts: as for :class:`EdgeScores`; no names = nothing.
        d_model, n_heads: width D, heads H.
        full: all rows are computed, not only the first.
        values: tell the output, too.
    """

    def __init__(
        self, names: list[str], starts: list[int], d_model: int, n_heads: int, *, full: bool, values: bool
    ) -> None:
        super().__init__()
        self.full = full
        self.scores = EdgeScores(names, starts, n_heads) if names else None
        self.values = EdgeValues(len(names), n_heads, d_model) if names and values else None

    def stage(self) -> EdgeScores | None:
        """What computes the scores of pairs; None = nothing is added."""
        if self.values is not None:
            raise Opaque("values", "tells the output of edges, which only the modules compute")
        return None if self.scores is None else stage_of(self.scores, "scores", EdgeScores)

    def forward(self, pairs: Pairs, allowed: Tensor | None = None) -> ScoreTerms:
        """What this layer adds; ``allowed``: who may look at whom (B,N,N), None = everybody at everybody."""
        if self.scores is None:
            return ScoreTerms(allowed=allowed if self.full else None)
        pairs = pairs if self.full else pairs.of_first()
        bias = self.scores(pairs).transpose(1, 2)  # (B,H,P)
        shape = bias.shape[1], pairs.n_tokens if self.full else 1, pairs.n_tokens  # (H,Q,N)
        places = pairs.places().unsqueeze(1).expand_as(bias)
        total = bias.new_zeros(len(bias), shape[0], shape[1] * shape[2]).scatter_add(2, places, bias)
        carry = None if self.values is None else partial(self.values, pairs=pairs)
        return ScoreTerms(total.unflatten(2, shape[1:]), carry, allowed if self.full else None)
