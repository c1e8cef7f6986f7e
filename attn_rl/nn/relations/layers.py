"""Relations: attention that compares like with like, layer by layer.

Shapes: B batch, H heads, Q queries, N attended tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attn_rl.nn.fused import Relation
from attn_rl.nn.normalizer import Entities
from attn_rl.nn.relations.groups import EGO, Group, KindScale, comparable, show
from attn_rl.nn.relations.terms import CarriedPositions, Pair, RelationScores

MODES = ("auto", "declared", "off")


class Strength(NamedTuple):
    """How much one head of one layer relies on one relation, e.g. ``(0, 2, "ego.cue = items.colour", 8.1)``."""

    layer: int
    head: int
    name: str
    value: float

    @property
    def short(self) -> str:
        """As a caption says it, without the owners: ``"cue = colour, 8.1"``."""
        words = [word.partition(".")[2] or word for word in self.name.split()]
        return f"{' '.join(words)}, {self.value:.2g}"


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
        pairs: what is compared: (group of the querying token, group of the attended token).
        columns: the groups and where each stands among the columns that tokens show.
        d_model, n_heads: as for :class:`Relations`.
        full: all rows are computed, not only the first.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        columns: Mapping[Group, slice],
        d_model: int,
        n_heads: int,
        *,
        full: bool,
    ) -> None:
        super().__init__()
        self.n_rows = None if full else 1
        kinds = dict.fromkeys(a.kind for a, _ in pairs if a.compare == "position")
        positions = [[place for g, place in columns.items() if g.kind == kind] for kind in kinds]
        self.scores = RelationScores(pairs, columns, n_heads) if pairs else None
        self.carried = CarriedPositions(positions, n_heads, d_model) if positions else None

    def forward(self, shown: Tensor) -> Related:
        """What this layer adds to its scores and to its output; tokens show (B,M,Z)."""
        bias = None if self.scores is None else self.scores(shown, self.n_rows)
        return Related(bias, None if self.carried is None else partial(self.carried, shown=shown))

    def factors(self, shown: Tensor, rows: Tensor) -> Relation | None:
        """The scores of :meth:`forward` as a product, for rows without padding.

        Args:
            shown: what every token shows (B,M,Z).
            rows: the present ones of these (R,Z).
        """
        if not isinstance(self.scores, RelationScores):
            return None
        return Relation(self.scores.left(rows if self.n_rows is None else shown[:, 0]), rows)


def asked(groups: Sequence[Group], queries: Sequence[str], auto: bool) -> list[Pair]:
    """The pairs that a layer compares whose ``queries`` are read; what is declared says it better than features do."""
    pairs = [(a, b) for a in groups for b in groups if a.owner in queries and comparable(a, b)]
    declared = [(a, b) for a, b in pairs if a.compare != "feature"]
    told = any(EGO not in (a.owner, b.owner) for a, b in declared)
    return pairs if auto and not told else declared


def places(groups: Sequence[Group]) -> dict[Group, slice]:
    """Where each group stands among the columns that tokens show; an owner's groups side by side."""
    found: dict[Group, slice] = {}
    for group in sorted(groups, key=lambda g: g.owner):
        start = max((place.stop for place in found.values()), default=0)
        found[group] = slice(start, start + group.n_shown)
    return found


