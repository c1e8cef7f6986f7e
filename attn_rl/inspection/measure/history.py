"""Attention over training: weight by entity type and by a feature, record after record."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from attn_rl.inspection.measure.summary import map_scalars
from attn_rl.inspection.record.attention_record import AttentionRecord

N_BINS = 5
FEATURE = "distance"


@dataclass
class History:
    """What successive records of the same probe states say about who is looked at.

    Attributes:
        feature: name of the feature that weights are sorted by, in every entity type that has it.
        steps: environment steps of each record.
        mass: per record, owner ("ego" or an entity type) -> weight.
        edges: borders of the feature's bins, from its quantiles in the first record.
        by_feature: per record, mean weight in each bin relative to equal weights; stays empty without the feature.
    """

    feature: str = FEATURE
    steps: list[int] = field(default_factory=list)
    mass: list[dict[str, float]] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    by_feature: list[np.ndarray] = field(default_factory=list)

    def get_state(self) -> dict[str, Any]:
        """Everything noted so far, JSON-able."""
        return vars(self) | {"by_feature": [row.tolist() for row in self.by_feature]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> History:
        """Rebuild from what :meth:`get_state` returned.

        Raises:
            ValueError: a state that no history could have had.
        """
        if not _is_history(state):
            raise ValueError("the history of attention is none: expected equally many steps and masses, and numbers")
        return cls(**{**state, "by_feature": [np.array(row) for row in state["by_feature"]]})

    def add(self, step: int, record: AttentionRecord) -> None:
        """Note one more record."""
        scalars = map_scalars(record, np.full(len(record.present), -1))
        self.steps.append(step)
        self.mass.append({tag.removeprefix("attention/mass/"): v for tag, v in scalars.items() if "/mass/" in tag})
        values = feature_values(record, self.feature)
        known = ~np.isnan(values) & record.slot_present
        if not known.any():
            return
        if not self.edges:
            self.edges = [float(x) for x in np.quantile(values[known], np.linspace(0, 1, N_BINS + 1))]
        bins = np.clip(np.searchsorted(self.edges, values[known], side="right") - 1, 0, N_BINS - 1)
        count = record.slot_present.sum(-1, keepdims=True)
        entity_map = record.entity_map()
        share = entity_map / np.maximum(entity_map.sum(-1, keepdims=True), 1e-9) * count
        self.by_feature.append(
            np.array([share[known][bins == b].mean() if (bins == b).any() else np.nan for b in range(N_BINS)])
        )


def _is_history(state: object) -> bool:
    """Whether a value out of a file could come from :meth:`History.get_state`."""
    if not isinstance(state, Mapping) or state.keys() != {each.name for each in fields(History)}:
        return False
    steps, mass, edges, rows = (state[name] for name in ("steps", "mass", "edges", "by_feature"))
    if not isinstance(state["feature"], str) or not all(isinstance(each, list) for each in (steps, mass, edges, rows)):
        return False
    counted = len(mass) == len(steps) >= len(rows) and len(edges) in (0, N_BINS + 1)
    masses = all(isinstance(each, Mapping) and _are_numbers(each.values()) for each in mass)
    bins = all(isinstance(row, list) and len(row) == N_BINS and _are_numbers(row) for row in rows)
    return counted and masses and bins and all(type(step) is int for step in steps) and _are_numbers(edges)


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(type(value) in (int, float) and not abs(value) > sys.maxsize for value in values)  # NaN: an empty bin


def feature_values(record: AttentionRecord, feature: str) -> np.ndarray:
    """Raw values of a feature in all slots (S,N); NaN in types that do not have it."""
    values = np.full(record.slot_present.shape, np.nan)
    start = 0
    for key in dict.fromkeys(label.rsplit(" ", 1)[0] for label in record.slot_labels):
        block = record.obs.get(key, record.obs.get(""))
        names = record.feature_names.get(key, ())
        width = block.shape[1] if block is not None else 0
        if block is not None and feature in names:
            values[:, start : start + width] = block[..., names.index(feature)]
        start += width
    return values
