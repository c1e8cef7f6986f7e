"""Kinds: which features an environment declares comparable, checked and in one form; see ``docs/relations.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Kinds = Mapping[str, Mapping[str, Any]]
"""Kind -> type (or "ego") -> feature names of one group, or a sequence of groups; and ``"compare"`` -> how."""
COMPARE = "compare"
COMPARISONS = ("value", "position", "category")
HOW_KINDS = 'expected a mapping of mappings, such as {"colour": {"ego": ("cue_r", "cue_g"), "items": ("r", "g")}}'


def check_kinds(types: Mapping[str, tuple[str, ...]], ego: tuple[str, ...], kinds: Kinds) -> dict[str, dict[str, Any]]:
    """Normalise to kind -> owner -> groups (and "compare" where it is given) and check every name and width.

    Args:
        types: feature names per entity type.
        ego: names of the ego's features.
        kinds: as declared.

    Raises:
        ValueError: another form, unknown or ambiguous names, groups of unequal width.
    """
    if "ego" in types:
        raise ValueError("kinds calls the 1-D Boxes together 'ego'; rename the entity type 'ego'")
    if not isinstance(kinds, Mapping):
        raise ValueError(f"kinds is {kinds!r}; {HOW_KINDS}")
    features = {**types, "ego": ego}
    checked: dict[str, dict[str, object]] = {}
    for kind, owners in kinds.items():
        if not isinstance(owners, Mapping):
            raise ValueError(f"kinds[{kind!r}] is {owners!r}; {HOW_KINDS}")
        if (compare := owners.get(COMPARE, COMPARISONS[0])) not in COMPARISONS:
            raise ValueError(f"kinds[{kind!r}][{COMPARE!r}] is {compare!r}; choose one of {COMPARISONS}")
        groups = {
            owner: _check_groups(f"kinds[{kind!r}][{owner!r}]", given, features.get(owner), features)
            for owner, given in owners.items()
            if owner != COMPARE
        }
        widths = {len(group) for of_owner in groups.values() for group in of_owner}
        if len(widths) > 1:
            raise ValueError(f"kinds[{kind!r}] mixes groups of {sorted(widths)} features; same kind means same width")
        checked[kind] = groups | ({COMPARE: compare} if COMPARE in owners else {})
    return checked


def _check_groups(
    where: str, given: Any, features: Sequence[str] | None, known: Mapping[str, object]
) -> tuple[tuple[str, ...], ...]:
    if features is None:
        raise ValueError(f"{where}: there is no such entity type; expected one of {sorted(known)}")
    groups = (given,) if _is_group(given) else given
    if not _is_list(groups) or not all(_is_group(group) for group in groups):
        raise ValueError(f"{where} is {given!r}; give a tuple of feature names, or of such tuples")
    if len({tuple(group) for group in groups}) < len(groups):
        raise ValueError(f"{where} gives the same group twice: {tuple(map(tuple, groups))}; once is enough")
    for group in groups:
        if missing := [name for name in group if name not in features]:
            raise ValueError(f"{where}: {missing} not among {tuple(features)}; check the names")
        if len(set(group)) < len(group):
            raise ValueError(f"{where}: {tuple(group)} names a feature twice")
        if unclear := [name for name in group if features.count(name) > 1]:
            raise ValueError(f"{where}: {unclear} occur in several 1-D Boxes; give their features distinct names")
    return tuple(tuple(group) for group in groups)


def _is_group(given: Any) -> bool:
    return _is_list(given) and all(isinstance(name, str) for name in given)


def _is_list(given: object) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
