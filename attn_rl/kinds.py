"""Kinds: which features an environment declares comparable, checked and in one form; see ``docs/relations.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Values = Mapping[str, Mapping[str, Sequence[str]]]
"""Owner -> category -> names of its values."""

Kinds = Mapping[str, Mapping[str, Any]]
"""Kind -> type (or "ego") -> feature names of one group, or a sequence of groups; and ``"compare"`` -> how.
Of positions also ``"heading"`` and ``"vectors"``: type (or "ego") -> names; see ``docs/relations.md``."""
COMPARE = "compare"
HEADING, VECTORS = "heading", "vectors"
"""Of positions: which way their owners face, and features that turn with the scene but do not move with it."""
RESERVED = (COMPARE, HEADING, VECTORS)
"""Keys of a kind that are no owners."""
COMPARISONS = ("value", "position", "equal", "category")
OF_CATEGORIES = ("equal", "category")
"""How categories may be compared; the first is the default."""
EGO = "ego"
HOW_KINDS = 'expected a mapping of mappings, such as {"colour": {"ego": ("cue_r", "cue_g"), "items": ("r", "g")}}'


def check_kinds(
    types: Mapping[str, tuple[str, ...]], ego: tuple[str, ...], kinds: Kinds, values: Values
) -> dict[str, dict[str, Any]]:
    """Normalise to kind -> owner -> groups (and "compare" where it is given) and check every name and width.

    Args:
        types: feature names per entity type.
        ego: names of the ego's features.
        kinds: as declared.
        values: of the categories among these features.

    Raises:
        ValueError: another form, unknown or ambiguous names, groups of unequal width, or categories that cannot be
            compared.
    """
    if EGO in types:
        raise ValueError("kinds calls the 1-D Boxes together 'ego'; rename the entity type 'ego'")
    if not isinstance(kinds, Mapping):
        raise ValueError(f"kinds is {kinds!r}; {HOW_KINDS}")
    features = {**types, EGO: ego}
    checked: dict[str, dict[str, Any]] = {}
    for kind, owners in kinds.items():
        if not isinstance(owners, Mapping):
            raise ValueError(f"kinds[{kind!r}] is {owners!r}; {HOW_KINDS}")
        if (compare := owners.get(COMPARE, COMPARISONS[0])) not in COMPARISONS:
            raise ValueError(f"kinds[{kind!r}][{COMPARE!r}] is {compare!r}; choose one of {COMPARISONS}")
        groups: dict[str, Any] = {
            owner: _check_groups(f"kinds[{kind!r}][{owner!r}]", given, features.get(owner), features)
            for owner, given in owners.items()
            if owner not in RESERVED
        }
        widths = {len(group) for of_owner in groups.values() for group in of_owner}
        if len(widths) > 1:
            raise ValueError(f"kinds[{kind!r}] mixes groups of {sorted(widths)} features; same kind means same width")
        found = [(owner, group) for owner, of_owner in groups.items() for group in of_owner]
        if any(name in values.get(owner, {}) for owner, group in found for name in group):
            shared_values(kind, found, values)
            compare = owners.get(COMPARE, OF_CATEGORIES[0])
            if compare not in OF_CATEGORIES:
                raise ValueError(f"kinds[{kind!r}] holds categories; {COMPARE!r} must be one of {OF_CATEGORIES}")
            groups[COMPARE] = compare
        elif COMPARE in owners:
            groups[COMPARE] = compare
        if HEADING in owners or VECTORS in owners:
            groups |= _check_frame(kind, owners, compare, widths, features)
        checked[kind] = groups
    return checked


def groups_of(owners: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(Owner, group) of every group of a checked kind."""
    return ((owner, group) for owner, given in owners.items() if owner not in RESERVED for group in given)


def _check_frame(
    kind: str, owners: Mapping[str, Any], compare: str, widths: set[int], features: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """``heading``, an angle or its cosine and sine per owner, and ``vectors``, pairs, in one form."""
    if HEADING not in owners:
        raise ValueError(
            f"kinds[{kind!r}] has {VECTORS!r}, but no {HEADING!r}; {HEADING!r}: {{}} if nobody faces anywhere"
        )
    if compare != "position" or widths != {2}:
        raise ValueError(
            f"kinds[{kind!r}] has a {HEADING!r}; that takes {COMPARE!r}: 'position' and groups of two features, x and y"
        )
    if not features[EGO]:
        raise ValueError(f"kinds[{kind!r}] has a {HEADING!r}, but nobody looks: there is no ego; add a 1-D Box")
    found: dict[str, dict[str, Any]] = {}
    for word, fitting, hint in (
        (HEADING, (1, 2), "an angle in radians, or cosine and sine"),
        (VECTORS, (2,), "x and y"),
    ):
        given = owners.get(word, {})
        if not isinstance(given, Mapping):
            raise ValueError(f"kinds[{kind!r}][{word!r}] is {given!r}; {HOW_KINDS}")
        found[word] = {}
        for owner, names in given.items():
            where = f"kinds[{kind!r}][{word!r}][{owner!r}]"
            groups = _check_groups(where, names, features.get(owner), features)
            if (word == HEADING and len(groups) > 1) or any(len(group) not in fitting for group in groups):
                raise ValueError(f"{where} is {names!r}; expected {hint}")
            found[word][owner] = groups[0] if word == HEADING else groups
    return found if VECTORS in owners else {HEADING: found[HEADING]}


def shared_values(kind: str, groups: Sequence[tuple[str, Sequence[str]]], values: Values) -> list[tuple[str, ...]]:
    """The values that groups of categories have in common, place by place: what they are compared by.

    Args:
        kind: for the message.
        groups: (owner, features), of the same kind.
        values: of the categories.

    Raises:
        ValueError: a feature that is no category stands where others are, or no value is common to all.
    """
    found = []
    for features in zip(*([(owner, name) for name in group] for owner, group in groups), strict=True):
        known = [values.get(owner, {}).get(name) for owner, name in features]
        if any(each is None for each in known):
            names = [f"{owner}.{name}" for owner, name in features]
            raise ValueError(
                f"kinds[{kind!r}] compares {names}, of which only some are categories; declare all or none"
            )
        first, *others = (each for each in known if each is not None)
        common = tuple(value for value in first if all(value in other for other in others))
        if not common:
            names = [f"{owner}.{name}" for owner, name in features]
            raise ValueError(f"kinds[{kind!r}] compares {names}, which have no value in common; name them alike")
        found.append(common)
    return found


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
