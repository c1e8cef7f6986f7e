"""Random declarations, scenes and heads, and all the actions that are legal in them, found by loops."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from attn_rl.actions import Argument, read_actions
from attn_rl.sb3.structured.distribution import StructuredDistribution
from attn_rl.sb3.structured.head import HeadAndScene, StructuredHead
from attn_rl.sb3.structured.layout import Scene

D_TOKEN, D_LATENT = 5, 7
NAMES = ("first", "second", "third")


class Layout:
    """As much of a layout as a head asks for."""

    def __init__(self, actions: dict[str, Any], capacities: dict[str, int]) -> None:
        self.arguments, self.capacities, self.d_token = read_actions(actions), capacities, D_TOKEN


def random_actions(draw: random.Random) -> tuple[dict[str, Any], dict[str, int]]:
    """A declaration of one to three arguments without numbers, and slots per type."""
    capacities = {"enemies": draw.randint(1, 4), "units": draw.randint(1, 3)}
    each_from = draw.randint(0, 3)
    actions: dict[str, Any] = {}
    for place, name in enumerate(NAMES[: draw.randint(1, 3)]):
        given: dict[str, Any] = {"each": "units"} if place >= each_from else {}
        kind = draw.choice(("choices", "choices", "points_at", "take"))
        if kind == "choices":
            given["choices"] = draw.randint(1, 3)
        else:
            given["points_at"] = draw.choice(("enemies", "units", ("units", "enemies")))
            if kind == "take":
                given |= {"take": draw.randint(1, 3), "draw": draw.choice(("set", "ranking", "in_turn"))}
        before = [other for other, fields in actions.items() if fields.get("each") in (None, given.get("each"))]
        single = [other for other in before if "take" not in actions[other]]
        by_number = [other for other in single if "choices" in actions[other]]
        if by_number and draw.random() < 0.5:
            parent = draw.choice(by_number)
            given["when"] = {parent: (draw.randrange(actions[parent]["choices"]),)}
        if draw.random() < 0.3:
            given["sees"] = draw.sample(before, draw.randint(0, len(before)))
        if draw.random() < 0.5:
            given["mask"] = f"{name}_mask"
            if single and draw.random() < 0.5:
                given["mask_by"] = draw.choice(single)
        actions[name] = given
    return actions, capacities


def random_scene(layout: Layout, draw: random.Random, batch: int = 1) -> Scene:
    """Random tokens and flags; rows, and all that a mask allows, may be missing altogether."""
    generator = torch.Generator().manual_seed(draw.randrange(1 << 30))

    def flags(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) < draw.choice((0.0, 0.6, 0.8, 1.0))

    counts, masks = layout.capacities, {}
    for argument in layout.arguments.values():
        if argument.mask:
            masks[argument.mask] = flags(batch, *argument.shape_of_mask(counts, layout.arguments))
    return Scene(
        torch.randn(batch, D_LATENT, generator=generator),
        {name: torch.randn(batch, n, D_TOKEN, generator=generator) for name, n in counts.items()},
        {name: flags(batch, n) for name, n in counts.items()},
        masks,
    )


def random_case(seed: int, most: int = 500) -> tuple[StructuredHead, Scene, list[tuple[int, ...]]]:
    """A head with loud weights, a scene, and its legal actions; ``most`` of them at most."""
    draw = random.Random(seed)
    while True:
        layout: Any = Layout(*random_actions(draw))
        torch.manual_seed(draw.randrange(1 << 30))
        head = StructuredHead(layout, D_LATENT)
        for part in head.heads:
            torch.nn.init.normal_(part.out.weight, std=0.25)
        scene = random_scene(layout, draw)
        found = list(itertools.islice(legal_actions(layout, scene), most + 1))
        if len(found) <= most:
            return head, scene, found


def repeated(scene: Scene, n: int) -> Scene:
    """A scene of batch 1, n times."""

    def many(parts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x.expand(n, *x.shape[1:]) for name, x in parts.items()}

    return Scene(scene.latent.expand(n, -1), many(scene.tokens), many(scene.present), many(scene.masks))


def in_double(head: StructuredHead, scene: Scene) -> tuple[StructuredHead, Scene]:
    """The same in float64, in which nothing but a wrong formula keeps a sum from 1."""

    def more(parts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x.double() if x.is_floating_point() else x for name, x in parts.items()}

    exact = Scene(scene.latent.double(), more(scene.tokens), scene.present, more(scene.masks))
    return copy.deepcopy(head).double(), exact


def distribution(head: StructuredHead, scene: Scene) -> StructuredDistribution:
    return StructuredDistribution().proba_distribution(HeadAndScene(head, scene))


def legal_actions(layout: Layout, scene: Scene) -> Iterator[tuple[int, ...]]:
    """All legal actions in a scene of batch 1."""
    for chosen in _from(list(layout.arguments.values()), {}, layout, scene):
        yield tuple(entry for rows in chosen.values() for row in rows for entry in row)


def _from(arguments: list[Argument], chosen: dict[str, Any], layout: Layout, scene: Scene) -> Iterator[dict[str, Any]]:
    if not arguments:
        yield chosen
        return
    argument = arguments[0]
    rows = [_of_row(argument, row, chosen, layout, scene) for row in range(argument.rows(layout.capacities))]
    for values in itertools.product(*rows):
        yield from _from(arguments[1:], {**chosen, argument.name: values}, layout, scene)


def _of_row(argument: Argument, row: int, chosen: dict[str, Any], layout: Layout, scene: Scene) -> list[tuple]:
    nothing = argument.size(layout.capacities)
    if not is_asked(argument, row, chosen, layout, scene):
        return [(nothing,) * argument.take if argument.take else (0,)]
    there = [True] * len(argument.choices) + [bool(x) for name in argument.points_at for x in scene.present[name][0]]
    if argument.mask:
        flags = scene.masks[argument.mask][0]
        flags = flags[row] if argument.each else flags
        if argument.mask_by:
            flags = flags[_row_of(argument.mask_by, row, chosen)[0]]
        there = [a and bool(b) for a, b in zip(there, flags, strict=True)]
    options = [i for i, flag in enumerate(there) if flag]
    if not argument.take:
        return [(i,) for i in options] or [(0,)]
    n = min(argument.take, len(options))
    several = itertools.combinations(options, n) if argument.draw == "set" else itertools.permutations(options, n)
    return [(*found, *[nothing] * (argument.take - n)) for found in several]


def is_asked(argument: Argument, row: int, chosen: dict[str, Any], layout: Layout, scene: Scene) -> bool:
    if argument.each and not scene.present[argument.each][0, row]:
        return False
    return all(
        _row_of(name, row, chosen)[0] in values and is_asked(layout.arguments[name], row, chosen, layout, scene)
        for name, values in argument.when
    )


def _row_of(name: str, row: int, chosen: dict[str, Any]) -> tuple[int, ...]:
    return chosen[name][row if len(chosen[name]) > 1 else 0]
