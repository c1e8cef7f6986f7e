"""The numbers in the observations: finite, inside their bounds, of a size that can be learned from, no padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gymnasium import spaces

from attn_rl.entities import ACTION_MASK, EntitySpec
from attn_rl.training.check.report import Finding
from attn_rl.training.check.sample import Sample, rows_of
from attn_rl.vec_envs.expected_blocks import expected_blocks
from attn_rl.vec_envs.observation_form import parts_of

LARGEST = 1e4
"""Greatest absolute value of a feature. The network's normaliser takes care of less: features up to 1000, as in
``AttnRL/Tiles-v0``, train as well as those up to 1."""
SMALLEST = 1e-3
"""Least standard deviation of a feature: a tenth of what the normaliser scales to 1 (its epsilon is 1e-4)."""
MOST_OFFSET = 1e4
"""How many times its spread a feature may lie away from zero: float32 has seven digits."""
SHOWN = 6
"""Names to list of a long list."""
PADDED = 0.2
"""Share of observations with rows of one repeated number from which these are taken for padding."""


def check_values(sample: Sample, spec: EntitySpec, space: spaces.Space[object]) -> list[Finding]:
    """Everything that one look at each number tells."""
    findings = [*impossible(sample, spec, space)]
    findings += [] if any(f.name == "finite" for f in findings) else _padding(sample, spec)
    return [*findings, *_never_there(sample, spec), *_sizes(sample, spec)]


def impossible(sample: Sample, spec: EntitySpec, space: spaces.Space[object]) -> Iterator[Finding]:
    """What stops an agent of ``make_agent`` before it learns."""
    for key, expected in expected_blocks(space, spec).items():
        wrong = expected.broken(sample.blocks[key], sample.blocks)
        if wrong is None:
            continue
        values = sample.blocks[key]
        for name, places in (("finite", wrong & ~np.isfinite(values)), ("bounds", wrong & np.isfinite(values))):
            if places.any():
                yield _describe(name, key, values, places, spec, parts_of(space)[key])


def _describe(
    name: str, key: str, values: np.ndarray, places: np.ndarray, spec: EntitySpec, part: spaces.Space[object]
) -> Finding:
    place = tuple(np.argwhere(places)[0].tolist())
    share = f"in {places.reshape(len(places), -1).any(1).mean():.1%} of the observations"
    what = f"{_naming(key, place[1:], spec)} is {values[place]:g}"
    if key == ACTION_MASK:
        return Finding("error", "mask", f"{what}, expected 0 or 1 ({share})", "give 1 for a valid choice, 0 otherwise")
    if key in {edge_type.index_key for edge_type in spec.edges}:
        return Finding(
            "error", "edges", f"{what}, which is no slot ({share})", "count slots from 0; -1 stands for no edge"
        )
    if key in {*(t.presence_key for t in spec.types), *(t.mask_key for t in spec.edges)}:
        advice = "give 1 for what exists, 0 otherwise"
        return Finding("error", "presence", f"{what}, expected 0 or 1 ({share})", advice)
    if name == "finite":
        advice = "give a number; where the entity is not there, clear its flag in <type>_present instead"
        return Finding("error", name, f"{what} ({share})", advice)
    low, high = (bound[place[1:]] for bound in (part.low, part.high))  # type: ignore[attr-defined]
    reached = f"values from {values[places].min():g} to {values[places].max():g} {share}"
    advice = "widen the Box to what occurs, or clip the feature"
    return Finding("error", name, f"{what}, outside [{low:g}, {high:g}] ({reached})", advice)


def _naming(key: str, place: tuple[int, ...], spec: EntitySpec) -> str:
    owner = spec.types[0].name if spec.plain else key
    names = spec.names.get(owner)
    if names is None:
        return f"{key}{list(place)}"
    return f"feature {names[place[-1]]!r} of {owner}" + (f" {place[0]}" if len(place) == 2 else "")


def _padding(sample: Sample, spec: EntitySpec) -> Iterator[Finding]:
    """Rows that repeat one number and are nevertheless said to be there."""
    for entity_type in spec.types:
        x, present = rows_of(spec, sample.blocks)[entity_type.name]
        if entity_type.width - len(spec.categories.get(entity_type.name, ())) < 2:  # names that repeat are no padding
            continue
        flat = (x == x[..., :1]).all(-1) & present
        values, counts = np.unique(x[..., 0][flat], return_counts=True)
        if not len(values):
            continue
        value = values[counts.argmax()]
        share = (flat & (x[..., 0] == value)).any(1).mean()
        if share >= PADDED:
            name = entity_type.name
            has_flags = entity_type.presence_key is not None or entity_type.presence_column is not None
            what = f"{share:.0%} of the observations hold rows of {name} that are {value:g} throughout, like padding"
            advice = "clear their flags where nothing is there" if has_flags else _flags_to_add(spec, name)
            yield Finding("warning", "padding", f"{what}, and are said to be there", advice)


def _flags_to_add(spec: EntitySpec, name: str) -> str:
    if spec.plain:
        return "add a column that is 1 where something is there, and name it: presence="
    return f"add {name}_present, MultiBinary({spec.capacities[name]}): 1 where something is there"


def _never_there(sample: Sample, spec: EntitySpec) -> Iterator[Finding]:
    for name, (_, present) in rows_of(spec, sample.blocks).items():
        if not present.any():
            what = f"{name}: not one was there in any of {len(present)} observations"
            yield Finding("warning", "empty", what, f"check {name}_present, 1 = there, or leave {name} out")


def _sizes(sample: Sample, spec: EntitySpec) -> Iterator[Finding]:
    constant: dict[str, list[str]] = {}
    sizes: list[str] = []
    offsets: list[str] = []
    for owner, names, columns in _columns(sample, spec):
        for name, values in zip(names, columns.T, strict=True):
            values = values[np.isfinite(values)].astype(float)
            if len(values) < 2:
                continue
            if np.ptp(values) > 0:
                largest, mean, spread = np.abs(values).max(), values.mean(), values.std()
                if abs(mean) > MOST_OFFSET * spread:
                    offsets.append(f"{owner}.{name} is {mean:.6g} give or take {spread:.2g}")
                elif largest > LARGEST:
                    sizes.append(f"{owner}.{name} reaches {largest:.3g}")
                elif spread < SMALLEST:
                    sizes.append(f"{owner}.{name} varies by {spread:.1g}")
            elif len(names) > 1:  # entities that merely exist have one constant feature
                constant.setdefault(f"{owner} (always {values[0]:g})", []).append(name)
    if sizes:
        what = f"features are far from 1: {', '.join(sizes)}"
        yield Finding("warning", "scale", what, "divide each by a typical value: use another unit")
    if offsets:
        what = f"float32 rounds away most of what changes: {', '.join(offsets)}"
        yield Finding("warning", "offset", what, "subtract the constant part, e.g. give the time since the reset")
    if constant:
        groups = [f"{of}: {_listed(them)}" for of, them in constant.items()]
        what = f"features that never changed: {'; '.join(groups)}"
        yield Finding(
            "warning", "constant", what, "leave them out, unless they change more rarely than this sample shows"
        )


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= SHOWN + 1 else [*names[:SHOWN], f"and {len(names) - SHOWN} more"]
    return ", ".join(shown)


def _columns(sample: Sample, spec: EntitySpec) -> Iterator[tuple[str, tuple[str, ...], np.ndarray]]:
    """Per type and per ego key: name, feature names, (rows, features) of what is there."""
    for name, (x, present) in rows_of(spec, sample.blocks).items():
        yield name, spec.features[name], x[present]
    for key, names in spec.ego:
        yield key, names, sample.blocks[key]
