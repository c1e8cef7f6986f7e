"""What relations compare: groups of features of one kind, on one scale.

Every comparison here is a bilinear form of two rows. A squared distance, for one, is

    |u - v|^2 = |u|^2 * 1 - 2 u.v + 1 * |v|^2,

so a token shows ``[u, |u|^2, 1]`` for each group that it carries and zeros for those that it does not, and a relation
is a small matrix between what two tokens show. A token that carries nothing scores 0 with everybody: it is neutral.

Shapes: B batch, N rows, w features of a group, C channels (numbers that a weight is learned for), Z columns shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from attn_rl.nn.normalizer import RunningNormalizer
from attn_rl.nn.stages import Described, ScalingStage, stage_of
from attn_rl.nn.token_order import EGO

HEADING_SHOWN = 4
"""Columns that a token shows of a heading: cosine, sine, and its own position as it sees it."""


class Group(NamedTuple):
    """Features of one kind that the tokens of one owner carry.

    Attributes:
        kind: groups of the same kind may be compared.
        compare: how: ``"value"``, ``"position"``, ``"equal"``, ``"category"`` or ``"feature"``: each on its own.
        owner: an entity type, or ``"ego"``.
        name: what a relation calls it, e.g. ``"items.colour"``.
        columns: where its w features stand among the owner's.
        features: their names, where they are compared on their own.
        from_ego: of positions: the ego stands at their origin, and so the embedding of each tells the way to it.
        heading: of positions: the columns of the cosine and the sine of where their owners face; offsets are then as
            these see them. None = nobody of the kind faces anywhere, empty = these do not.
    """

    kind: str
    compare: str
    owner: str
    name: str
    columns: tuple[int, ...]
    features: tuple[str, ...] = ()
    from_ego: bool = False
    heading: tuple[int, ...] | None = None

    @property
    def n_shown(self) -> int:
        """Columns Z that a token shows of it."""
        width = len(self.columns)
        turned = 0 if self.heading is None else HEADING_SHOWN
        return {"equal": width, "category": width, "feature": 2 * width + 1}.get(self.compare, width + 2 + turned)


ONE_HOT = ("equal", "category")
"""Comparisons of columns that are 1 for one value and 0 for the others: tokens show them as they are, unscaled."""


def own_features(owner: str, features: Sequence[str]) -> Group:
    """All features of a type, each to be compared with itself: what is left where nothing is declared."""
    return Group(f"features of {owner}", "feature", owner, owner, tuple(range(len(features))), tuple(features))


def show(compare: str, u: Tensor, one: Tensor, heading: Tensor | None = None) -> Tensor:
    """What tokens show of features u (B,N,w) that are compared in that way; ``one`` (B,N,1) where they are carried.

    Tokens with a ``heading`` (B,N,2) also show it, and how far ahead and to the left of the origin they stand, as they
    see it themselves.
    """
    if compare in ONE_HOT:
        return u
    squares = u.square()
    shown = [u, squares if compare == "feature" else squares.sum(-1, keepdim=True), one]
    return torch.cat(shown if heading is None else [*shown, heading, turned(u, heading)], -1)


def turned(u: Tensor, heading: Tensor) -> Tensor:
    """How much of u (...,2) points ahead, and how much to the left, of a heading's cosine and sine (...,2)."""
    (x, y), (cos, sin) = u.unbind(-1), heading.unbind(-1)
    return torch.stack([cos * x + sin * y, cos * y - sin * x], -1)


def comparable(a: Group, b: Group) -> bool:
    """Whether two groups form a relation: of one kind, and not both the ego's, which is a single token."""
    return a.kind == b.kind and not a.owner == b.owner == EGO


def channel_names(a: Group, b: Group) -> list[str]:
    """Names of the C channels of a relation; that of a distance has a ``=`` in its middle."""
    width = range(len(a.columns))
    if a.compare == "category":
        return [f"{a.name} {i} - {b.name} {j}" for i in width for j in width]
    if a.compare == "feature":
        return [f"{a.name}.{name} = {b.name}.{name}" for name in a.features]
    offsets = [f"{a.name} -> {b.name}: offset {i}" for i in width] if a.compare == "position" else []
    return [f"{a.name} = {b.name}", *offsets]


def are_distances(a: Group, b: Group) -> list[bool]:
    """Which of the C channels have a weight that is never negative: distances and equality, not offsets or pairs."""
    n = len(channel_names(a, b))
    return [a.compare != "category" and (i == 0 or a.compare == "feature") for i in range(n)]


def channel_forms(a: Group, b: Group) -> Tensor:
    """The matrices (C,Z_a,Z_b) between what two tokens show.

    Value: minus half the mean squared difference; features of unit variance are 1 apart on average. Position: that and
    the offset v - u, feature by feature, or ahead and to the left where there are headings. Equal: 1 for the same
    value, 0 otherwise or where there is none. Category: one entry for each pair of categories. Feature: minus half the
    squared difference, feature by feature.
    """
    w = len(a.columns)
    if a.compare == "equal":
        return torch.eye(w).unsqueeze(0)
    if a.compare == "category":
        return torch.eye(w * w).reshape(w * w, w, w)
    if a.compare == "feature":
        forms = torch.zeros(w, 2 * w + 1, 2 * w + 1)
        for i in range(w):
            forms[i, i, i], forms[i, w + i, -1], forms[i, -1, w + i] = 1.0, -0.5, -0.5
        return forms
    forms = torch.zeros(1 + w * (a.compare == "position"), a.n_shown, b.n_shown)
    square, one = w, w + 1
    forms[0, :w, :w] = torch.eye(w) / w
    forms[0, square, one] = forms[0, one, square] = -0.5 / w
    if a.heading is not None:  # cos_i x_j + sin_i y_j - (cos_i x_i + sin_i y_i), and the same to the left
        cos, sin, ahead, left = range(w + 2, w + 6)
        forms[1, cos, 0], forms[1, sin, 1], forms[1, ahead, one] = 1.0, 1.0, -1.0
        forms[2, cos, 1], forms[2, sin, 0], forms[2, left, one] = 1.0, -1.0, -1.0
        return forms
    for i in range(len(forms) - 1):
        forms[1 + i, one, i], forms[1 + i, i, one] = 1.0, -1.0
    return forms


class KindScale(Described):
    """One scale for all groups of a kind, so that they stay comparable.

    Features are centred on each observation's own mean and divided by one running standard deviation *within*
    observations. So positions may be absolute: neighbours 1 apart at x = 1000 keep all their digits.

    Args:
        n_scales: 1, shared by the w features of a group, or w, where each is compared on its own.
    """

    def __init__(self, n_scales: int = 1) -> None:
        super().__init__()
        self.n_scales = n_scales
        self.normalizer = RunningNormalizer(n_scales)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Scale the rows of all groups x (B,N,w), zero where not ``present`` (B,N,1), 0 or 1."""
        centre = x.sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1.0)
        centred = ((x - centre) * present).unflatten(-1, (-1, self.n_scales))
        scaled: Tensor = self.normalizer(centred, present.expand(centred.shape[:-1])).flatten(-2)
        return scaled

    def stage(self) -> ScalingStage:
        """Describe the scaling; what it is centred on is each observation's own."""
        return stage_of(self.normalizer, "normalizer", ScalingStage)
