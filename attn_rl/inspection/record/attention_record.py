"""What one forward pass of an attention policy showed, as plain NumPy arrays.

Shapes: S states, L layers, H heads, Q query rows, K columns (tokens: the reader and other leading tokens, then all
slots), N slots, D d_model, d = D / H.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np

from attn_rl.nn.relations.named import Strength

Categories = Mapping[str, Mapping[str, Sequence[str]]]
NOTHING = "none"
"""Name of a value that says nothing."""


def _named(row: np.ndarray, features: Sequence[str], values: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the values that the categories in one row (F,) have, in the order of the features."""
    numbers = {name: float(x) for name, x in zip(features, row, strict=False) if name in values}
    return [values[name][int(x)] if 0 <= x < len(values[name]) else f"{x:g}" for name, x in numbers.items()]


@dataclass
class LayerRecord:
    """What one attention layer computed.

    Attributes:
        pattern: weights (S,H,Q,K); rows sum to 1.
        values: value vectors before W_O (S,H,K,d).
        value_norm: length of each value vector after its head's part of W_O (S,H,K).
        tokens: rows that entered the layer, normalised (S,K,D).
    """

    pattern: np.ndarray
    values: np.ndarray
    value_norm: np.ndarray
    tokens: np.ndarray


class Followed(NamedTuple):
    """Along which edges a head looks, e.g. ``("near", 0.71, 0.25)``.

    Attributes:
        name: the edge type, and whether it is looked at from its target (``"near reversed"``).
        weight: share of the head's weight along such edges.
        equal: the share that equal weights would have.
    """

    name: str
    weight: float
    equal: float


