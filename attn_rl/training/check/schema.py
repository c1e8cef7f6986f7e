"""What a policy will see, in words: one line per entity type, ego, kind, action and mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike

from attn_rl.edges import EdgeType
from attn_rl.entities import EntitySpec, env_metadata
from attn_rl.kinds import COMPARE, COMPARISONS, HEADING, groups_of
from attn_rl.training.check.sample import Sample, rows_of
from attn_rl.training.check.slots import Order
from attn_rl.vec_envs.guarded import choices_of

SHOWN = 8
"""Features without names to list one by one."""


def describe_spaces(env: gym.Env, spec: EntitySpec) -> dict[str, str]:
    """Name -> description."""
    lines = {t.name: f"{_counted(t.capacity, 'slot')} of {_features(t.features)}" for t in spec.types}
    for t in spec.types:
        column = None if t.presence_column is None else f"column {t.presence_name!r}"
        lines[t.name] += f"; presence: {t.presence_key or column or 'none, all rows exist'}"
    lines |= {key: _features(names) for key, names in spec.ego}
    if spec.categories:
        named = (f"{key}.{name} ({len(values)})" for key, of in spec.categories.items() for name, values in of.items())
        lines["categories"] = f"names for numbers, and how many: {', '.join(named)}"
    lines |= {t.name: _edges(t) for t in spec.edges}
    if spec.kinds:
        lines["kinds"] = "; ".join(_kind(kind, owners) for kind, owners in spec.kinds.items())
    lines["actions"] = str(env.action_space) + _pointer(env, spec)
    has_method = env.has_wrapper_attr("action_masks")
    lines["mask"] = "action_mask" if spec.action_mask else "action_masks(), for MaskablePPO" if has_method else "none"
    return lines


def describe_sample(sample: Sample, spec: EntitySpec, orders: Mapping[str, Order]) -> dict[str, str]:
    """Name -> description; of an entity type, how many were there, and in which order."""
    lines = {}
    for name, (_, present) in rows_of(spec, sample.blocks).items():
        counts = present.sum(1)
        none = f" (none in {(counts == 0).mean():.0%} of the observations)" if (counts == 0).any() else ""
        lines[name] = f"; {_span(counts)} there{none}"
        lines[name] += f"; slots: {orders[name].words}" if name in orders else ""
    if len(sample.rewards):
        lines["rewards"] = _span(sample.rewards)
    if sample.lengths:
        unit = "step" if max(sample.lengths) == 1 else "steps"
        median = f", median {np.median(sample.lengths):.0f}" if len(set(sample.lengths)) > 1 else ""
        mean = f"mean return {np.mean(sample.returns):.3g} at random"
        lines["episodes"] = f"{_span(sample.lengths)} {unit}{median}; {mean}"
    return lines


def _counted(n: int, noun: str) -> str:
    """The number with its noun: 1 step, 2 steps."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _features(names: Sequence[str]) -> str:
    default = [f"f{i}" for i in range(len(names))]
    listed = f"f0 to {names[-1]}" if len(names) > SHOWN and list(names) == default else ", ".join(names)
    return f"{_counted(len(names), 'feature')}: {listed}"


def _span(values: ArrayLike) -> str:
    if not np.isfinite(values).all():
        return "not all finite"
    low, high = np.min(values), np.max(values)
    return f"always {low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _edges(edge_type: EdgeType) -> str:
    slots = " x ".join(map(str, edge_type.shape))
    features = f" of {len(edge_type.features)} features: {', '.join(edge_type.features)}" if edge_type.features else ""
    return f"{slots} edges from {edge_type.source} to {edge_type.target}{features}"


def _kind(kind: str, owners: Mapping[str, Any]) -> str:
    groups = [f"{owner} ({', '.join(group)})" for owner, group in groups_of(owners)]
    seen = ""
    if HEADING in owners:
        facing = (f"{owner} ({', '.join(names)})" for owner, names in owners[HEADING].items())
        seen = f", seen from the ego, headings {' ~ '.join(facing)}" if owners[HEADING] else ", seen from the ego"
    return f"{kind}, by {owners.get(COMPARE, COMPARISONS[0])}: {' ~ '.join(groups)}{seen}"


def _pointer(env: gym.Env, spec: EntitySpec) -> str:
    if declared := env_metadata(env).get("actions"):
        return f"; structured: {', '.join(declared)}"
    sizes = {part.stop - part.start for part in choices_of(env.action_space)}
    fitting = [name for name, capacity in spec.capacities.items() if capacity in sizes]
    if not fitting:
        return ""
    named = " or ".join(map(repr, fitting))
    return f"; if choice i means slot i of {' or '.join(fitting)}, train with pointer={named}"
