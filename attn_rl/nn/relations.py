"""Relations: attention scores that compare like with like.

Shapes: B batch, H heads, Q queries, N attended tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from attn_rl.nn.comparisons import CHANNELS, EGO, Group, KindScale, channel_names, comparable
from attn_rl.nn.normalizer import Entities

MODES = ("auto", "declared", "off")
Pair = tuple[Group, Group]
SPEED = 4.0
"""Factor on strength parameters: Adam moves each by about the learning rate, and strengths range from 0 to 50."""
STRONG, WEAK = 10.0, 0.1
"""A head starts with one relation this strong, and with the others this weak."""


class Strength(NamedTuple):
    """How much one head of one layer relies on one relation, e.g. ``(0, 2, "ego.cue = items.colour", 8.1)``."""

    layer: int
    head: int
    name: str
    value: float


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


class LayerRelations(nn.Module):
    """What one layer adds to its scores.

    Args:
        widths, groups, n_heads, n_lead: as for :class:`Relations`.
        queries: owners whose rows somebody reads in this layer.
        full: all rows are computed, not only the first.
        auto: learned projections where entities attend to entities.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        groups: Sequence[Group],
        n_heads: int,
        n_lead: int,
        *,
        queries: Sequence[str],
        full: bool,
        auto: bool,
    ) -> None:
        super().__init__()
        self.n_lead, self.full = n_lead, full
        pairs = [(a, b) for a in groups for b in groups if a.owner in queries and comparable(a, b)]
        self.pairs = pairs
        self.declared = DeclaredScores(pairs, n_heads) if pairs else None
        self.auto = AutoScores(widths, n_heads) if auto and set(widths) <= set(queries) else None

    def forward(self, channels: Mapping[Pair, Tensor], scaled: Entities, has_ego: bool) -> Tensor | None:
        """(B,H,Q,N), or None where the layer compares nothing."""
        bias = None
        if self.auto is not None:
            bias = self.auto([x for x, _ in scaled.values()], self.n_lead)
        if self.declared is not None:
            sizes = {"": self.n_lead - has_ego, EGO: int(has_ego)} | {n: x.shape[1] for n, (x, _) in scaled.items()}
            found = assemble(self.declared(channels), sizes, self.full)
            bias = found if bias is None else bias + found
        return bias


def assemble(blocks: Mapping[tuple[str, str], Tensor], sizes: Mapping[str, int], full: bool) -> Tensor:
    """Put blocks (B,H,Q_s,N_t) of owner pairs in their places, zeros elsewhere; only the first row unless ``full``."""
    some = next(iter(blocks.values()))
    sizes = {owner: size for owner, size in sizes.items() if size}
    rows = []
    for s, n_rows in sizes.items() if full else list(sizes.items())[:1]:
        cells = [blocks.get((s, t), some.new_zeros(()).expand(*some.shape[:2], n_rows, n)) for t, n in sizes.items()]
        rows.append(torch.cat(cells, -1))
    return rows[0] if len(rows) == 1 else torch.cat(rows, -2)


class Relations(nn.Module):
    """The relation scores of all layers.

    Args:
        widths: number of features F of each entity type, in slot order.
        groups: the declared features; none: only ``auto``.
        n_heads: heads H.
        n_layers: layers.
        n_lead: tokens before the entities: learned query, ego.
        ego_reads: the ego's row is the one read out.
        entities_read: the last layer's entity rows are read too.
        auto: also compare learned projections wherever entities attend to entities.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        groups: Sequence[Group],
        n_heads: int,
        n_layers: int,
        *,
        n_lead: int,
        ego_reads: bool,
        entities_read: bool,
        auto: bool,
    ) -> None:
        super().__init__()
        last = (EGO,) * ego_reads + tuple(widths) * entities_read
        queries = [(EGO, *widths)] * (n_layers - 1) + [last]
        layers = [
            LayerRelations(
                widths, groups, n_heads, n_lead, queries=queries[i], full=i < n_layers - 1 or entities_read, auto=auto
            )
            for i in range(n_layers)
        ]
        self.layers = nn.ModuleList(layers)
        self.pairs = list(dict.fromkeys(pair for layer in layers for pair in layer.pairs))
        self.groups = [g for g in groups if any(g in pair for pair in self.pairs)]
        self.scaled_kinds = list(dict.fromkeys(g.kind for g in self.groups if g.compare != "category"))
        self.scales = nn.ModuleList(KindScale() for _ in self.scaled_kinds)

    @property
    def compares(self) -> bool:
        """Whether any layer compares anything."""
        return any(True for _ in self.parameters())

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the constructor does."""
        for module in self.modules():
            if isinstance(module, DeclaredScores | AutoScores):
                module.reset_parameters()

    def forward(self, ego: Tensor | None, entities: Entities, scaled: Entities) -> list[Tensor | None]:
        """What each layer adds to its scores, (B,H,Q,N) or None.

        Args:
            ego: raw (B,E), None without an ego.
            entities: per type, raw features (B,N_t,F_t) and presence (B,N_t); absent rows may hold anything.
            scaled: the same, cleaned and normalised per type.
        """
        features = self._features(ego, entities)
        channels = {(a, b): CHANNELS[a.compare](features[a], features[b]) for a, b in self.pairs}
        return [layer(channels, scaled, ego is not None) for layer in self.layers]

    def _features(self, ego: Tensor | None, entities: Entities) -> dict[Group, Tensor]:
        """Every group's features (B,N,w): absent rows zero, groups of a kind on one scale."""
        owners = {name: (x.masked_fill(~p.unsqueeze(-1), 0.0), p) for name, (x, p) in entities.items()}
        if ego is not None:
            owners[EGO] = ego.unsqueeze(1), torch.ones_like(ego[:, :1], dtype=torch.bool)
        features = {g: owners[g.owner][0][..., list(g.columns)] for g in self.groups}
        for kind, scale in zip(self.scaled_kinds, self.scales, strict=True):
            same = [g for g in self.groups if g.kind == kind]
            rows = scale([features[g] for g in same], [owners[g.owner][1] for g in same])
            features.update(zip(same, rows, strict=True))
        return features

    def strengths(self) -> list[Strength]:
        """The learned strength of every named relation, per layer and head."""
        found = []
        for i, layer in enumerate(self.layers):
            declared = layer.declared
            if isinstance(declared, DeclaredScores):
                names = [name for of_pair in declared.names for name in of_pair]
                for head, row in enumerate(declared.strengths().tolist()):
                    found += [Strength(i, head, name, value) for name, value in zip(names, row, strict=True)]
        return found
