"""What a network computes, as plain data: named weights and static facts, part by part.

A part whose class defines ``stage()`` describes itself; every backend that is not the modules themselves works from
such descriptions and from nothing else. A part that cannot be described can only run itself: a subclass without a
``stage`` of its own, a part with a hook, or one in which a method was replaced. :class:`Opaque` says which and why.

Shapes: D width, F features, E ego features, H heads, C channels of relations, Z columns that tokens show. Weights are
as ``nn.Linear`` holds them, (out, in).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

from torch import Tensor, nn

from attn_rl.nn.changes import FORWARD, why_changed
from attn_rl.type_names import with_article


class LinearStage(NamedTuple):
    """``weight @ x + bias``; weight (out,in), bias (out,) or None."""

    weight: Tensor
    bias: Tensor | None


class ActivationStage(NamedTuple):
    """An elementwise function."""

    name: Literal["tanh", "relu"]


class NormStage(NamedTuple):
    """Layer normalisation over the last dimension; weight and bias (D,)."""

    weight: Tensor
    bias: Tensor
    eps: float


LayerStage = LinearStage | ActivationStage | NormStage
"""One of the layers of a stack."""
LAYERS: tuple[type[LayerStage], ...] = (LinearStage, ActivationStage, NormStage)


class ScalingStage(NamedTuple):
    """``clip((x - mean) * factor)`` per feature; mean and factor (F,), both of this moment."""

    mean: Tensor
    variance: Tensor
    epsilon: float
    clip: float


class EmbeddingStage(NamedTuple):
    """``second(relu(first(x) + context @ shared))``; context (D,E) or None."""

    first: LinearStage
    context: Tensor | None
    second: LinearStage


class TokenStage(NamedTuple):
    """Where some of the tokens come from.

    Attributes:
        role: a learned query, the ego, or an entity type.
        scaling: of the features; None = as they are.
        embedding: of the features; None for a query.
        query: the query (D,); None for the others.
    """

    role: Literal["query", "ego", "type"]
    scaling: ScalingStage | None = None
    embedding: EmbeddingStage | None = None
    query: Tensor | None = None


class AttentionStage(NamedTuple):
    """Multi-head softmax attention of scaled dot products.

    Attributes:
        query, key, value, output: the projections (D,D); only query and output have a bias.
        n_heads: heads H.
        count_factor: scores are multiplied by ``count_factor * log(n + 1)`` with n present tokens; None = they are not.
        scales_products: that factor is for the dot products too, not only for what relations add.
        log_temperature: (H,1,1), of cosine similarities; None = of dot products, by 1/sqrt of a head's width.
    """

    query: LinearStage
    key: LinearStage
    value: LinearStage
    output: LinearStage
    n_heads: int
    count_factor: float | None
    scales_products: bool
    log_temperature: Tensor | None = None


class FeedForwardStage(NamedTuple):
    """``narrow(relu(widen(x)))``."""

    widen: LinearStage
    narrow: LinearStage


class BlockStage(NamedTuple):
    """A pre-norm transformer block."""

    norm_attention: NormStage
    attention: AttentionStage
    norm_feedforward: NormStage
    feedforward: FeedForwardStage


class EncoderStage(NamedTuple):
    """Blocks, then a normalisation."""

    blocks: tuple[BlockStage, ...]
    norm: NormStage


class GroupStage(NamedTuple):
    """Features of one owner that relations compare.

    Attributes:
        token: index of the owner among the network's tokens.
        columns: of its features.
        place: first of the columns that its tokens show.
    """

    token: int
    columns: tuple[int, ...]
    place: int


class KindStage(NamedTuple):
    """Groups of one kind: how they are compared, and their common scale (None: as they are)."""

    compare: str
    groups: tuple[GroupStage, ...]
    scaling: ScalingStage | None


class CarriedStage(NamedTuple):
    """Where heads look, as seen from the query, added to the output of a layer.

    Attributes:
        places: first of the columns that tokens show, per group of a position.
        width: coordinates w of a position.
        project: (D, H (w+1)).
    """

    places: tuple[int, ...]
    width: int
    project: Tensor


class RelationStage(NamedTuple):
    """What one layer adds to its scores, ``shown_i @ forms_h @ shown_j``.

    Attributes:
        depends_on: all that the forms are made of.
        forms: computes the matrices of all heads, transposed, in a row (H Z,Z); differentiable.
        n_shown: columns Z.
        carried: what is added to the output besides.
    """

    depends_on: tuple[Tensor, ...]
    forms: Callable[[], Tensor]
    n_shown: int
    carried: tuple[CarriedStage, ...] = ()


class EdgesStage(NamedTuple):
    """What edges add.

    Attributes:
        pairs: entities and edges -> which tokens they join (``attn_rl.nn.relations.edge_terms.Pairs``).
        scores: per block, pairs -> what each adds (B,P,H), differentiable; None = nothing.
        only: entities look along edges alone.
    """

    pairs: Callable[..., Any]
    scores: tuple[Callable[..., Tensor] | None, ...]
    only: bool


class NetworkStage(NamedTuple):
    """A whole attention network.

    Attributes:
        tokens: in the order in which they stand.
        encoder: the blocks.
        kinds: what tokens show for relations.
        relations: per block; None = nothing is added.
        reads_first: only the first row is read.
        edges: what they add; None = there are none.
    """

    tokens: tuple[TokenStage, ...]
    encoder: EncoderStage
    kinds: tuple[KindStage, ...]
    relations: tuple[RelationStage | None, ...]
    reads_first: bool
    edges: EdgesStage | None = None


class Opaque(Exception):
    """A part that can only run itself: its dotted ``path``, as ``named_modules`` has it, and ``why``."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} {why}" if path else why)
        self.path, self.why = path, why


