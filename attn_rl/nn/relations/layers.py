"""Relations: attention that compares like with like, layer by layer.

Shapes: B batch, H heads, Q queries, N attended tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from attn_rl.nn.normalizer import Entities
from attn_rl.nn.relations.groups import ONE_HOT, Group, KindScale, comparable, show
from attn_rl.nn.relations.named import LayerShape, NamedScores
from attn_rl.nn.relations.terms import CarriedPositions, Pair, RelationScores, ScoreTerms
from attn_rl.nn.stages import Described, GroupStage, KindStage, RelationStage, ScalingStage, stage_of
from attn_rl.nn.token_order import EGO, TokenOrder

MODES = ("auto", "declared", "features", "off")


class LayerRelations(Described):
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
        kinds = dict.fromkeys(a.kind for a, _ in pairs if a.compare == "position" and _carries(a, full))
        positions = [[place for g, place in columns.items() if g.kind == kind] for kind in kinds]
        faces = [any(g.kind == kind and g.heading is not None for g in columns) for kind in kinds]
        self.scores = RelationScores(pairs, columns, n_heads) if pairs else None
        self.carried = CarriedPositions(positions, n_heads, d_model, faces) if positions else None

    def forward(self, shown: Tensor) -> ScoreTerms:
        """What this layer adds to its scores and to its output; tokens show (B,M,Z)."""
        bias = None if self.scores is None else self.scores(shown, self.n_rows)
        carry = None if self.carried is None else partial(self.carried, shown=shown, n_rows=self.n_rows)
        return ScoreTerms(bias, carry)

    def stage(self) -> RelationStage | None:
        """Describe what this layer adds; None = nothing."""
        if self.scores is None:
            return None
        carried = () if self.carried is None else stage_of(self.carried, "carried", tuple)
        return stage_of(self.scores, "scores", RelationStage)._replace(carried=carried)


def _carries(group: Group, full: bool) -> bool:
    """Whether outputs tell the way to what is looked at; embeddings do, where all is seen from the ego and as it is."""
    return not group.from_ego or (full and group.heading is not None)


def asked(groups: Sequence[Group], queries: Sequence[str], auto: bool) -> list[Pair]:
    """The pairs that a layer compares whose ``queries`` are read; what is declared says it better than features do."""
    pairs = [(a, b) for a in groups for b in groups if a.owner in queries and comparable(a, b)]
    declared = [(a, b) for a, b in pairs if a.compare != "feature"]
    said = any(EGO not in (a.owner, b.owner) for a, b in declared)
    return pairs if auto and not said else declared


def places(groups: Sequence[Group]) -> dict[Group, slice]:
    """Where each group stands among the columns that tokens show; an owner's groups side by side."""
    found: dict[Group, slice] = {}
    for group in sorted(groups, key=lambda g: g.owner):
        start = max((place.stop for place in found.values()), default=0)
        found[group] = slice(start, start + group.n_shown)
    return found


