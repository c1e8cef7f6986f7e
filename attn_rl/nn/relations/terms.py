"""The terms that relations add to one attention layer: scores, and carried positions.

Shapes: B batch, H heads, Q queries, M tokens, C channels, Z columns that tokens show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from attn_rl.nn.relations.groups import HEADING_SHOWN, Group, are_distances, channel_forms, channel_names, turned
from attn_rl.nn.stages import CarriedStage, Described, LinearStage, RelationStage, stage_of


class ScoreTerms(NamedTuple):
    """What relations add to one attention layer.

    Attributes:
        bias: to the scores (B,H,Q,N).
        carry: to the output: pattern (B,H,Q,N) -> (B,Q,D).
        allowed: who may look at whom, boolean (B,Q,N); None = everybody at everybody.
    """

    bias: Tensor | None = None
    carry: Callable[[Tensor], Tensor] | None = None
    allowed: Tensor | None = None

    def plus(self, other: ScoreTerms) -> ScoreTerms:
        """Both terms together; at most one of them says who may look at whom."""
        mine, theirs = self.carry, other.carry
        carry = mine or theirs
        if mine is not None and theirs is not None:
            carry = lambda pattern: mine(pattern) + theirs(pattern)  # noqa: E731
        bias = self.bias if other.bias is None else other.bias if self.bias is None else self.bias + other.bias
        return ScoreTerms(bias, carry, other.allowed if self.allowed is None else self.allowed)


NO_TERMS = ScoreTerms()

Pair = tuple[Group, Group]
"""The querying token's group and the attended token's."""
SPEED = 4.0
"""Factor on all parameters: Adam moves each by about the learning rate, the logarithm of a strength by four times it.

A strength is ``exp(SPEED * parameter)``, since what is needed ranges from 0.1 to 100. Where it was the parameter's
softplus, 400 updates moved it from 10 to 11 and never far from where it started."""
STRONG, WEAK = 10.0, 0.1
"""A head starts with one declared relation this strong, and with the others this weak."""
UNDECLARED = 5.0
"""Strength at the start of all features of a type together, where it has to be found out which ones to compare."""
STRONGEST = 1000.0
"""Beyond this the rounding of a distance begins to count."""


class RelationScores(Described):
    r"""One layer's weight on every channel of every relation, per head.

    .. math:: b_{hij} = z_i^\top \Big(\sum_c w_{hc} F_c\Big) z_j

    with z what tokens show and :math:`F_c` the channel's form (:func:`channel_forms`), kept transposed, in a row each.

    Args:
        pairs: (group of the querying token, group of the attended token), of the same kind.
        columns: where each group stands among the Z columns.
        n_heads: heads H.
    """

    forms: Tensor
    is_distance: Tensor

    def __init__(self, pairs: Sequence[Pair], columns: Mapping[Group, slice], n_heads: int) -> None:
        super().__init__()
        self.names, self.starts, forms = [], [], []
        distances: list[bool] = []
        n_shown = max(place.stop for place in columns.values())
        for a, b in pairs:
            self.names += channel_names(a, b)
            distances += are_distances(a, b)
            start = {"value": STRONG, "equal": STRONG, "feature": UNDECLARED / len(a.columns)}.get(a.compare, WEAK)
            for form in channel_forms(a, b):
                forms.append(torch.zeros(n_shown, n_shown))
                forms[-1][columns[a], columns[b]] = form
                self.starts.append((a.owner, start))
        self.register_buffer("forms", torch.stack(forms).transpose(1, 2).flatten(1), persistent=False)
        self.register_buffer("is_distance", torch.tensor(distances), persistent=False)
        self.weight = nn.Parameter(torch.zeros(n_heads, len(forms)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Heads start on different relations: each strong on one distance per querying owner, weak on the others.

        Distances of positions start weak, those of undeclared features alike, offsets and categories at zero.
        """
        start = torch.zeros_like(self.weight)
        strong: dict[str, list[int]] = {}
        for column, (owner, strength) in enumerate(self.starts):
            if self.is_distance[column]:
                start[:, column] = inverse_strength(WEAK if strength == STRONG else strength)
            if strength == STRONG:
                strong.setdefault(owner, []).append(column)
        for columns in strong.values():
            for i in range(max(len(start), len(columns))):
                start[i % len(start), columns[i % len(columns)]] = inverse_strength(STRONG)
        self.weight.copy_(start)

    @torch.no_grad()
    def switch_off(self, name: str) -> None:
        """Let the channel of that name have no say in any head."""
        for i in (i for i, found in enumerate(self.names) if found == name):
            self.weight[:, i] = -1e9 if self.is_distance[i] else 0.0  # exp(-1e9) = 0

    def strengths(self) -> Tensor:
        """The weights as they enter the scores (H,C): those of distances are positive."""
        weight = SPEED * self.weight
        log = weight.masked_fill(~self.is_distance, 0.0).clamp(max=math.log(STRONGEST))
        return torch.where(self.is_distance, log.exp(), weight)

    def forward(self, shown: Tensor, n_rows: int | None = None) -> Tensor:
        """What is added to the scores (B,H,Q,M) of the first ``n_rows`` rows (all where None).

        Args:
            shown: what every token shows (B,M,Z).
        """
        rows, n_shown = shown[:, :n_rows], shown.shape[-1]
        left = linear(rows, self.head_forms()).unflatten(-1, (-1, n_shown)).transpose(1, 2)  # (B,H,Q,Z)
        bias: Tensor = (left.flatten(1, 2) @ shown.transpose(1, 2)).unflatten(1, left.shape[1:3])
        return bias

    def head_forms(self) -> Tensor:
        """Every head's form, transposed (H Z,Z): the channels' forms with the strengths they have in it."""
        n_shown = math.isqrt(self.forms.shape[1])
        return (self.strengths() @ self.forms).view(-1, n_shown)

    def stage(self) -> RelationStage:
        """Describe the scores."""
        made_of = (self.weight, self.forms, self.is_distance)
        return RelationStage(made_of, self.head_forms, math.isqrt(self.forms.shape[1]))