class Described(nn.Module):
    """A part that can say what it computes."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        FORWARD[cls] = cls.forward

    def stage(self) -> Any:
        """Describe this part, as the class that defines this method computes it.

        Raises:
            Opaque: a part inside can only run itself.
        """
        raise NotImplementedError


T = TypeVar("T")


def stage_of(part: nn.Module, path: str, *kinds: type[T]) -> T:
    """The description of ``part``, which stands at ``path`` in the part that asks.

    Raises:
        Opaque: ``part``, or something inside, can only run itself, or is of another kind.
    """
    if (why := why_opaque(part)) is not None:
        raise Opaque(path, why)
    try:
        found = PRIMITIVES[type(part)](part) if type(part) in PRIMITIVES else part.stage()  # type: ignore[operator]
    except Opaque as inside:
        raise Opaque(".".join(name for name in (path, inside.path) if name), inside.why) from None
    if not isinstance(found, kinds):
        raise Opaque(path, f"is {with_article(type(part))}, which only the modules compute")
    return found


def stages_of(layers: nn.Sequential, path: str) -> tuple[LayerStage, ...]:
    """The descriptions of a stack of layers, which stands at ``path``.

    Raises:
        Opaque: as :func:`stage_of`, for the first layer that can only run itself.
    """
    if (why := why_changed(layers, nn.Sequential)) is not None:
        raise Opaque(path, why)
    return tuple(stage_of(layer, f"{path}.{i}", *LAYERS) for i, layer in enumerate(layers))


def why_opaque(part: nn.Module) -> str | None:
    """Why ``part`` itself can only run itself, None where it can be described."""
    cls = type(part)
    if cls not in PRIMITIVES and "stage" not in vars(cls):
        return f"is {with_article(cls)}, which can only run itself"
    return why_changed(part, cls)


def _linear(layer: nn.Linear) -> LinearStage:
    return LinearStage(layer.weight, layer.bias)


def _norm(norm: nn.LayerNorm) -> NormStage:
    if norm.weight is None or norm.bias is None or norm.weight.ndim != 1:
        raise Opaque("", "is a LayerNorm without weight or bias")
    return NormStage(norm.weight, norm.bias, norm.eps)


def _activation(layer: nn.Module) -> ActivationStage:
    return ActivationStage("tanh" if type(layer) is nn.Tanh else "relu")


PRIMITIVES: dict[type[nn.Module], Callable[[Any], Any]] = {
    nn.Linear: _linear,
    nn.LayerNorm: _norm,
    nn.Tanh: _activation,
    nn.ReLU: _activation,
}
"""Modules of PyTorch's own that are described, each by its exact class."""
_PYTORCHS: tuple[type[nn.Module], ...] = (*PRIMITIVES, nn.Sequential, nn.Identity)
FORWARD.update({cls: cls.forward for cls in _PYTORCHS})
