"""The network as rollouts run it: flat, with what depends on weights alone worked out beforehand.

A rollout asks the same network thousands of times, often about a single observation. Looking weights up, calling
modules and reshaping then cost as much as the numbers. :class:`SettledNetwork` computes what
:meth:`AttentionNetwork.encode <attn_rl.nn.network.AttentionNetwork.encode>` computes, softmax written out, through the
same taps; tests hold the two equal.

Shapes: B batch, N_t slots of a type, M tokens, D width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from attn_rl.nn.attention import MultiHeadAttention, Tap, pattern_of
from attn_rl.nn.encoder import Block, Encoder, FeedForward
from attn_rl.nn.normalizer import Entities, EntityNormalizer, RunningNormalizer, Unchanged, standardize
from attn_rl.nn.relations.layers import UNRELATED, Related
from attn_rl.nn.tokenizer import Embedding, Tokenizer, embed

Weights = tuple[Tensor, Tensor]
"""Of a linear layer: (out,in) and (out,)."""


CHANGES = attrgetter("_version")


class Rest:
    """Weights that stand still, between :meth:`begin` and :meth:`end`.

    Attributes:
        flat: whether modules may run flat now.
    """

    flat = False

    def __init__(self, network: nn.Module) -> None:
        self.modules = [module for module in network.modules() if isinstance(module, Settles)]
        self.tensors = [*network.parameters(), *network.buffers()]
        self.known: list[int] = []

    def begin(self) -> None:
        """Let modules run flat; what has changed since the last time is worked out anew.

        A change in place is seen by PyTorch's count of them, which ``tensor.data.copy_()`` escapes.
        """
        found = [*map(CHANGES, self.tensors), *map(Tensor.data_ptr, self.tensors)]
        if found != self.known:
            with torch.no_grad():
                for module in self.modules:
                    module.rest, module.settled = self, module.settle()
            self.known = found
        self.flat = True

    def end(self) -> None:
        """Whoever asks now asks the modules themselves."""
        self.flat = False

    def forget(self) -> None:
        """Leave nothing in the modules."""
        self.end()
        for module in self.modules:
            module.rest = module.settled = None


class Settles(nn.Module):
    """Mixin of a module that can run flat.

    Attributes:
        rest, settled: inside :func:`settled`, when to run flat and what :meth:`settle` returned; None outside.
    """

    rest: Rest | None = None
    settled: Any = None

    def settle(self) -> Any:
        """Work out what depends on weights alone; None where the module itself must run."""
        raise NotImplementedError

    @property
    def runs_flat(self) -> bool:
        """Whether to call :attr:`settled`: nobody wants a gradient or listens to a module that would not be called."""
        resting = self.rest is not None and self.rest.flat and self.settled is not None
        return resting and not torch.is_grad_enabled() and not any(self.settled.ears)


@contextmanager
def settled(network: nn.Module) -> Iterator[Rest]:
    """Within the block, what :class:`Settles` in ``network`` can run flat, from ``begin()`` to ``end()`` of the result.

    Whoever else asks the network meanwhile, a callback say, gets the modules and the weights of that moment.
    """
    rest = Rest(network)
    try:
        yield rest
    finally:
        rest.forget()


def hooks(modules: Sequence[nn.Module]) -> list[Mapping[int, Any]]:
    """The hooks of ``modules``, those still to be registered too; of taps, only those that may change what goes in."""
    after = [module._forward_hooks for module in modules if not isinstance(module, Tap)]
    return after + [module._forward_pre_hooks for module in modules]


class SettledNetwork:
    """An :class:`attn_rl.nn.network.AttentionNetwork` of today's weights, with dot-product similarity.

    Attributes:
        ears: the hooks of the modules that are not called.
    """

    def __init__(self, network: Any) -> None:
        normalizer, tokenizer = network.normalizer, network.tokenizer
        self.ears = hooks([part for child in (normalizer, tokenizer, network.encoder) for part in child.modules()])
        self.types = [(_scaling(n), e.weights()) for n, e in zip(normalizer.types, tokenizer.embed, strict=True)]
        self.ego_scaling = _scaling(normalizer.ego)
        self.embed_ego = None if tokenizer.embed_ego is None else tokenizer.embed_ego.weights()
        self.query = None if network.query is None else network.query.view(1, 1, -1)
        self.n_lead, self.relations = network.n_lead, network.relations
        self.lead = torch.ones(1, self.n_lead, dtype=torch.bool, device=network.encoder.norm.weight.device)
        blocks, last = network.encoder.blocks, len(network.encoder.blocks) - 1
        biased = [self.relations is not None and self.relations.layers[i].scores is not None for i in range(last + 1)]
        self.blocks = [SettledBlock(b, network.reads_first and i == last, biased[i]) for i, b in enumerate(blocks)]
        self.norm = _norm(network.encoder.norm)
        self.counts = self.blocks[0].per_log_count > 0

    def __call__(self, ego: Tensor | None, entities: Entities) -> tuple[Tensor, Tensor]:
        """Encode observations.

        Args:
            ego: (B,E), None without an ego.
            entities: per type, features (B,N_t,F_t) and presence (B,N_t).

        Returns:
            The first row (B,D) where no other is read, else all rows (B,M,D); and which tokens are there (B,M).
        """
        with torch.inference_mode():
            related = None if self.relations is None else self.relations(ego, entities)
            x, present = self._tokens(ego, entities)
            log_count = torch.log1p(present.sum(1, dtype=x.dtype)).view(-1, 1, 1) if self.counts else None
            for i, block in enumerate(self.blocks):
                x = block(x, present, log_count, related[i] if related else UNRELATED)
            return torch.layer_norm(x, *self.norm), present

    def _tokens(self, ego: Tensor | None, entities: Entities) -> tuple[Tensor, Tensor]:
        if ego is not None and self.ego_scaling is not None:
            ego = standardize(ego, *self.ego_scaling)
        rows, there = [], []
        for (scaling, weights), (x, present) in zip(self.types, entities.values(), strict=True):
            x = torch.where(present.unsqueeze(-1), x, 0.0)
            rows.append(embed(x if scaling is None else standardize(x, *scaling), ego, *weights))
            there.append(present)
        n = len(rows[0])
        if self.embed_ego is not None and ego is not None:
            rows.insert(0, embed(ego, None, *self.embed_ego).unsqueeze(1))
        if self.query is not None:
            rows.insert(0, self.query if n == 1 else self.query.expand(n, -1, -1))
        if self.n_lead:
            there.insert(0, self.lead if n == 1 else self.lead.expand(n, -1))
        return torch.cat(rows, 1), torch.cat(there, 1)


class SettledBlock:
    """A :class:`attn_rl.nn.encoder.Block` of today's weights.

    Args:
        block: the block.
        first_only: only its first row is read.
        biased: relations add to its scores.
    """

    def __init__(self, block: Any, first_only: bool, biased: bool) -> None:
        attention: MultiHeadAttention = block.attention
        n_heads, reference = attention.n_heads, attention.count_reference
        self.tap, self.n_heads, self.never_empty = attention.tap, n_heads, attention.never_empty
        self.first_only = first_only
        self.per_log_count = 0.0 if reference is None else 1 / math.log1p(reference)
        self.counts = reference is not None and not (biased and attention.inner)
        scale = (self.per_log_count if self.counts else 1.0) / math.sqrt(attention.w_q.in_features // n_heads)
        self.norm_attention, self.norm_feedforward = _norm(block.norm_attention), _norm(block.norm_feedforward)
        self.widen, self.narrow = _linear(block.feedforward.widen), _linear(block.feedforward.narrow)
        self.look: Weights
        self.take: Weights
        w_q, b_q = attention.w_q.weight * scale, attention.w_q.bias * scale
        if first_only:  # from a row to what its heads look for among unprojected tokens; from what they saw to output
            w_q, w_k, w_v = (w.unflatten(0, (n_heads, -1)) for w in (w_q, attention.w_k.weight, attention.w_v.weight))
            turned, w_o = w_k.transpose(1, 2), attention.w_o.weight.unflatten(1, (n_heads, -1)).transpose(0, 1)
            self.look = torch.bmm(turned, w_q).flatten(0, 1), torch.bmm(turned, b_q.view(n_heads, -1, 1)).flatten()
            self.take = torch.bmm(w_o, w_v).transpose(0, 1).flatten(1), attention.w_o.bias
        else:
            self.look = torch.cat([w_q, attention.w_k.weight, attention.w_v.weight]), pad(b_q, (0, 2 * len(b_q)))
            self.take = _linear(attention.w_o)

    def __call__(self, x: Tensor, present: Tensor, log_count: Tensor | None, related: Related) -> Tensor:
        """Rows (B,M,D), of which ``present`` (B,M) are there, log count (B,1,1) -> all (B,M,D) or one (B,D)."""
        bias, carry = related
        if bias is not None and log_count is not None:
            bias = bias * (log_count * self.per_log_count).unsqueeze(1)
        scale = log_count if self.counts else None
        normed = torch.layer_norm(x, *self.norm_attention)
        if self.first_only:
            x, (output, pattern) = x[:, 0], self._first(normed, present, scale, bias)
        else:
            output, pattern = self._all(normed, present, scale, bias)
        if carry is not None:
            output = output + (carry(pattern).squeeze(1) if self.first_only else carry(pattern))
        mixed = x + output
        hidden = torch.relu_(linear(torch.layer_norm(mixed, *self.norm_feedforward), *self.widen))
        return mixed + linear(hidden, *self.narrow)

    def _first(
        self, normed: Tensor, present: Tensor, scale: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The first row attends: output (B,D), pattern (B,H,1,M)."""
        looked_for = linear(normed[:, 0], *self.look).view(len(normed), self.n_heads, -1)
        similarities = torch.bmm(looked_for, normed.transpose(1, 2))
        bias = None if bias is None else bias.squeeze(-2)
        seen = pattern = pattern_of(similarities, present, scale, bias, self.never_empty)
        pattern = pattern.unsqueeze(2)
        if self.tap._forward_hooks:
            pattern = self.tap(pattern, normed, present)
            seen = pattern.squeeze(2)
        return linear(torch.bmm(seen, normed).flatten(1), *self.take), pattern

    def _all(self, normed: Tensor, present: Tensor, scale: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """All rows attend: output (B,M,D), pattern (B,H,M,M)."""
        n, m, d = normed.shape
        qkv = linear(normed, *self.look).view(n, m, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.flatten(1, 2)  # (B H,M,d) each
        similarities = torch.bmm(q, k.transpose(1, 2)).view(n, self.n_heads, m, m)
        scale = None if scale is None else scale.unsqueeze(1)
        pattern = pattern_of(similarities, present.unsqueeze(1), scale, bias, self.never_empty)
        if self.tap._forward_hooks:
            pattern = self.tap(pattern, normed, present)
        seen = torch.bmm(pattern.flatten(0, 1), v).view(n, self.n_heads, m, -1)
        return linear(seen.transpose(1, 2).reshape(n, m, d), *self.take), pattern


KNOWN = (
    Block,
    Embedding,
    Encoder,
    EntityNormalizer,
    FeedForward,
    MultiHeadAttention,
    RunningNormalizer,
    Tap,
    Tokenizer,
    Unchanged,
    nn.LayerNorm,
    nn.Linear,
    nn.ModuleList,
)


def can_settle(network: Any) -> bool:
    """Whether :class:`SettledNetwork` knows everything in there: no subclass of a part, nothing added to one."""
    parts = [part for child in (network.normalizer, network.tokenizer, network.encoder) for part in child.modules()]
    return network.similarity == "dot" and all(type(part) in KNOWN for part in parts)


def _scaling(normalizer: nn.Module | None) -> tuple[Tensor, Tensor, float] | None:
    return normalizer.scaling() if isinstance(normalizer, RunningNormalizer) else None


def _linear(layer: nn.Linear) -> Weights:
    return layer.weight, layer.bias


def _norm(norm: nn.LayerNorm) -> tuple[tuple[int, ...], Tensor, Tensor, float]:
    return norm.normalized_shape, norm.weight, norm.bias, norm.eps
