"""Frames: positions as the ego sees them, from where it stands and along its heading; see ``docs/relations.md``.

A kind of positions that declares a ``heading`` makes a frame. What the network gets are then not the coordinates of a
map, but how far ahead and how far to the left everything is: moving and turning the whole scene changes nothing.

Shapes: B batch, N slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attn_rl.kinds import EGO, HEADING, VECTORS, groups_of

Column = tuple[str, int]
"""Where a feature stands: key of the observation, and column."""


class Frame(NamedTuple):
    """What is seen from the ego.

    Attributes:
        kind: of the positions.
        origin: where the ego stands; None = positions are relative to it already.
        facing: where it faces: an angle in radians, or its cosine and sine; None = along the axes.
        positions, vectors: pairs of columns, which are moved and turned, or turned only.
        headings: of entities, as ``facing``.
    """

    kind: str
    origin: tuple[Column, ...] | None
    facing: tuple[Column, ...] | None
    positions: tuple[tuple[Column, ...], ...]
    vectors: tuple[tuple[Column, ...], ...]
    headings: tuple[tuple[Column, ...], ...]

    @property
    def angles(self) -> tuple[Column, ...]:
        """The headings that are given as an angle: the cosine takes its column, the sine gets one of its own."""
        return tuple(heading[0] for heading in self.headings if len(heading) == 1)

    @property
    def keys(self) -> set[str]:
        """Of the blocks that change."""
        own = (*(self.origin or ()), *(self.facing or ()))
        pairs = (*self.positions, *self.vectors, *self.headings)
        return {key for key, _ in (*own, *(column for pair in pairs for column in pair))}

    def apply(self, blocks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The blocks that change, as float32: everything seen from the ego, its own position and heading zero.

        Args:
            blocks: (B,F) or (B,N,F) by key.
        """
        columns = {key: list(blocks[key].float().unbind(-1)) for key in sorted(self.keys) if key in blocks}

        def read(places: Sequence[Column]) -> list[Tensor]:
            return [columns[key][i] for key, i in places]

        x0, y0 = read(self.origin) if self.origin else (None, None)
        cos, sin = _direction(read(self.facing)) if self.facing else (None, None)
        new: dict[Column, Tensor] = {}
        more: list[tuple[str, Tensor]] = []
        for pair in (*self.positions, *self.vectors):
            x, y = read(pair)
            if x0 is not None and y0 is not None and pair in self.positions:
                x, y = x - _over(x0, x), y - _over(y0, y)
            new |= zip(pair, _turned(x, y, cos, sin), strict=True)
        for heading in self.headings:
            ahead, left = _turned(*_direction(read(heading)), cos, sin)
            new[heading[0]] = ahead
            if len(heading) == 2:
                new[heading[1]] = left
            else:
                more.append((heading[0][0], left))
        for key, i in (*(self.origin or ()), *(self.facing or ())):
            new[key, i] = torch.zeros_like(columns[key][i])
        for (key, i), column in new.items():
            columns[key][i] = column
        for key, column in more:
            columns[key].append(column)
        return {key: torch.stack(found, -1) for key, found in columns.items()}


def frames_of(
    kinds: Mapping[str, Mapping[str, Any]], names: Mapping[str, Sequence[str]], ego: Sequence[str]
) -> tuple[Frame, ...]:
    """The frames that kinds declare.

    Args:
        kinds: checked.
        names: of the columns of every block.
        ego: keys of the 1-D Boxes.
    """

    def places(owner: str, group: Sequence[str]) -> tuple[Column, ...]:
        keys = ego if owner == EGO else (owner,)
        return tuple(next((key, names[key].index(name)) for key in keys if name in names[key]) for name in group)

    found = []
    for kind, owners in kinds.items():
        if HEADING not in owners:
            continue
        own, others = None, [places(EGO, group) for group in owners.get(EGO, ())]
        if others:
            own, *others = others
        facing = {owner: places(owner, group) for owner, group in owners[HEADING].items()}
        things = [places(owner, group) for owner, group in groups_of(owners) if owner != EGO]
        vectors = [places(owner, group) for owner, several in owners.get(VECTORS, {}).items() for group in several]
        headings = [place for owner, place in facing.items() if owner != EGO]
        found.append(Frame(kind, own, facing.get(EGO), (*others, *things), tuple(vectors), tuple(headings)))
    return tuple(found)


def _direction(heading: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Cosine and sine of an angle, or of any vector along the heading; zeros where there is none."""
    if len(heading) == 1:
        return heading[0].cos(), heading[0].sin()
    x, y = heading
    length = (x * x + y * y).sqrt().clamp(min=1e-9)
    return x / length, y / length


def _turned(x: Tensor, y: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor]:
    """How much of a vector points ahead, and how much to the left, of a heading."""
    if cos is None or sin is None:
        return x, y
    cos, sin = _over(cos, x), _over(sin, x)
    return cos * x + sin * y, cos * y - sin * x


def _over(own: Tensor, x: Tensor) -> Tensor:
    """What is the ego's own (B,) beside what the rows of a type have, (B,N), or the ego itself, (B,)."""
    return own.unsqueeze(-1) if x.ndim > own.ndim else own