class Relations(nn.Module):
    """The relation scores of all layers.

    Args:
        widths: number of features F of each entity type, in slot order.
        groups: what may be compared.
        d_model: width D of the tokens.
        n_heads: heads H.
        n_layers: layers.
        n_lead: tokens before the entities: learned query, ego.
        ego_reads: the ego's row is the one read out.
        entities_read: the last layer's entity rows are read too.
        auto: also compare groups feature by feature (``compare="feature"``) where entities attend to entities and
            nothing else is declared between them.
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
        groups = sorted(groups, key=lambda g: g.owner)
        last = (EGO,) * ego_reads + tuple(widths) * entities_read
        queries = [(EGO, *widths)] * (n_layers - 1) + [last]
        pairs = [asked(groups, owners, auto) for owners in queries]
        used = {group for layer in pairs for pair in layer for group in pair}
        self.columns = places([g for g in groups if g in used])
        self.n_lead = n_lead
        self.layers = nn.ModuleList(
            LayerRelations(pairs[i], self.columns, d_model, n_heads, full=i < n_layers - 1 or entities_read)
            for i in range(n_layers)
        )
        kinds = dict.fromkeys(group.kind for group in self.columns)
        self.kinds = [[group for group in self.columns if group.kind == kind] for kind in kinds]
        scaled = [kind[0] for kind in self.kinds if kind[0].compare != "category"]
        self.scales = nn.ModuleList(KindScale(len(group.features) or 1) for group in scaled)

    @property
    def compares(self) -> bool:
        """Whether any layer compares anything."""
        return any(True for _ in self.parameters())

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the constructor does."""
        for module in self.modules():
            if isinstance(module, RelationScores):
                module.reset_parameters()

    def forward(self, ego: Tensor | None, entities: Entities) -> list[Related]:
        """What each layer adds to its scores and to its output.

        Args:
            ego: raw (B,E), None without an ego.
            entities: per type, raw features (B,N_t,F_t) and presence (B,N_t); absent rows may hold anything.
        """
        shown = self._shown(ego, entities)
        return [layer(shown) for layer in self.layers]

    @property
    def factorizes(self) -> bool:
        """Whether all that is added are products of what two tokens show."""
        return all(layer.carried is None for layer in self.layers)

    def factors(self, ego: Tensor | None, entities: Entities, present: Tensor) -> list[Relation | None]:
        """The scores of :meth:`forward` as products, where ``factorizes``; ``present`` (B,M): which tokens."""
        shown = self._shown(ego, entities)
        rows = shown[present]
        return [layer.factors(shown, rows) for layer in self.layers]  # type: ignore[operator]

    def _shown(self, ego: Tensor | None, entities: Entities) -> Tensor:
        """What every token shows (B,M,Z): zeros where it carries nothing, as the learned query."""
        tokens, start, n_tokens = {}, {}, self.n_lead - (ego is not None)
        if ego is not None:
            tokens[EGO], start[EGO], n_tokens = (ego.unsqueeze(1), ego.new_ones(len(ego), 1, 1)), n_tokens, n_tokens + 1
        for owner, (x, present) in entities.items():
            there = present.unsqueeze(-1)
            tokens[owner] = x.masked_fill(~there, 0.0), there.to(x.dtype)
            start[owner], n_tokens = n_tokens, n_tokens + x.shape[1]
        width = max(place.stop for place in self.columns.values())
        shown = x.new_zeros(len(x), n_tokens, width)
        scales = iter(self.scales)
        for groups in self.kinds:
            u = torch.cat([_select(tokens[group.owner][0], group.columns) for group in groups], 1)
            present = torch.cat([tokens[group.owner][1] for group in groups], 1)
            if groups[0].compare != "category":
                u = next(scales)(u, present)
            rows = show(groups[0].compare, u, present)
            used = 0
            for group in groups:
                first, n = start[group.owner], tokens[group.owner][0].shape[1]
                shown[:, first : first + n, self.columns[group]] = rows[:, used : used + n]
                used += n
        return shown

    def strengths(self) -> list[Strength]:
        """The learned strength of every named relation, per layer and head."""
        found = []
        for i, layer in enumerate(self.layers):
            scores = layer.scores
            if isinstance(scores, RelationScores):
                for head, row in enumerate(scores.strengths().tolist()):
                    found += [Strength(i, head, name, value) for name, value in zip(scores.names, row, strict=True)]
        return found

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Switch named relations off in the scores of all layers and heads, as long as the block lasts.

        Raises:
            ValueError: there is no relation of one of these names.
        """
        every = [layer.scores for layer in self.layers if isinstance(layer.scores, RelationScores)]
        known = dict.fromkeys(known for scores in every for known in scores.names)
        for name in names:
            if name not in known:
                raise ValueError(f"there is no relation {name!r}; choose one of {list(known)}")
        kept = [scores.weight.detach().clone() for scores in every]
        try:
            for scores, name in product(every, names):
                scores.switch_off(name)
            yield
        finally:
            for scores, weight in zip(every, kept, strict=True):
                scores.weight.data.copy_(weight)


def _select(x: Tensor, columns: Sequence[int]) -> Tensor:
    """Some columns of x (B,N,F): a view where they stand side by side."""
    first, n = columns[0], len(columns)
    return x.narrow(-1, first, n) if list(columns) == list(range(first, first + n)) else x[..., list(columns)]