def known_mean(x: np.ndarray) -> np.ndarray:
    """Mean over the states, of what is known; NaN where nothing is."""
    known = ~np.isnan(x)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.where(known, x, 0.0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
    return mean


@dataclass
class AttentionRecord:
    """Everything one forward pass of a policy showed; plain NumPy arrays.

    Attributes:
        obs: the observation, key by key, with leading S ("" where it is a bare array).
        layers: one entry per attention layer; none for a policy without attention.
        labels: what the K columns are: ``("ego", "items 0", ...)``.
        lead: columns before the first slot (ego, learned query).
        present: boolean (S,K).
        readout_rows: how much of each row the readout reads (S,K), see :meth:`SetNetwork.readout_rows`; one 1 where a
            single row is read, 0 everywhere where nothing is there to read.
        features: the extractor's output (S,F).
        policy: log-probabilities (S, sum of ``sizes``), or Gaussian means and log standard deviations (S,2A).
        sizes: choices per action dimension; empty = continuous.
        value: (S,), NaN where the model has none.
        pointer: (S,N) probability of pointing at each slot; None without a pointer head.
        chosen: of structured actions, the deterministic action (S, entries); else None. ``policy`` is then given the
            likeliest earlier choices, entry by entry, see :mod:`attn_rl.sb3.structured.figures`.
        pointing: of structured actions, who points at whom: probability of every slot (S,P,N), row by row; rows that
            are not asked are zeros. None where nothing points.
        pointing_labels: what the P rows are called: ``("units 0 target", ...)``.
        feature_names: names of the features per observation key.
        categories: per observation key and feature, the names of the values that its numbers stand for.
        strengths: of every named relation, per layer and head, when the pass was made; empty without relations.
        lstm_states: of a recurrent policy, the states that the pass began with (S,4,layers,width): hidden and cell
            state of the actor's LSTM, hidden and cell state of the critic's; else None.
        next_lstm_states: what it goes on with, for :func:`attn_rl.record_attention` at the next step.
        edge_types: names of the T edge types, there and back (``"near"``, ``"near reversed"``); empty without edges.
        followed: share of a head's weight that lies along edges of each type (S,L,H,T), the mean over the tokens that
            have such an edge; NaN where none has. None without edges.
        reachable: the share that equal weights would have (S,T).
    """

    obs: dict[str, np.ndarray]
    layers: list[LayerRecord]
    labels: tuple[str, ...]
    lead: int
    present: np.ndarray
    readout_rows: np.ndarray
    features: np.ndarray
    policy: np.ndarray
    sizes: tuple[int, ...]
    value: np.ndarray
    pointer: np.ndarray | None = None
    chosen: np.ndarray | None = None
    pointing: np.ndarray | None = None
    pointing_labels: tuple[str, ...] = ()
    feature_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    categories: Categories = field(default_factory=dict)
    strengths: tuple[Strength, ...] = ()
    lstm_states: np.ndarray | None = None
    next_lstm_states: np.ndarray | None = None
    edge_types: tuple[str, ...] = ()
    followed: np.ndarray | None = None
    reachable: np.ndarray | None = None

    @property
    def slot_present(self) -> np.ndarray:
        """Presence of the slots alone (S,N)."""
        return self.present[:, self.lead :]

    @property
    def slot_labels(self) -> tuple[str, ...]:
        """Labels of the slots alone."""
        return self.labels[self.lead :]

    @property
    def probabilities(self) -> np.ndarray:
        """Action probabilities (S, sum of sizes); empty (S,0) for continuous actions."""
        return np.exp(self.policy) if self.sizes else self.policy[:, :0]

    @property
    def action(self) -> np.ndarray:
        """The deterministic action as ``predict`` gives it before clipping: (S,) or (S, dimensions)."""
        if self.chosen is not None:
            return self.chosen
        if not self.sizes:
            return self.policy[:, : self.policy.shape[-1] // 2]
        parts = np.split(self.policy, np.cumsum(self.sizes)[:-1], axis=-1)
        chosen = np.stack([part.argmax(-1) for part in parts], -1)
        return chosen[:, 0] if len(self.sizes) == 1 else chosen

    def readout(self, layer: int = -1) -> np.ndarray:
        """The rows of the pattern, each as far as the readout reads it: ``readout_rows @ pattern`` (S,H,K)."""
        pattern = self.layers[layer].pattern
        read: np.ndarray = np.einsum("sq,shqk->shk", self.readout_rows[:, : pattern.shape[2]], pattern)
        return read

    def entity_map(self, layer: int = -1) -> np.ndarray:
        """The map people look at: readout weights on the slots, averaged over heads (S,N)."""
        over_heads: np.ndarray = self.readout(layer)[..., self.lead :].mean(1)
        return over_heads

    def value_map(self, layer: int = -1) -> np.ndarray:
        r"""Length of what each token contributes, :math:`w_{hi} \lVert x_i W^V_h W^O_h \rVert`, (S,H,K).

        Kobayashi et al. 2020, equation 7: a large weight on a value near zero moves nothing.
        """
        lengths: np.ndarray = self.readout(layer) * self.layers[layer].value_norm
        return lengths

    def words(self, state: int) -> tuple[str, ...]:
        """What the categories of each slot say in one state, e.g. ``"red key"``; empty without any, or nobody there.

        Values come in the order of the features; those called ``"none"`` are left out.
        """
        found = []
        for label, there in zip(self.slot_labels, self.slot_present[state], strict=True):
            key, _, row = label.rpartition(" ")
            block = self.obs.get(key, self.obs.get(""))
            said: list[str] = []
            if block is not None and there:
                said = _named(block[state, int(row)], self.feature_names.get(key, ()), self.categories.get(key, {}))
            found.append(" ".join(word for word in said if word != NOTHING))
        return tuple(found)

    def pointing_rows(self, state: int) -> list[tuple[str, np.ndarray]]:
        """Who points at whom in a state: name and probabilities (N,) of every row that points in any state."""
        if self.pointing is None:
            return []
        ever = self.pointing.any((0, 2))
        return [(self.pointing_labels[i], self.pointing[state, i]) for i in np.flatnonzero(ever)]

    def compared(self) -> dict[tuple[int, int], Strength]:
        """What each head compares most: (layer, head), both from 0 -> the relation of the greatest strength."""
        found: dict[tuple[int, int], Strength] = {}
        for strength in (s for s in self.strengths if s.name.partition(":")[0] not in self.edge_types):
            where = strength.layer, strength.head
            if where not in found or abs(strength.value) > abs(found[where].value):
                found[where] = strength
        return found

    def follows(self) -> dict[tuple[int, int], Followed]:
        """Along which edges each head looks: (layer, head), both from 0 -> what it prefers most to equal weights."""
        if self.followed is None or self.reachable is None:
            return {}
        weight, equal = known_mean(self.followed), known_mean(self.reachable)  # (L,H,T), (T,)
        found: dict[tuple[int, int], Followed] = {}
        for layer, head in np.ndindex(weight.shape[:2]):
            gain = np.nan_to_num(weight[layer, head] - equal, nan=-np.inf)
            best = int(gain.argmax())
            if np.isfinite(gain[best]):
                found[layer, head] = Followed(
                    self.edge_types[best], float(weight[layer, head, best]), float(equal[best])
                )
        return found

    def _repr_html_(self) -> str:
        """What a notebook shows: the first states as tables."""
        from attn_rl.inspection.draw.notebook import record_html  # drawing is built on records

        return record_html(self)

    def _repr_png_(self) -> bytes:
        """The same as a picture, for where HTML is not shown."""
        from attn_rl.inspection.draw.notebook import record_png

        return record_png(self)

    def rows(self, chosen: slice) -> AttentionRecord:
        """Some of the states."""
        arrays = {name: getattr(self, name)[chosen] for name in ROW_ARRAYS}
        layers = [LayerRecord(*(getattr(layer, f.name)[chosen] for f in fields(LayerRecord))) for layer in self.layers]
        obs = {key: block[chosen] for key, block in self.obs.items()}
        optional = {name: array[chosen] for name in OPTIONAL_ARRAYS if (array := getattr(self, name)) is not None}
        return replace(self, obs=obs, layers=layers, **arrays, **optional)


ROW_ARRAYS = ("present", "readout_rows", "features", "policy", "value")
"""The arrays of a record with one row per state, apart from observation and layers."""
OPTIONAL_ARRAYS = ("pointer", "chosen", "pointing", "lstm_states", "next_lstm_states", "followed", "reachable")
"""The same, of those that not every policy has."""


def concatenate(records: Sequence[AttentionRecord]) -> AttentionRecord:
    """Records of the same policy, one after another."""
    first = records[0]
    names = [*ROW_ARRAYS, *(name for name in OPTIONAL_ARRAYS if getattr(first, name) is not None)]
    arrays: dict[str, Any] = {name: np.concatenate([getattr(record, name) for record in records]) for name in names}
    layers = [
        LayerRecord(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(LayerRecord)))
        for parts in zip(*(record.layers for record in records), strict=True)
    ]
    obs = {key: np.concatenate([record.obs[key] for record in records]) for key in first.obs}
    return replace(first, obs=obs, layers=layers, **arrays)