class Relations(NamedScores, Described):
    """The relation scores of all layers.

    Args:
        widths: number of features F of each entity type, in slot order.
        groups: what may be compared.
        d_model: width D of the tokens.
        n_heads: heads H.
        n_layers: layers.
        order: in which tokens stand.
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
        order: TokenOrder,
        ego_reads: bool,
        entities_read: bool,
        auto: bool,
    ) -> None:
        super().__init__()
        groups = sorted(groups, key=lambda g: g.owner)
        if n_layers == 1 and not entities_read:  # only the ego looks, which faces ahead
            groups = [group._replace(heading=None) for group in groups]
        last = (EGO,) * ego_reads + tuple(widths) * entities_read
        queries = [(EGO, *widths)] * (n_layers - 1) + [last]
        pairs = [asked(groups, owners, auto) for owners in queries]
        used = {group for layer in pairs for pair in layer for group in pair}
        self.columns = places([g for g in groups if g in used])
        self.order = order
        self.layers = nn.ModuleList(
            LayerRelations(pairs[i], self.columns, d_model, n_heads, full=i < n_layers - 1 or entities_read)
            for i in range(n_layers)
        )
        kinds = dict.fromkeys(group.kind for group in self.columns)
        self.kinds = [[group for group in self.columns if group.kind == kind] for kind in kinds]
        scaled = [kind[0] for kind in self.kinds if kind[0].compare not in ONE_HOT]
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

    def forward(self, ego: Tensor | None, entities: Entities) -> list[ScoreTerms]:
        """What each layer adds to its scores and to its output.

        Args:
            ego: raw (B,E), None without an ego.
            entities: per type, raw features (B,N_t,F_t) and presence (B,N_t); absent rows may hold anything.
        """
        shown = self._shown(ego, entities)
        return [layer(shown) for layer in self.layers]

    def collect(self, ego: Tensor | None, entities: Entities) -> None:
        """Let the scales see a batch, as :meth:`forward` does, and nothing else."""
        if any(scale.normalizer.collects for scale in self.scales):  # type: ignore[union-attr]
            self._shown(ego, entities)

    def stage(self) -> tuple[tuple[KindStage, ...], tuple[RelationStage | None, ...]]:
        """Describe what tokens show, and what every layer adds."""
        scales = iter(enumerate(self.scales))
        kinds = []
        for groups in self.kinds:
            compare, scaling = groups[0].compare, None
            if compare in ONE_HOT:
                compare = "category"  # what tokens show is the same; what it counts for is in the forms
            else:
                i, scale = next(scales)
                scaling = stage_of(scale, f"scales.{i}", ScalingStage)
            members = (GroupStage(self.order.part_of(g.owner), g.columns, self.columns[g].start) for g in groups)
            kinds.append(KindStage(compare, tuple(members), scaling))
        layers = (stage_of(part, f"layers.{i}", RelationStage, type(None)) for i, part in enumerate(self.layers))
        return tuple(kinds), tuple(layers)

    def _shown(self, ego: Tensor | None, entities: Entities) -> Tensor:
        """What every token shows (B,M,Z): zeros where it carries nothing, as the learned query."""
        tokens = {}
        if ego is not None:
            tokens[EGO] = ego.unsqueeze(1), ego.new_ones(ego.shape[0], 1, 1)
        for owner, (x, present) in entities.items():
            there = present.unsqueeze(-1)
            tokens[owner] = x.masked_fill(~there, 0.0), there.to(x.dtype)
        starts = self.order.starts([x.shape[1] for x, _ in entities.values()])
        width = max(place.stop for place in self.columns.values())
        shown = x.new_zeros(x.shape[0], starts[-1], width)
        scales = iter(self.scales)
        for groups in self.kinds:
            u = torch.cat([_select(tokens[group.owner][0], group.columns) for group in groups], 1)
            present = torch.cat([tokens[group.owner][1] for group in groups], 1)
            if groups[0].compare not in ONE_HOT:
                u = next(scales)(u, present)
            heading = (
                None if groups[0].heading is None else torch.cat([_heading(*tokens[g.owner], g) for g in groups], 1)
            )
            rows = show(groups[0].compare, u, present, heading)
            used = 0
            for group in groups:
                first, n = starts[self.order.part_of(group.owner)], tokens[group.owner][0].shape[1]
                shown[:, first : first + n, self.columns[group]] = rows[:, used : used + n]
                used += n
        return shown


def make_relations(
    mode: str, widths: Mapping[str, int], groups: Sequence[Group], shape: LayerShape, *, ego_reads: bool
) -> Relations | None:
    """The relations of a network; None where nothing is compared.

    Args:
        mode: one of :data:`MODES`.
        widths, groups, ego_reads: as for :class:`Relations`.
        shape: of the layers.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"relations={mode!r} is unknown; choose one of {', '.join(map(repr, MODES))}")
    if mode == "off":
        return None
    if mode == "features":
        groups = [group for group in groups if group.compare == "feature"]
    made = Relations(
        *(widths, groups, shape.d_model, shape.n_heads, shape.n_layers),
        order=shape.order,
        ego_reads=ego_reads,
        entities_read=shape.entities_read,
        auto=mode in ("auto", "features"),
    )
    compared = {group.kind for group in made.columns}
    idle = dict.fromkeys(g.kind for g in groups if g.compare != "feature" and g.kind not in compared)
    for kind in idle if mode == "declared" else ():  # "auto" takes what serves
        warnings.warn(
            f"no layer compares kind {kind!r}: a relation needs two groups of that kind, or entities that look at "
            "entities (n_layers of 2 and more, readout='mean' or 'max', a pointer)",
            stacklevel=3,
        )
    return made if made.compares else None


def _heading(x: Tensor, present: Tensor, group: Group) -> Tensor:
    """Cosine and sine of where the owners of x (B,N,F) face, (B,N,2); who faces nowhere sees as the ego does."""
    if group.heading:
        return _select(x, group.heading)
    return torch.cat([present, torch.zeros_like(present)], -1)


def _select(x: Tensor, columns: Sequence[int]) -> Tensor:
    """Some columns of x (B,N,F): a view where they stand side by side."""
    first, n = columns[0], len(columns)
    return x.narrow(-1, first, n) if list(columns) == list(range(first, first + n)) else x[..., list(columns)]
