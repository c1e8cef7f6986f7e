r"""Edges: data on pairs of tokens, as terms of the scores and, on request, of the values.

Every edge type has two directions: whoever stands at its source may look at the target, and the other way round, with
weights of their own. An edge of features x shows ``[1, x]`` in its direction; a pair that no edge joins shows nothing
and is neutral. Features are scaled with running statistics of the edges that exist.

Shapes: B batch, H heads, Q queries, N tokens, E edges of a type, P pairs of all types in both directions, C channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attn_rl.nn.normalizer import Entities, RunningNormalizer, Unchanged
from attn_rl.nn.relations.edge_terms import EdgeScores, LayerEdges, Pairs
from attn_rl.nn.relations.named import LayerShape, NamedScores
from attn_rl.nn.relations.terms import ScoreTerms
from attn_rl.nn.stages import Described, EdgesStage, ScalingStage, stage_of
from attn_rl.nn.token_order import EGO

EdgeRows = Mapping[str, tuple[Tensor, Tensor, Tensor]]
"""Per edge type: slots (B,2,E) of both ends, int64; features (B,E,F); which edges exist (B,E), boolean."""
MODES = ("biased", "only", "off")


class Joined(NamedTuple):
    """Which entity types an edge type joins.

    Attributes:
        source: the type that its edges come from, or the ego.
        target: the one that they go to.
        features: names of an edge's F features.
    """

    source: str
    target: str
    features: tuple[str, ...] = ()


class EdgeRelations(NamedScores, Described):
    """What edges add to all layers.

    Args:
        joined: per edge type, what it joins.
        shape: of the layers.
        normalize: keep running statistics of the edges' features.
        values: also tell every layer's output along which edges its heads look.
        only: entities look at themselves, at their neighbours and at what stands before the entities, at nobody else.
    """

    def __init__(
        self,
        joined: Mapping[str, Joined],
        shape: LayerShape,
        *,
        normalize: bool = True,
        values: bool = False,
        only: bool = False,
    ) -> None:
        super().__init__()
        self.joined, self.order, self.only = dict(joined), shape.order, only
        names, starts = channels(joined)
        ends = {end for edge_type in joined.values() for end in (edge_type.source, edge_type.target)}
        first_looks = shape.order.lead[:1] == (EGO,) and EGO in ends
        self.layers = nn.ModuleList()
        for i in range(shape.n_layers):
            full = i < shape.n_layers - 1 or shape.entities_read
            heard = names if full or first_looks else []
            self.layers.append(LayerEdges(heard, starts, shape.d_model, shape.n_heads, full=full, values=values))
        widths = [len(edge_type.features) for edge_type in joined.values()]
        self.scales = nn.ModuleList(RunningNormalizer(n) if n and normalize else Unchanged() for n in widths)

    @property
    def serves(self) -> bool:
        """Whether any layer hears of edges."""
        return any(True for _ in self.layers.parameters())

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the constructor does."""
        for module in self.modules():
            if isinstance(module, EdgeScores):
                module.reset_parameters()

    def forward(self, entities: Entities, edges: EdgeRows) -> list[ScoreTerms]:
        """What each layer adds to its scores and to its output.

        Args:
            entities: per type, features (B,N_t,F_t) and presence (B,N_t).
            edges: as the observation has them; whatever does not exist, or joins what is absent, may hold anything.
        """
        pairs = self.pairs(entities, edges)
        allowed = pairs.allowed(len(self.order.lead)) if self.only else None
        return [layer(pairs, allowed) for layer in self.layers]

    def pairs(self, entities: Entities, edges: EdgeRows) -> Pairs:
        """All pairs that edges join."""
        present = self.order.presence(entities)
        starts = self.order.starts([x.shape[1] for x, _ in entities.values()])
        n_channels, used, parts = len(channels(self.joined)[0]), 0, []
        for (name, joined), scale in zip(self.joined.items(), self.scales, strict=True):
            slots, x, exists = edges[name]
            source, there_from = self._places(joined.source, slots[:, 0], starts, present)
            target, there_to = self._places(joined.target, slots[:, 1], starts, present)
            exists = exists & there_from & there_to
            flags = exists.unsqueeze(-1)
            x = scale(torch.where(flags, x, 0.0), exists)
            x = torch.cat([flags.to(x.dtype), torch.where(flags, x, 0.0)], -1)
            for query, key in ((source, target), (target, source)):
                shown = nn.functional.pad(x, (used, n_channels - used - x.shape[-1]))
                parts.append((query, key, shown, exists))
                used += x.shape[-1]
        query, key, shown, exists = (torch.cat(columns, 1) for columns in zip(*parts, strict=True))
        return Pairs(query, key, shown, exists, present.shape[1])

    def adjacency(self, entities: Entities, edges: EdgeRows) -> dict[str, Tensor]:
        """Who is joined to whom, boolean (B,N,N): by each edge type, there and back, in the order of the pairs."""
        pairs, used, found = self.pairs(entities, edges), 0, {}
        for name in self.joined:
            for direction in (name, f"{name} reversed"):
                part = slice(used, used + edges[name][2].shape[1])
                found[direction] = pairs.joined(part)
                used = part.stop
        return found

    def _places(self, owner: str, slots: Tensor, starts: list[int], present: Tensor) -> tuple[Tensor, Tensor]:
        """Which tokens stand in the slots (B,E) of an owner, 0 where there is no such slot, and which are there."""
        first, stop = (starts[self.order.part_of(owner) + i] for i in (0, 1))
        inside = (slots >= 0) & (slots < stop - first)
        places = torch.where(inside, slots + first, 0)
        return places, inside & present.gather(1, places)

    def collect(self, entities: Entities, edges: EdgeRows) -> None:
        """Let the scales see a batch, as :meth:`forward` does, and nothing else."""
        if any(isinstance(scale, RunningNormalizer) and scale.collects for scale in self.scales):
            self.pairs(entities, edges)

    def stage(self) -> EdgesStage:
        """Describe what edges add to the scores."""
        for i, scale in enumerate(self.scales):
            stage_of(scale, f"scales.{i}", ScalingStage, type(None))
        layers = (stage_of(part, f"layers.{i}", EdgeScores, type(None)) for i, part in enumerate(self.layers))
        return EdgesStage(self.pairs, tuple(layers), self.only)


