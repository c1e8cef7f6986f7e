"""Structured actions: arguments in order, one for every entity, several of many; see ``docs/actions.md``.

One declaration in plain data says what an action consists of, ``{name: what it is, ...}`` in the order of the choices::

    {"verb": {"choices": ("wait", "attack")},
     "target": {"points_at": "enemies", "when": {"verb": ("attack",)}, "mask": "in_range"}}

It follows from the declaration what the Gymnasium action space is: :func:`action_space`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Actions = Mapping[str, Mapping[str, Any]]
"""Name of an argument -> its fields, see :class:`Argument`; later arguments are chosen later."""
Draw = Literal["set", "ranking", "in_turn"]
DRAWS = ("set", "ranking", "in_turn")
MOST_SET = 64
"""Elements of a set: the probability of one takes (K+1)^2 products per pair of slots."""


@dataclass(frozen=True)
class Argument:
    """One argument of an action. Exactly one of ``choices``, ``points_at`` and ``continuous`` says what is chosen.

    Attributes:
        name: of the argument.
        choices: names of the choices; a number n stands for ``("0", ..., "n-1")``.
        points_at: entity types of whose slots one is chosen; of several types, one after another.
        continuous: so many numbers.
        low, high: bounds of the numbers.
        each: entity type of which every present row has this argument for itself; None = asked once.
        take: choose so many different slots, or fewer where fewer can be chosen; 0 = one slot.
        draw: ``"set"``, ``"ranking"`` (in order, by the same scores) or ``"in_turn"`` (each choice sees those before).
        when: earlier argument -> choices of it with which this one is asked at all.
        sees: earlier arguments whose choice this one depends on; None = all that can be seen from its row.
        mask: key of the observation that says what can be chosen: flags of shape (rows of ``each``, choices of
            ``mask_by``, choices of this), without the axes that do not apply.
        mask_by: earlier argument, whose choice says which flags of ``mask`` hold.
    """

    name: str
    choices: tuple[str, ...] = ()
    points_at: tuple[str, ...] = ()
    continuous: int = 0
    low: float = -1.0
    high: float = 1.0
    each: str | None = None
    take: int = 0
    draw: Draw = "set"
    when: tuple[tuple[str, tuple[int, ...]], ...] = ()
    sees: tuple[str, ...] = ()
    mask: str | None = None
    mask_by: str | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Earlier arguments that this one depends on in any way."""
        own = [*self.sees, *(name for name, _ in self.when), *([self.mask_by] if self.mask_by else [])]
        return tuple(dict.fromkeys(own))

    @property
    def width(self) -> int:
        """Entries of the action per row."""
        return self.continuous or self.take or 1

    def rows(self, capacities: Mapping[str, int]) -> int:
        """How often it is asked at most: once, or for every slot of a type."""
        return 1 if self.each is None else capacities[self.each]

    def size(self, capacities: Mapping[str, int]) -> int:
        """How many choices there are; 0 = it is continuous."""
        return len(self.choices) + sum(capacities[name] for name in self.points_at)

    def shape_of_mask(self, capacities: Mapping[str, int], arguments: Mapping[str, Argument]) -> tuple[int, ...]:
        """Shape of the flags under ``mask``."""
        by = () if self.mask_by is None else (arguments[self.mask_by].size(capacities),)
        rows = () if self.each is None else (capacities[self.each],)
        return (*rows, *by, self.size(capacities))


def read_actions(actions: Actions) -> dict[str, Argument]:
    """Check a declaration; arguments by name, in order.

    Raises:
        ValueError: another form, an unknown field, or fields that do not fit together.
    """
    if not isinstance(actions, Mapping) or not actions or not all(isinstance(v, Mapping) for v in actions.values()):
        raise ValueError(
            f"actions is {actions!r}; expected a mapping of mappings, such as "
            '{"verb": {"choices": 3}, "target": {"points_at": "items"}}'
        )
    found: dict[str, Argument] = {}
    for name, given in actions.items():
        found[str(name)] = _read(str(name), given, found)
    if any(a.each for a in found.values()):
        order = [a.each is not None for a in found.values()]
        if order != sorted(order):
            raise ValueError(f"actions {list(found)}: arguments that are asked once come before those of each entity")
    return found


KNOWN = tuple(f.name for f in fields(Argument) if f.name != "name")


def _read(name: str, given: Mapping[str, Any], before: Mapping[str, Argument]) -> Argument:
    where = f"actions[{name!r}]"
    if unknown := sorted(set(given) - set(KNOWN)):
        raise ValueError(f"{where} has {unknown}; expected some of {list(KNOWN)}")
    kinds = [kind for kind in ("choices", "points_at", "continuous") if given.get(kind)]
    if len(kinds) != 1:
        raise ValueError(f"{where} has {kinds or 'nothing to choose'}; give one of choices, points_at and continuous")
    each = given.get("each")
    visible = [other for other in before.values() if other.each in (None, each)]
    sees = given.get("sees")
    made = Argument(
        name,
        choices=_choices(where, given.get("choices", ())),
        points_at=_names(given.get("points_at", ())),
        continuous=int(given.get("continuous", 0)),
        low=float(given.get("low", -1.0)),
        high=float(given.get("high", 1.0)),
        each=each,
        take=int(given.get("take", 0)),
        draw=given.get("draw", "set"),
        when=tuple((key, _values(where, key, before, values)) for key, values in dict(given.get("when", {})).items()),
        sees=tuple(other.name for other in visible) if sees is None else _names(sees),
        mask=given.get("mask"),
        mask_by=given.get("mask_by"),
    )
    _check(where, made, [other.name for other in visible], before)
    return made


