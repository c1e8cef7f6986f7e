"""Whether the order of the slots says something: a policy that sees a set cannot know it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from attn_rl.entities import EntitySpec
from attn_rl.training.check.report import Finding
from attn_rl.training.check.sample import Sample, rows_of

FEWEST_SORTED, FEWEST_COMPARED = 5, 16
"""First observations that are needed to call an order one, and to compare slots."""
DRAWS = 50
"""Random orders that the slots' averages are compared with."""
SIGMAS, SIGMAS_OF_OTHERS = 8.0, 4.0
"""From so many standard deviations above those, slots are said to differ; and so are the others of one that does."""


class Order(NamedTuple):
    """What the slots' numbers say.

    Attributes:
        words: for the schema.
        slot: the one slot that differs from all others; None: there is none.
    """

    words: str
    slot: int | None = None


def slot_orders(sample: Sample, spec: EntitySpec) -> dict[str, Order]:
    """Per entity type with more than one slot, judged by the first observations of episodes."""
    random = np.random.default_rng(0)
    rows = rows_of(spec, sample.firsts())
    several = [name for name, capacity in spec.capacities.items() if capacity > 1]
    return {name: _order(*rows[name], spec.features[name], random) for name in several}


def check_slots(orders: dict[str, Order]) -> Iterator[Finding]:
    """A slot that is something of its own must say so in a feature."""
    for name, order in orders.items():
        if order.slot is not None:
            what = f"slot {order.slot} of {name} is not like the others: its number tells what it is"
            row = "move it into a 1-D Box (the ego), give it a type of its own, or a feature that marks it"
            yield Finding("warning", "slots", f"{what}, and a policy that sees a set cannot know it", row)


def _order(x: np.ndarray, present: np.ndarray, names: tuple[str, ...], random: np.random.Generator) -> Order:
    if present.sum(1).max(initial=0) < 2:
        return Order("never two there when an episode begins")
    if not np.isfinite(x[present]).all():
        return Order("not judged, some features are no numbers")
    if direction := _sorted_by(x, present, names):
        return Order(f"sorted by {direction}; the policy does not see the order, nor need it")
    if len(x) < FEWEST_COMPARED:
        return Order("too few episodes to say whether their order tells anything")
    differing = _differing_slot(x, present, random)
    if differing is None:
        return Order("in no order")
    others = np.arange(x.shape[1]) != differing
    x, present = x[:, others], present[:, others]
    if _sorted_by(x, present, names) or _differing_slot(x, present, random, SIGMAS_OF_OTHERS) is None:
        return Order(f"slot {differing} is unlike the others", differing)
    return Order("their order tells something, and the policy does not see it; say what matters in features")


def _sorted_by(x: np.ndarray, present: np.ndarray, names: tuple[str, ...]) -> str | None:
    """The feature, or length of two neighbouring features, by whose value the present rows are sorted."""
    pairs = [f"the length of ({a}, {b})" for a, b in pairwise(names)]
    keys = np.concatenate([x, np.hypot(x[..., :-1], x[..., 1:])], -1)
    up, down = [], []
    for values in (key[there] for key, there in zip(keys, present, strict=True) if there.sum() >= 3):
        steps = np.diff(values, axis=0)
        up.append((steps >= 0).all(0) & (steps != 0).any(0))
        down.append((steps <= 0).all(0) & (steps != 0).any(0))
    if len(up) < FEWEST_SORTED:
        return None
    for flags, way in ((up, "upwards"), (down, "downwards")):
        if (always := np.all(flags, axis=0)).any():
            return f"{[*names, *pairs][int(always.argmax())]}, {way}"
    return None


def _differing_slot(
    x: np.ndarray, present: np.ndarray, random: np.random.Generator, least: float = SIGMAS
) -> int | None:
    """The slot whose averages are furthest from what chance gives; None: chance explains all of them."""
    if present.shape[1] < 2:
        return None
    x = np.where(present[..., None], x, 0.0)
    x = x / np.maximum(x.std((0, 1)), 1e-12)
    got = _means(x, present)
    drawn = []
    for _ in range(DRAWS):
        keys = np.where(present, random.random(present.shape), np.inf)
        order = np.argsort(keys, axis=1)  # present rows in random order ...
        place = np.argsort(~present, axis=1, kind="stable")  # ... into the slots that hold one
        mixed = np.empty_like(x)
        np.put_along_axis(mixed, place[..., None], np.take_along_axis(x, order[..., None], 1), 1)
        drawn.append(_means(mixed, present))
    centre, spread = np.mean(drawn, 0), np.std(drawn, 0)
    sigmas = np.abs(got - centre) / np.maximum(spread, 1e-9)
    sigmas[np.abs(got - centre) < 1e-6] = 0
    return None if sigmas.max() < least else int(sigmas.max(1).argmax())


def _means(x: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(N,F): averages over the observations in which a slot holds something."""
    means: np.ndarray = (x * present[..., None]).sum(0) / np.maximum(present.sum(0), 1)[:, None]
    return means