def make_edges(
    mode: str, joined: Mapping[str, Joined], shape: LayerShape, *, normalize: bool, values: bool
) -> EdgeRelations | None:
    """The edges of a network; None where there are none, or nobody hears of them.

    Args:
        mode: one of :data:`MODES`.
        joined, normalize, values: as for :class:`EdgeRelations`.
        shape: of the layers.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"edge_attention={mode!r} is unknown; choose one of {', '.join(map(repr, MODES))}")
    if mode == "off" or not joined:
        return None
    made = EdgeRelations(joined, shape, normalize=normalize, values=values, only=mode == "only")
    if made.serves:
        return made
    warnings.warn(
        f"no layer looks along the edges {list(joined)}: that needs entities that look at entities (n_layers of 2 and "
        "more, readout='mean' or 'max', a pointer), or edges of the ego",
        stacklevel=3,
    )
    return None


def joins_entities(joined: Mapping[str, Joined]) -> bool:
    """Whether some edge type says how entities are related, and not only how the ego is to them."""
    return any(EGO not in (edge_type.source, edge_type.target) for edge_type in joined.values())


def channels(joined: Mapping[str, Joined]) -> tuple[list[str], list[int]]:
    """Names of the C channels, and which of them say that there is an edge: there, then back, of each type."""
    names: list[str] = []
    starts: list[int] = []
    for name, edge_type in joined.items():
        for direction in (name, f"{name} reversed"):
            starts.append(len(names))
            names += [direction, *(f"{direction}: {feature}" for feature in edge_type.features)]
    return names, starts
