"""Large batches without any padding, for one query per observation that looks at its own entities.

Observations are sorted by their number of entities, so that those with equally many stand in one block (a run) of rows
without a gap: b observations with c entities each are b c rows, and a view of them is a batch (b,c,D).

Shapes: B observations, R rows (all entities present in the batch), H heads, D width, C the most entities of any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

LEAST_SLOTS = 8192
"""In a batch with fewer slots (present or not) many small products cost more than the padding."""


class Runs(NamedTuple):
    """Who stands where once a batch is sorted by entity count.

    Attributes:
        order: the observations in ascending order of their count (B,).
        counts: their counts, sorted (B,).
        owner: index into ``order`` of each row's observation (R,).
        source: index of each row among the B x N slots (R,).
        lengths: per run, its number of observations and their count.
    """

    order: Tensor
    counts: Tensor
    owner: Tensor
    source: Tensor
    lengths: list[tuple[int, int]]

    @classmethod
    def of(cls, present: Tensor) -> Runs:
        """Sort and count: present (B,N)."""
        counts, order = present.sum(1).sort()
        owner, slot = present.index_select(0, order).nonzero().unbind(1)
        sizes, n_observations = counts.unique_consecutive(return_counts=True)
        lengths = list(zip(n_observations.tolist(), sizes.tolist(), strict=True))
        return cls(order, counts, owner, order.index_select(0, owner) * present.shape[1] + slot, lengths)

    def split(self, rows: Tensor) -> list[Tensor]:
        """View rows (R,D) run by run: (b,c,D) each."""
        parts = rows.split([b * c for b, c in self.lengths])
        return [part.view(b, c, rows.shape[1]) for part, (b, c) in zip(parts, self.lengths, strict=True)]

    def split_observations(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split x (B,...) run by run: (b,...) each."""
        return x.split([b for b, _ in self.lengths])

    @property
    def present(self) -> Tensor:
        """The query itself, then the entities: boolean (B,1+C)."""
        return torch.arange(1 + self.lengths[-1][1], device=self.counts.device) <= self.counts.unsqueeze(1)


class MixRuns(torch.autograd.Function):
    """Similarities with the tokens, the pattern of these, and the tokens mixed by it, run by run.

    The tokens are used twice, so autograd would write their gradient twice and add: here it is one product of
    width 2H. The gradient consists of differentiable operations (TRPO differentiates twice).
    """

    @staticmethod
    def forward(
        ctx,
        q: Tensor,
        tokens: Tensor,
        own: Tensor,
        scale: Tensor | float,
        runs: Runs,
        weigh: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Mix ``tokens`` as ``q`` looks at them.

        Args:
            ctx: autograd's.
            q: one query per head (B,H,D).
            tokens: (R,D).
            own: similarity of each query with itself (B,H,1).
            scale: the factor on similarities that ``weigh`` applies.
            runs: who looks at which rows.
            weigh: turns similarities (B,H,1+C) into the pattern, a masked softmax of ``scale`` times them.

        Returns:
            mixed (B,H,D), without the query's own row, and the pattern (B,H,1+C).
        """
        ctx.runs, ctx.scale = runs, scale
        pattern = weigh(torch.cat([own, _similarities(q, tokens, runs)], -1))
        ctx.save_for_backward(q, tokens, pattern)
        pairs = zip(runs.split_observations(pattern), runs.split(tokens), strict=True)
        return torch.cat([torch.bmm(p[..., 1 : 1 + k.shape[1]], k) for p, k in pairs]), pattern

    @staticmethod
    def backward(ctx, d_mixed: Tensor, d_pattern: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, tokens and own."""
        q, tokens, pattern = ctx.saved_tensors
        weighted = (d_pattern + pad(_similarities(d_mixed, tokens, ctx.runs), (1, 0))) * pattern
        d_similarities = (weighted - pattern * weighted.sum(-1, keepdim=True)) * ctx.scale
        d_own, d_others = d_similarities[..., :1], d_similarities[..., 1:]
        left = ctx.runs.split_observations(torch.cat([d_others, pattern[..., 1:]], 1).transpose(1, 2))  # (b,C,2H)
        right = ctx.runs.split_observations(torch.cat([q, d_mixed], 1))  # (b,2H,D)
        sizes = [c for _, c in ctx.runs.lengths]
        d_tokens = [torch.bmm(a[:, :c], b).flatten(0, 1) for a, b, c in zip(left, right, sizes, strict=True)]
        pairs = zip(ctx.runs.split_observations(d_others), ctx.runs.split(tokens), strict=True)
        d_q = [torch.bmm(d[..., : k.shape[1]], k) for d, k in pairs]
        return torch.cat(d_q), torch.cat(d_tokens), d_own, None, None, None


def _similarities(q: Tensor, tokens: Tensor, runs: Runs) -> Tensor:
    """Of every query with its own tokens, zero beyond their number: (B,H,C)."""
    longest = runs.lengths[-1][1]
    pairs = zip(runs.split_observations(q), runs.split(tokens), strict=True)
    return torch.cat([pad(torch.bmm(a, k.transpose(1, 2)), (0, longest - k.shape[1])) for a, k in pairs])
