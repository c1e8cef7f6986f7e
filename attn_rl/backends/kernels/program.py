"""A network as C++ takes it, and its passes: acting, and learning as a part of autograd's graph.

Shapes: B observations, N slots, D width, H heads, F features, E ego features.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attn_rl.backends.kernels import build
from attn_rl.backends.kernels import structures as s
from attn_rl.backends.kernels.build import library
from attn_rl.backends.kernels.fields import Structure
from attn_rl.backends.kernels.learning import Learn
from attn_rl.backends.kernels.threads import n_threads
from attn_rl.backends.kernels.weights import WEIGHTS, Weights, floats, naming, readable, zeros
from attn_rl.nn.normalizer import Entities
from attn_rl.nn.relations.edges import EdgeRows
from attn_rl.nn.stages import (
    BlockStage,
    KindStage,
    LinearStage,
    NetworkStage,
    Opaque,
    RelationStage,
    ScalingStage,
    TokenStage,
    stage_of,
)
from attn_rl.nn.tap import Tap


class Program:
    """An :class:`attn_rl.nn.network.AttentionNetwork` as C++ takes it, while its weights stay where they are.

    Args:
        stage: what the network computes.
        taps: of its blocks; those that are observed see the pattern that was used.

    Raises:
        Opaque: something that C++ does not compute.
    """

    def __init__(self, stage: NetworkStage, taps: Sequence[Tap]) -> None:
        self.weights, self._taps = Weights(), taps
        blocks = stage.encoder.blocks
        self.roles = [token.role for token in stage.tokens]
        self.width, self.n_heads = blocks[0].attention.query.weight.shape[1], blocks[0].attention.n_heads
        self.reads_first, self.relations, self.edges = stage.reads_first, stage.relations, stage.edges
        self.added = [None] * len(blocks) if stage.edges is None else list(stage.edges.scores)
        if any(block.attention.n_heads != self.n_heads for block in blocks):
            raise Opaque("encoder", "has blocks with different numbers of heads")
        self.network = s.Network(width=self.width, n_heads=self.n_heads)
        self.n_features = [0 if t.embedding is None else t.embedding.first.weight.shape[1] for t in stage.tokens]
        self._alive: list[Any] = [stage]
        self._tokens(stage.tokens)
        self._blocks(blocks)
        with naming("encoder.norm"):
            self.weights.norm(self.network.norm, stage.encoder.norm, self.width)
        with naming("relations"):
            self._kinds(stage.kinds)
        self._transposed = zeros(2, library().network_transposed_size(self.network))
        self.transposed_at = [x.data_ptr() for x in self._transposed]
        self._forms: list[tuple[list[Tensor], Tensor] | None] = [None] * len(blocks)

    def _array(self, kind: type[Structure], length: int) -> Any:
        made = (kind * length)()
        self._alive.append(made)
        return made

    @property
    def observed(self) -> bool:
        """Whether anybody observes a pattern."""
        return any(tap.observers for tap in self._taps)

    # ---- describing ----

    def _tokens(self, tokens: Sequence[TokenStage]) -> None:
        sources = self._array(s.Source, len(tokens))
        for i, (source, token) in enumerate(zip(sources, tokens, strict=True)):
            source.is_ego = token.role == "ego"
            with naming(f"tokens.{i} ({token.role})"):
                self._token(source, token, self.n_features[i])
        self.network.n_sources, self.network.sources = len(tokens), ctypes.addressof(sources)

    def _token(self, source: Structure, token: TokenStage, n_features: int) -> None:
        if token.query is not None:
            self.weights.point(source, "query", token.query, self.width)
        if (embedding := token.embedding) is not None:
            source.n_features = n_features
            with naming("first"):
                self.weights.linear(source.first, embedding.first, None, self.width)
            with naming("second"):
                self.weights.linear(source.second, embedding.second, self.width, self.width)
            if embedding.context is not None:
                width, context = self.n_features[self.roles.index("ego")], LinearStage(embedding.context, None)
                with naming("context"):
                    self.weights.linear(source.context, context, width, self.width, bias=False)
        with naming("scaling"):
            self._scaling(source.scaling, token.scaling, n_features)

    def _blocks(self, stages: Sequence[BlockStage]) -> None:
        blocks = self._array(s.Block, len(stages))
        for i, (block, stage, relation) in enumerate(zip(blocks, stages, self.relations, strict=True)):
            with naming(f"encoder.blocks.{i}"):
                self._block(block, stage)
            _refuse_carried(i, relation)
            block.first_only = self.reads_first and i == len(stages) - 1
            block.relates, block.joins = relation is not None, self.added[i] is not None
        self.network.n_blocks, self.network.blocks = len(stages), ctypes.addressof(blocks)

    def _block(self, block: Structure, stage: BlockStage) -> None:
        attention, feedforward = stage.attention, stage.feedforward
        if attention.log_temperature is not None:
            raise Opaque("attention", "has similarity='cosine', which only the modules compute")
        block.count_factor, block.scales_products = attention.count_factor or 0.0, attention.scales_products
        for name in ("norm_attention", "norm_feedforward"):
            with naming(name):
                self.weights.norm(getattr(block, name), getattr(stage, name), self.width)
        for name in ("query", "key", "value", "output"):
            biased, projection = name in ("query", "output"), getattr(attention, name)
            with naming(f"attention.{name}"):
                self.weights.linear(getattr(block, name), projection, self.width, self.width, bias=biased)
        with naming("feedforward.widen"):
            self.weights.linear(block.widen, feedforward.widen, self.width, None)
        with naming("feedforward.narrow"):
            self.weights.linear(block.narrow, feedforward.narrow, block.widen.n_out, self.width)

    def _kinds(self, stages: Sequence[KindStage]) -> None:
        kinds = self._array(s.Kind, len(stages))
        for kind, stage in zip(kinds, stages, strict=True):
            groups = self._array(s.Group, len(stage.groups))
            for group, member in zip(groups, stage.groups, strict=True):
                columns = (ctypes.c_int64 * len(member.columns))(*member.columns)
                self._alive.append(columns)
                group.source, group.place = member.token, member.place
                group.n_columns, group.columns = len(member.columns), ctypes.addressof(columns)
            kind.compare, kind.n_scales = s.COMPARE[stage.compare], 1
            kind.n_groups, kind.groups = len(groups), ctypes.addressof(groups)
            if stage.scaling is not None:
                kind.n_scales = stage.scaling.mean.shape[0]
                self._scaling(kind.scaling, stage.scaling, kind.n_scales)
        shown = [relation.n_shown for relation in self.relations if relation is not None]
        self.network.n_kinds, self.network.kinds = len(stages) if shown else 0, ctypes.addressof(kinds)
        self.network.n_shown = shown[0] if shown else 0

    def _scaling(self, part: Structure, stage: ScalingStage | None, width: int) -> None:
        if stage is not None:
            part.mean, part.variance = readable(stage.mean, width), readable(stage.variance, width)
            part.epsilon, part.clip = stage.epsilon, stage.clip

    # ---- passes ----

    def call(self, ego: Tensor | None, entities: Entities) -> tuple[Structure, list[Any]]:
        """The arguments of a pass, and what they point to."""
        alive: list[Any] = [self]
        slots = (s.Slots * len(self.roles))()
        blocks = iter(entities.values())
        for slot, role in zip(slots, self.roles, strict=True):
            slot.n = 1
            if role == "query":
                continue
            x, present = (ego, None) if ego is not None and role == "ego" else next(blocks)
            x = x if x.stride(-1) == 1 else x.contiguous()
            slot.x, slot.stride = x.data_ptr(), x.stride(0)
            if present is not None:
                present = present.contiguous()
                slot.n, slot.row_stride, slot.present = x.shape[1], x.stride(1), present.data_ptr()
            alive += [x, present]
        n = next(iter(entities.values()))[0].shape[0]
        network, places = ctypes.addressof(self.network), ctypes.addressof(slots)
        made = s.Call(network=network, n_threads=n_threads(), n_observations=n, slots=places)
        return made, [*alive, slots]

    def out(self, call: Structure, entities: Entities) -> Tensor:
        """Memory for what a pass returns: (B,1,D) where the first row is read, else (B,N,D)."""
        lead = sum(role != "type" for role in self.roles)
        n_rows = 1 if self.reads_first else lead + sum(x.shape[1] for x, _ in entities.values())
        return floats(call.n_observations, n_rows, self.width)

    def point_forms(self, call: Structure, forms: Sequence[Tensor | None]) -> Any:
        """Let a pass find every block's forms; return what has to stay alive."""
        held = (s.Forms * len(forms))()
        found = [None if x is None else x.detach().contiguous() for x in forms]
        for part, x in zip(held, found, strict=True):
            part.forms = None if x is None else x.data_ptr()
        call.relations = ctypes.addressof(held)
        return held, found

    def current_forms(self) -> list[Tensor | None]:
        """Every block's forms, worked out anew where strengths have changed."""
        for i, relation in enumerate(self.relations):
            known = self._forms[i]
            if relation is not None and (known is None or not all(map(torch.equal, known[0], relation.depends_on))):
                with torch.no_grad():
                    self._forms[i] = [x.detach().clone() for x in relation.depends_on], relation.forms().contiguous()
        return [None if known is None else known[1] for known in self._forms]

    def join(self, call: Structure, entities: Entities, edges: EdgeRows | None) -> tuple[list[Tensor | None], Any]:
        """Let a pass find the pairs that edges join; return what they add to every block (B,P,H), and what must live.

        Statistics of the edges' features see the batch, as they do in the network.
        """
        if self.edges is None or edges is None:
            return [None] * len(self.added), None
        pairs = self.edges.pairs(entities, edges)
        query, key = torch.where(pairs.exists, pairs.query, -1), pairs.key.contiguous()
        call.edges.n_pairs, call.edges.only = query.shape[1], self.edges.only
        call.edges.query, call.edges.key = query.data_ptr(), key.data_ptr()
        call.edges.n_lead = sum(role != "type" for role in self.roles)
        return [None if scores is None else scores(pairs) for scores in self.added], [query, key]

    def point_added(self, call: Structure, added: Sequence[Tensor | None]) -> Any:
        """Let a pass find what pairs add to every block; return what has to stay alive."""
        held = (s.Added * len(added))()
        found = [None if x is None else x.detach().contiguous() for x in added]
        for part, x in zip(held, found, strict=True):
            part.bias = None if x is None else x.data_ptr()
        call.edges.added = ctypes.addressof(held)
        return held, found

    def act(self, ego: Tensor | None, entities: Entities, present: Tensor, edges: EdgeRows | None = None) -> Tensor:
        """Encoded rows, (B,1,D) where the first is read, else (B,N,D); nobody wants gradients.

        Args:
            ego, entities, edges: as for the network.
            present: which tokens are there (B,N).
        """
        call, alive = self.call(ego, entities)
        added, pairs = self.join(call, entities, edges)
        alive += [pairs, self.point_added(call, added)]
        if any(self.relations):
            alive += self.point_forms(call, self.current_forms())
        out = self.out(call, entities)
        (call.transposed, call.transposed_from), call.out = self.transposed_at, out.data_ptr()
        seen = {i: self._pattern_and_tokens(i, present) for i, tap in enumerate(self._taps) if tap.observers}
        if seen:
            watched = (s.Watched * len(self._taps))()
            for i, (pattern, tokens) in seen.items():
                watched[i].pattern, watched[i].tokens = pattern.data_ptr(), tokens.data_ptr()
            call.watched = ctypes.addressof(watched)
        library().act(call)
        for i, (pattern, tokens) in seen.items():
            self._taps[i].show(pattern, tokens, present)
        del alive
        return out

    def _pattern_and_tokens(self, block: int, present: Tensor) -> tuple[Tensor, Tensor]:
        """Where a block's pattern (B,H,Q,N) and the tokens (B,N,D) that it looks at are written."""
        n, n_tokens = present.shape
        rows = 1 if self.reads_first and block == self.network.n_blocks - 1 else n_tokens
        return zeros(n, self.n_heads, rows, n_tokens), zeros(n, n_tokens, self.width)

    def learn(self, ego: Tensor | None, entities: Entities, edges: EdgeRows | None = None) -> Tensor:
        """As :meth:`act`, with a graph: ``backward()`` adds gradients to the ``grad`` of the weights.

        They pass autograd by: ``torch.autograd.grad`` does not find them, and gradients of gradients cannot be had.
        """
        call, alive = self.call(ego, entities)
        forms = [None if relation is None else relation.forms() for relation in self.relations]
        added, pairs = self.join(call, entities, edges)
        alive += pairs or []
        out = self.out(call, entities)
        return Learn.apply(self, call, alive, out, WEIGHTS, *forms, *added)  # type: ignore[no-any-return, no-untyped-call]


def make_program(network: nn.Module) -> Program:
    """A network as C++ takes it.

    Raises:
        Opaque: something that C++ does not compute, or there is no C++.
    """
    if (reason := build.why_not()) is not None:
        raise Opaque("", reason)
    with naming("network"):
        return Program(stage_of(network, "", NetworkStage), network.taps)  # type: ignore[arg-type]


def _refuse_carried(i: int, relation: RelationStage | None) -> None:
    if relation is not None and relation.carried:
        raise Opaque(f"relations.layers.{i}", "carries positions in the values, which only the modules compute")