class CarriedPositions(Described):
    r"""One layer's output tells where each head looks, as seen from the query (in the values, as Shaw et al. 2018).

    .. math:: o_i = \sum_h W_h\, \phi\Big(\sum_j p_{hij} (u_j - u_i)\Big)

    over the attended tokens j that have a position of the kind (the mean of several), turned to where i faces, if
    anybody of the kind faces anywhere; :math:`\phi` bounds the offset's
    length by 1 and appends how much of the weight lies on such tokens.

    Args:
        places: per position kind, where its groups stand among the Z columns.
        n_heads: heads H.
        d_model: width D.
        faces: per position kind, whether tokens show where they face.
    """

    def __init__(
        self, places: Sequence[Sequence[slice]], n_heads: int, d_model: int, faces: Sequence[bool] | None = None
    ) -> None:
        super().__init__()
        self.places = [list(groups) for groups in places]
        self.faces = [False] * len(places) if faces is None else list(faces)
        widths = [groups[0].stop - groups[0].start for groups in places]
        sizes = [n_heads * (width - 1 - HEADING_SHOWN * turn) for width, turn in zip(widths, self.faces, strict=True)]
        self.project = nn.ModuleList(nn.Linear(size, d_model, bias=False) for size in sizes)

    def forward(self, pattern: Tensor, shown: Tensor, n_rows: int | None = None) -> Tensor:
        """Pattern (B,H,Q,M) of the first ``n_rows`` rows (all where None), what tokens show (B,M,Z) -> (B,Q,D)."""
        total, own = pattern.new_zeros(()), slice(None, n_rows)
        for groups, faces, project in zip(self.places, self.faces, self.project, strict=True):
            here, has = _positions(shown, groups, HEADING_SHOWN * faces)
            here, heading = (here[..., :-2], here[..., -2:]) if faces else (here, None)
            seen = (pattern.flatten(1, 2) @ torch.cat([here, has], -1)).unflatten(1, pattern.shape[1:3])  # (B,H,Q,w+1)
            mass = seen[..., -1:]
            offset = seen[..., :-1] - mass * here[:, None, own]
            offset = offset if heading is None else turned(offset, heading[:, None, own])
            bounded = offset * (1.0 + offset.square().sum(-1, keepdim=True)).rsqrt()
            total = total + project(torch.cat([bounded, mass], -1).transpose(1, 2).flatten(2)) * has[:, own]
        return total

    def stage(self) -> tuple[CarriedStage, ...]:
        """Describe what is added, kind by kind."""
        layers = (stage_of(layer, f"project.{i}", LinearStage) for i, layer in enumerate(self.project))
        return tuple(
            CarriedStage(
                tuple(p.start for p in groups),
                groups[0].stop - groups[0].start - 2 - HEADING_SHOWN * faces,
                layer.weight,
            )
            for groups, faces, layer in zip(self.places, self.faces, layers, strict=True)
        )


def _positions(shown: Tensor, groups: Sequence[slice], n_heading: int = 0) -> tuple[Tensor, Tensor]:
    """Every token's position (B,M,w), the mean of several, and 1 where it has one (B,M,1).

    Where tokens show a heading in ``n_heading`` columns, its cosine and sine follow the position: (B,M,w+2).
    """
    total = shown[..., groups[0]]  # [u, |u|^2, 1], then perhaps [heading, u as it sees it]
    for place in groups[1:]:
        total = total + shown[..., place]
    w = total.shape[-1] - 2 - n_heading
    count = total[..., w + 1 : w + 2]
    mean = torch.cat([total[..., :w], total[..., w + 2 : w + 4]], -1) if n_heading else total[..., :w]
    return mean / count.clamp(min=1.0), count.clamp(max=1.0)


def inverse_strength(strength: float) -> float:
    """The parameter whose strength, ``exp(SPEED * parameter)``, is this."""
    return math.log(strength) / SPEED
