"""The attention formula, first as pure functions, then as the modules that use it.

Shapes: B batch, N tokens (keys), Q queries, H heads, D d_model.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attn_rl.nn.stages import AttentionStage, Described, LinearStage, stage_of
from attn_rl.nn.tap import Tap

SIMILARITIES = ("dot", "cosine")


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    present: Tensor | None = None,
    similarity: str = "dot",
    *,
    scale: Tensor | float | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Attend from queries to keys and mix the values.

    .. math:: \mathrm{softmax}(\mathrm{scale} \cdot Q K^\top + \mathrm{bias})\, V

    with ``scale`` = 1/sqrt(d_k) for ``similarity="dot"`` (Vaswani et al. 2017, section 3.2.1) and 1 for
    ``"cosine"`` (q and k normalised to unit length). Unlike the paper, rows that are not present take
    no part at all: whatever they hold (NaN and inf included), they change no output bit and receive
    exactly zero gradient. Where nothing is present, output and pattern are zero.

    Args:
        q: queries ``(..., Q, d_k)``.
        k: keys ``(..., N, d_k)``.
        v: values ``(..., N, d_v)``; ``d_v`` may differ from ``d_k``.
        present: boolean ``(..., N)``, True = there; broadcasts against the leading dimensions of ``k``.
        similarity: ``"dot"`` or ``"cosine"``.
        scale: factor on the similarities, broadcastable to ``(..., Q, N)``: temperature, log-count scaling.
        bias: added to the scaled similarities, broadcastable to ``(..., Q, N)``: relations.

    Returns:
        output ``(..., Q, d_v)`` and pattern ``(..., Q, N)``, whose rows sum to 1 (or to 0 where nothing is present).

    Raises:
        ValueError: widths that do not match, a mask that is not boolean, an unknown similarity.
    """
    _check_attend(q, k, v, present, similarity)
    if present is not None:
        absent = ~present.unsqueeze(-1)
        k, v = k.masked_fill(absent, 0.0), v.masked_fill(absent, 0.0)
    pattern = attention_pattern(q, k, present, similarity, scale=scale, bias=bias)
    return pattern @ v, pattern


def attention_pattern(
    q: Tensor,
    k: Tensor,
    present: Tensor | None = None,
    similarity: str = "dot",
    *,
    scale: Tensor | float | None = None,
    bias: Tensor | None = None,
    allowed: Tensor | None = None,
    never_empty: bool = False,
) -> Tensor:
    """Return the weights that :func:`attend` mixes values with.

    The modules call this half alone, so that the pattern can be tapped before it is used. Arguments as for
    :func:`attend`, with one duty moved to the caller: absent rows of ``k`` must be finite. ``allowed``, boolean and
    broadcastable to ``(..., Q, N)``, says which of the present rows each query may look at; ``never_empty`` promises
    that there is one for every query, which spares the answer for where there is none.
    """
    if similarity == "cosine":
        q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
    if scale is None:
        scale = 1.0 if similarity == "cosine" else 1.0 / math.sqrt(q.shape[-1])
    alike = q.ndim == k.ndim == 3 and q.shape[0] == k.shape[0]
    product = torch.bmm if alike else torch.matmul  # bmm is quicker to call
    scores = product(q, k.transpose(-2, -1)) * scale
    if bias is not None:
        scores = scores + bias
    if present is None:
        return scores.softmax(dim=-1)
    present = present.unsqueeze(-2) if allowed is None else present.unsqueeze(-2) & allowed
    if never_empty:
        return torch.where(present, scores, -torch.inf).softmax(dim=-1)
    return _masked_softmax(scores, present)


