"""Relations: attention that compares like with like, layer by layer.

Shapes: B batch, H heads, Q queries, N attended tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attn_rl.nn.comparisons import CHANNELS, EGO, Group, KindScale, comparable
from attn_rl.nn.normalizer import Entities
from attn_rl.nn.relation_terms import AutoScores, CarriedPositions, DeclaredScores, Pair

MODES = ("auto", "declared", "off")


class Strength(NamedTuple):
    """How much one head of one layer relies on one relation, e.g. ``(0, 2, "ego.cue = items.colour", 8.1)``."""

    layer: int
    head: int
    name: str
    value: float


class Related(NamedTuple):
    """What relations add to one attention layer.

    Attributes:
        bias: to the scores (B,H,Q,N).
        carry: to the output: pattern (B,H,Q,N) -> (B,Q,D).
    """

    bias: Tensor | None = None
    carry: Callable[[Tensor], Tensor] | None = None


UNRELATED = Related()


class LayerRelations(nn.Module):
    """What one layer adds to its scores.

    Args:
        widths, groups, d_model, n_heads, n_lead: as for :class:`Relations`.
        queries: owners whose rows somebody reads in this layer.
        full: all rows are computed, not only the first.
        auto: learned projections where entities attend to entities and nothing is declared between them.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        groups: Sequence[Group],
        d_model: int,
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
        told = any(EGO not in (a.owner, b.owner) for a, b in pairs)  # what is declared says it better
        self.auto = AutoScores(widths, n_heads) if auto and set(widths) <= set(queries) and not told else None
        positions = [(a, b) for a, b in pairs if a.compare == "position"]
        self.carried = CarriedPositions(positions, n_heads, d_model) if positions else None

    def forward(self, channels: Mapping[Pair, Tensor], scaled: Entities, has_ego: bool) -> Related:
        """What this layer adds to its scores and to its output."""
        sizes = {"": self.n_lead - has_ego, EGO: int(has_ego)} | {n: x.shape[1] for n, (x, _) in scaled.items()}
        bias = carry = None
        if self.auto is not None:
            bias = self.auto([x for x, _ in scaled.values()], self.n_lead)
        if self.declared is not None:
            found = assemble(self.declared(channels), sizes, self.full)
            bias = found if bias is None else bias + found
        if self.carried is not None:
            carry = partial(self.carried, channels=channels, places=places(sizes))
        return Related(bias, carry)


def places(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Where the tokens of each owner stand."""
    ends = list(accumulate(sizes.values()))
    return {owner: slice(end - size, end) for (owner, size), end in zip(sizes.items(), ends, strict=True)}


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
        d_model: width D of the tokens.
        n_heads: heads H.
        n_layers: layers.
        n_lead: tokens before the entities: learned query, ego.
        ego_reads: the ego's row is the one read out.
        entities_read: the last layer's entity rows are read too.
        auto: also compare learned projections where entities attend to entities and nothing is declared between them.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        groups: Sequence[Group],
        d_model: int,
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
                widths,
                groups,
                d_model,
                n_heads,
                n_lead,
                queries=queries[i],
                full=i < n_layers - 1 or entities_read,
                auto=auto,
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

    def forward(self, ego: Tensor | None, entities: Entities, scaled: Entities) -> list[Related]:
        """What each layer adds to its scores and to its output.

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
