"""Terms of scores that have names: how much each head relies on each, and what happens without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

from torch import nn

from attn_rl.nn.token_order import TokenOrder


class LayerShape(NamedTuple):
    """What terms of the scores must know of the layers that they are for.

    Attributes:
        d_model: width D of the tokens.
        n_heads: heads H.
        n_layers: layers.
        order: in which tokens stand.
        entities_read: the last layer's entity rows are read; else only the first row is.
    """

    d_model: int
    n_heads: int
    n_layers: int
    order: TokenOrder
    entities_read: bool


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


class NamedScores(nn.Module):
    """What the terms of all layers share: ``layers``, each with ``scores`` that have names, or None."""

    layers: nn.ModuleList

    def strengths(self) -> list[Strength]:
        """The learned strength of every named relation, per layer and head."""
        found = []
        for i, layer in enumerate(self.layers):
            scores: Any = layer.scores
            for head, row in enumerate([] if scores is None else scores.strengths().tolist()):
                found += [Strength(i, head, name, value) for name, value in zip(scores.names, row, strict=True)]
        return found

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Switch named relations off in the scores of all layers and heads, as long as the block lasts.

        Raises:
            ValueError: there is no relation of one of these names.
        """
        every: list[Any] = [layer.scores for layer in self.layers if layer.scores is not None]
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