def _masked_softmax(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax over present columns; zeros where none is. Never passes through a NaN, forward or backward."""
    some = present.any(dim=-1, keepdim=True)
    fill = torch.zeros_like(some, dtype=scores.dtype).masked_fill(some, -torch.inf)
    return torch.where(present, scores, fill).softmax(dim=-1) * some


def _check_attend(q: Tensor, k: Tensor, v: Tensor, present: Tensor | None, similarity: str) -> None:
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity={similarity!r} is unknown; choose one of {SIMILARITIES}")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(
            f"q has width {q.shape[-1]} and k has width {k.shape[-1]}; project both to the same d_k (v may differ)"
        )
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"k has {k.shape[-2]} rows and v has {v.shape[-2]}; each key needs its value")
    if present is not None and present.dtype != torch.bool:
        raise ValueError(f"present has dtype {present.dtype}, expected torch.bool; pass `present > 0.5` or `.bool()`")
    if present is not None and present.shape[-1] != k.shape[-2]:
        raise ValueError(f"present covers {present.shape[-1]} rows, k has {k.shape[-2]}; give one flag per key")


class MultiHeadAttention(Described):
    r"""Multi-head attention from some rows of a token set to all of it.

    .. math:: \mathrm{concat}_h\left(\mathrm{attend}(x_q W^Q_h, x W^K_h, x W^V_h)\right) W^O

    A key bias shifts a whole row of scores and a value bias is a constant that :math:`W^O`'s own bias already
    holds: neither exists here. With a single query the key and value projections move to the query's side,
    ``scores = (q W_K^T) x`` and ``output = (pattern x) W_V``, the same algebra without any N-by-D projection
    (the weight absorption of DeepSeek-V2, section 2.1, here for training too).

    The pattern passes through ``self.tap`` (:class:`attn_rl.nn.tap.Tap`): that is the only way in which anything is
    recorded or intervened on.

    Args:
        d_model: width D of tokens and output.
        n_heads: number of heads H; must divide ``d_model``.
        similarity: ``"dot"``, or ``"cosine"`` with one learned temperature per head.
        count_reference: scale scores by ``log(n + 1) / log(count_reference + 1)`` with n present tokens, so that
            the softmax stays as sharp among many as among few (Chiang & Cholak 2022, there as log n on
            sequence length); None switches it off.
        scale_products: with relations, scale the dot products by the count too, not only the relations. Layers that
            others follow do not: there a token weighs itself and its like against a neutral one, and that balance must
            be the same among few and many.
        never_empty: something is always present (a leading token, say): nothing needs to be done for the empty set.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        similarity: str = "dot",
        count_reference: float | None = 8.0,
        scale_products: bool = True,
        never_empty: bool = False,
    ) -> None:
        super().__init__()
        check_heads(d_model, n_heads)
        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity={similarity!r} is unknown; choose one of {SIMILARITIES}")
        if count_reference is not None and not count_reference > 0:
            raise ValueError(f"count_reference={count_reference}, expected a positive number of tokens, or None")
        self.n_heads, self.similarity, self.count_reference = n_heads, similarity, count_reference
        self.scale_products, self.never_empty = scale_products, never_empty
        self.w_q = nn.Linear(d_model, d_model)
        self.w_k = nn.Linear(d_model, d_model, bias=False)
        self.w_v = nn.Linear(d_model, d_model, bias=False)
        self.w_o = nn.Linear(d_model, d_model)
        # Unit vectors need a larger factor than 1 to tell entities apart from the start: sqrt(d_k).
        log_temperature = torch.full((n_heads, 1, 1), 0.5 * math.log(d_model // n_heads))
        self.log_temperature = nn.Parameter(log_temperature) if similarity == "cosine" else None
        self.tap = Tap()

    def forward(
        self,
        queries: Tensor,
        tokens: Tensor,
        present: Tensor,
        bias: Tensor | None = None,
        carry: Callable[[Tensor], Tensor] | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """Attend from ``queries`` (B,Q,D) to ``tokens`` (B,N,D) that are ``present`` (B,N).

        Args:
            queries: the rows that look, (B,Q,D); a single one that is the same for all observations: (1,1,D).
            tokens: the rows looked at, (B,N,D); absent rows hold anything finite.
            present: boolean (B,N).
            bias: added to the similarities before log-count scaling, broadcastable to (B,H,Q,N).
            carry: turns the pattern (B,H,Q,N) into something to add to the output (B,Q,D): what is attended to may
                tell where it lies as seen from the query.
            allowed: which of the present rows each query may look at, boolean (B,Q,N); None = all.

        Returns:
            (B,Q,D)
        """
        scale: Tensor | float = self._temperature()
        if self.count_reference is not None:
            count_scale = self.count_scale(present.sum(dim=-1, dtype=tokens.dtype).view(-1, 1, 1, 1))
            if bias is None or self.scale_products:
                scale = count_scale * scale
            bias = None if bias is None else bias * count_scale
        if queries.shape[1] == 1 and self.similarity == "dot":
            mixed, pattern = self._single_query(self.w_q(queries), tokens, present, scale, bias, allowed)
        else:
            q, k, v = self._split(self.w_q(queries)), self._split(self.w_k(tokens)), self._split(self.w_v(tokens))
            pattern = attention_pattern(
                *(q, k, present.unsqueeze(1), self.similarity),
                scale=scale,
                bias=bias,
                allowed=None if allowed is None else allowed.unsqueeze(1),
                never_empty=self.never_empty,
            )
            pattern = self.tap(pattern, tokens, present)
            mixed = (pattern @ v).transpose(1, 2).flatten(2)  # (B,Q,D)
        output = self.w_o(mixed)
        total: Tensor = output if carry is None else output + carry(pattern)
        return total

    def stage(self) -> AttentionStage:
        """Describe this layer."""
        stage_of(self.tap, "tap", type(None))
        return AttentionStage(
            query=stage_of(self.w_q, "w_q", LinearStage),
            key=stage_of(self.w_k, "w_k", LinearStage),
            value=stage_of(self.w_v, "w_v", LinearStage),
            output=stage_of(self.w_o, "w_o", LinearStage),
            n_heads=self.n_heads,
            count_factor=None if self.count_reference is None else 1 / math.log1p(self.count_reference),
            scales_products=self.scale_products,
            log_temperature=self.log_temperature,
        )

    def _single_query(
        self,
        q: Tensor,
        tokens: Tensor,
        present: Tensor,
        scale: Tensor | float,
        bias: Tensor | None,
        allowed: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Every head is a query of its own against the same unprojected tokens.

        q (B,1,D) or (1,1,D) -> mixed (B,1,D), pattern (B,H,1,N).
        """
        absorbed = self._absorb(q)
        pattern = attention_pattern(
            absorbed,
            tokens,
            present,
            scale=scale if isinstance(scale, float) else scale.squeeze(-1),
            bias=None if bias is None else bias.squeeze(-2),
            allowed=allowed,
            never_empty=self.never_empty,
        )  # (B,H,N)
        pattern = self.tap(pattern.unsqueeze(2), tokens, present)
        return self._values(torch.bmm(pattern.squeeze(2), tokens)), pattern

    def _absorb(self, q: Tensor) -> Tensor:
        """Move the key projection to the query's side: (B,1,D) -> (B,H,D)."""
        weight, n_heads = self.w_k.weight, self.n_heads
        w_k = weight.view(n_heads, -1, weight.shape[1])  # (H,d,D)
        return torch.bmm(q.view(q.shape[0], *w_k.shape[:2]).transpose(0, 1), w_k).transpose(0, 1)

    def _values(self, mixed: Tensor) -> Tensor:
        """Project what was mixed: (B,H,D) -> (B,1,D)."""
        weight = self.w_v.weight
        w_v = weight.view(self.n_heads, -1, weight.shape[1])
        return torch.bmm(mixed.transpose(0, 1), w_v.transpose(1, 2)).transpose(0, 1).flatten(1).unsqueeze(1)

    def _temperature(self) -> Tensor | float:
        """Factor on the similarities: a number, or for cosine one per head (1,H,1,1)."""
        if self.log_temperature is not None:
            return self.log_temperature.exp()[None]
        return 1.0 / math.sqrt(self.w_q.in_features // self.n_heads)

    def count_scale(self, n_present: Tensor) -> Tensor:
        """Log-count scaling: a factor on the scores that grows with the number of present tokens (any shape)."""
        if self.count_reference is None:
            return torch.ones_like(n_present, dtype=self.w_q.weight.dtype)
        return torch.log1p(n_present) / math.log1p(self.count_reference)

    def _split(self, x: Tensor) -> Tensor:
        """(B,M,D) -> (B,H,M,d)."""
        return x.view(*x.shape[:2], self.n_heads, x.shape[2] // self.n_heads).transpose(1, 2)


def check_heads(d_model: int, n_heads: int) -> None:
    """Raise a ValueError with the nearest widths that fit unless ``n_heads`` divides ``d_model``."""
    if n_heads < 1 or d_model < 1 or d_model % n_heads:
        below = max(d_model // max(n_heads, 1), 1) * max(n_heads, 1)
        raise ValueError(
            f"d_model={d_model} is not divisible by n_heads={n_heads}; try d_model={below} or {below + max(n_heads, 1)}"
        )


ATTENTION: dict[str, type[nn.Module]] = {"multihead": MultiHeadAttention}
"""Attention layers by name, for ``attention=`` of the network. An entry takes the arguments of
:class:`MultiHeadAttention` and has its ``forward`` and a ``tap``."""
