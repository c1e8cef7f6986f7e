"""The terms that relations add to one attention layer: declared scores, learned scores, carried positions.

Shapes: B batch, H heads, Q queries, N attended tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from attn_rl.nn.comparisons import Group, channel_names

Pair = tuple[Group, Group]
"""The querying token's group and the attended token's."""
SPEED = 4.0
"""Factor on strength parameters: Adam moves each by about the learning rate, and strengths range from 0 to 50."""
STRONG, WEAK = 10.0, 0.1
"""A head starts with one relation this strong, and with the others this weak."""


class DeclaredScores(nn.Module):
    r"""One layer's weight on every channel of every pair of groups, per head.

    .. math:: b_{hij} = \sum_c w_{hc} \, \phi_c(u_i, v_j)

    Args:
        pairs: (group of the querying token, group of the attended token), of the same kind.
        n_heads: heads H.
    """

    is_distance: Tensor

    def __init__(self, pairs: Sequence[Pair], n_heads: int) -> None:
        super().__init__()
        self.pairs = list(pairs)
        self.names = [channel_names(a, b) for a, b in pairs]
        distances = [a.compare == "value" for (a, _), names in zip(pairs, self.names, strict=True) for _ in names]
        self.register_buffer("is_distance", torch.tensor(distances), persistent=False)
        self.weight = nn.Parameter(torch.zeros(n_heads, len(distances)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Heads start on different relations: each strong on one distance per querying owner, weak on the others.

        Weights of positions and categories start at zero.
        """
        n_heads = self.weight.shape[0]
        start = torch.zeros_like(self.weight)
        start[:, self.is_distance] = inverse_strength(WEAK)
        owners = [a.owner for (a, _), names in zip(self.pairs, self.names, strict=True) for _ in names]
        for owner in set(owners):
            columns = [c for c, name in enumerate(owners) if name == owner and self.is_distance[c]]
            for i in range(max(n_heads, len(columns)) if columns else 0):
                start[i % n_heads, columns[i % len(columns)]] = inverse_strength(STRONG)
        self.weight.copy_(start)

    def strengths(self) -> Tensor:
        """The weights as they enter the scores (H,C): those of distances are positive."""
        return torch.where(self.is_distance, softplus(SPEED * self.weight), SPEED * self.weight)

    def forward(self, channels: Mapping[Pair, Tensor]) -> dict[tuple[str, str], Tensor]:
        """Per pair of owners, what is added to the scores (B,H,Q,N)."""
        blocks: dict[tuple[str, str], Tensor] = {}
        weights = self.strengths().split([len(names) for names in self.names], -1)
        for (a, b), weight in zip(self.pairs, weights, strict=True):
            found = channels[a, b]
            block = (weight @ found.flatten(2)).unflatten(-1, found.shape[2:])
            owners = a.owner, b.owner
            blocks[owners] = blocks[owners] + block if owners in blocks else block
        return blocks


class AutoScores(nn.Module):
    r"""One layer's distances between learned projections of whole entities; nothing needs declaring.

    .. math:: b_{hij} = -\frac{s_h}{2m} |P_h x_i - P_h x_j|^2

    The same projection on both sides: the prior is that like is compared with like.

    Args:
        widths: number of features F of each entity type, in slot order.
        n_heads: heads H.
        n_dims: dimensions m of the projection.
    """

    def __init__(self, widths: Mapping[str, int], n_heads: int, n_dims: int = 4) -> None:
        super().__init__()
        self.n_heads, self.n_dims = n_heads, n_dims
        self.project = nn.ParameterList(torch.empty(n_heads * n_dims, width) for width in widths.values())
        self.weight = nn.Parameter(torch.empty(n_heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthogonal projections, each head its own; strengths equal."""
        for weight in self.project:
            for head in weight.data.split(self.n_dims):
                nn.init.orthogonal_(head, 1.0 / SPEED)
        nn.init.constant_(self.weight, inverse_strength(STRONG))

    def forward(self, rows: Sequence[Tensor], n_lead: int) -> Tensor:
        """What is added to the scores (B,H,M,M) of M = ``n_lead`` + N tokens; the leading ones are neutral.

        Args:
            rows: normalised features (B,N_t,F_t) per type.
            n_lead: tokens before the entities.
        """
        p = torch.cat([x @ (SPEED * w).T for x, w in zip(rows, self.project, strict=True)], 1)
        p = p.unflatten(-1, (self.n_heads, self.n_dims)).transpose(1, 2)  # (B,H,N,m)
        p = p * (softplus(SPEED * self.weight) / (2.0 * self.n_dims)).sqrt()[:, None, None]
        square = p.square().sum(-1, keepdim=True)
        one = torch.ones_like(square)
        left, right = torch.cat([2.0 * p, -square, -one], -1), torch.cat([p, one, square], -1)
        lead = (0, 0, n_lead, 0)  # rows of zeros: neutral
        return pad(left, lead) @ pad(right, lead).transpose(-2, -1)


def inverse_strength(strength: float) -> float:
    """The parameter whose ``softplus(SPEED * parameter)`` is ``strength``."""
    return float(torch.log(torch.expm1(torch.tensor(strength, dtype=torch.float64)))) / SPEED


class CarriedPositions(nn.Module):
    r"""One layer's values that tell where the attended token lies, as seen from the query (Shaw et al. 2018, eq. 3).

    .. math:: o_i = \sum_h W_h \sum_j p_{hij} \, \phi(v_j - u_i)

    Args:
        pairs: groups whose channels are carried.
        n_heads: heads H.
        d_model: width D.
    """

    def __init__(self, pairs: Sequence[Pair], n_heads: int, d_model: int) -> None:
        super().__init__()
        self.pairs = list(pairs)
        sizes = [len(channel_names(a, b)) for a, b in pairs]
        self.project = nn.ModuleList(nn.Linear(n_heads * size, d_model, bias=False) for size in sizes)

    def forward(self, pattern: Tensor, channels: Mapping[Pair, Tensor], places: Mapping[str, slice]) -> Tensor:
        """Pattern (B,H,Q,N) -> (B,Q,D); ``places`` says where each owner's tokens stand."""
        total = pattern.new_zeros(())
        for (a, b), project in zip(self.pairs, self.project, strict=True):
            rows, columns = places[a.owner], places[b.owner]
            seen = torch.einsum("bhqn,bcqn->bqhc", pattern[:, :, rows, columns], channels[a, b])
            below = pattern.shape[2] - rows.stop
            total = total + pad(project(seen.flatten(2)), (0, 0, rows.start, below))
        return total