def _check(where: str, made: Argument, visible: Sequence[str], before: Mapping[str, Argument]) -> None:
    for other in made.parents:
        if other not in visible:
            raise ValueError(
                f"{where} depends on {other!r}; expected one of {list(visible)}: earlier arguments that are asked once "
                "or for each of the same entities"
            )
    if made.take and (not made.points_at or made.take < 0 or made.draw not in DRAWS):
        raise ValueError(
            f"{where}: take={made.take}, draw={made.draw!r}; expected points_at, 1 or more, one of {DRAWS}"
        )
    if made.draw == "set" and made.take > MOST_SET:
        raise ValueError(f'{where}: a set of {made.take}; expected at most {MOST_SET}, or draw="ranking"')
    if made.continuous and (made.continuous < 0 or made.mask or not made.low < made.high):
        raise ValueError(
            f"{where}: continuous={made.continuous} from {made.low} to {made.high}, mask={made.mask!r}; "
            "expected 1 or more numbers, low < high and no mask"
        )
    if made.mask_by is not None and (made.mask is None or not _one_choice(before[made.mask_by])):
        raise ValueError(f"{where}: mask_by={made.mask_by!r} needs a mask, and an argument that is one choice")


def _one_choice(argument: Argument) -> bool:
    return not argument.take and not argument.continuous


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _choices(where: str, given: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, int | np.integer):
        return tuple(map(str, range(int(given))))
    names = _names(given)
    if len(set(names)) != len(names):
        raise ValueError(f"{where}: choices {names} are not distinct")
    return names


def _values(where: str, key: str, before: Mapping[str, Argument], values: Any) -> tuple[int, ...]:
    """Choices of an earlier argument as numbers; given by name or by number."""
    names = before[key].choices if key in before else ()
    wanted = values if isinstance(values, list | tuple) else (values,)
    found = tuple(names.index(value) if value in names else value for value in wanted)
    if not names or not all(isinstance(value, int) and 0 <= value < len(names) for value in found):
        raise ValueError(f"{where}: when {key!r} is {wanted}; expected choices of an earlier argument: {list(names)}")
    return found


def mask_keys(actions: Actions | None) -> tuple[str, ...]:
    """Keys of the observation that hold masks: of no interest to whoever looks for entities."""
    return tuple(dict.fromkeys(a.mask for a in read_actions(actions).values() if a.mask)) if actions else ()


def masks_in(space: gym.Space[Any], actions: Actions | None) -> tuple[str, ...]:
    """Those of :func:`mask_keys` that an observation has."""
    return tuple(key for key in mask_keys(actions) if isinstance(space, spaces.Dict) and key in space.spaces)


def types_of(arguments: Mapping[str, Argument]) -> tuple[str, ...]:
    """Entity types that any argument needs."""
    found = [name for a in arguments.values() for name in (*a.points_at, *([a.each] if a.each else []))]
    return tuple(dict.fromkeys(found))


def action_space(actions: Actions, capacities: Mapping[str, int]) -> gym.Space[Any]:
    """The Gymnasium space of a declaration.

    All entries of one argument stand together, row by row; arguments stand in their order. ``Discrete`` where there is
    one entry, ``MultiDiscrete`` where all are discrete, else a ``Box``, in which discrete entries are whole numbers. An
    entry that is not asked for is 0. Of ``take``, an entry is a slot, or the number of slots: nothing.

    Args:
        actions: the declaration.
        capacities: slots per entity type.

    Raises:
        ValueError: the declaration is wrong, or names a type that is not there.
    """
    arguments = read_actions(actions)
    if missing := sorted(set(types_of(arguments)) - set(capacities)):
        raise ValueError(f"actions name {missing}, which are no entity types; choose of {sorted(capacities)}")
    sizes: list[int] = []
    for a in arguments.values():
        sizes += [a.size(capacities) + bool(a.take)] * (a.rows(capacities) * a.width)
    if all(sizes):
        return spaces.Discrete(sizes[0]) if len(sizes) == 1 else spaces.MultiDiscrete(sizes)
    bounds = [
        (a.low, a.high) if a.continuous else (0.0, float(a.size(capacities) - (not a.take)))
        for a in arguments.values()
        for _ in range(a.rows(capacities) * a.width)
    ]
    low, high = np.array(bounds, np.float32).T
    return spaces.Box(low, high, dtype=np.float32)


def split_action(actions: Actions, capacities: Mapping[str, int], action: np.ndarray) -> dict[str, np.ndarray]:
    """Take an action apart: per argument (..., rows, width), without the axes that it does not have.

    Args:
        actions: the declaration.
        capacities: slots per entity type.
        action: as the environment gets it, or a batch of them (..., entries).
    """
    flat = np.asarray(action)
    flat = flat[..., None] if isinstance(action_space(actions, capacities), spaces.Discrete) else flat
    found, start = {}, 0
    for name, a in read_actions(actions).items():
        end = start + a.rows(capacities) * a.width
        part = flat[..., start:end] if a.continuous else flat[..., start:end].astype(np.int64)
        part = part.reshape(*part.shape[:-1], a.rows(capacities), a.width)
        part = part if a.take or a.continuous > 0 else part[..., 0]
        found[name] = part if a.each else np.take(part, 0, axis=flat.ndim - 1)
        start = end
    return found
