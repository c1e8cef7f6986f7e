"""What a network gets of an observation: categories as one column per value, positions as the ego sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from attn_rl.categories import Checked, expand, expanded_names, one_hot_places, refuse_unknown
from attn_rl.entity_types import EntityType
from attn_rl.frames import Frame, frames_of
from attn_rl.kinds import EGO, groups_of, shared_values

if TYPE_CHECKING:
    from attn_rl.entities import EntitySpec


class Expanding:
    """The part of :class:`attn_rl.entities.EntitySpec` that says what becomes of columns."""

    types: tuple[EntityType, ...]
    ego: tuple[tuple[str, tuple[str, ...]], ...]
    kinds: dict[str, dict[str, Any]]
    categories: Checked

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Feature names per key."""
        raise NotImplementedError

    @cached_property
    def expanded(self) -> EntitySpec:
        """The same observation with one column for each value in the place of every category, e.g. ``colour=red``.

        Where positions are seen from the ego, headings have two columns: the sine comes last.
        """
        spec, angles = self._without_categories, [angle for frame in self.frames for angle in frame.angles]
        sines = {key: tuple(f"{names[i]}_sine" for at, i in angles if at == key) for key, names in spec.names.items()}
        return replace(spec, types=tuple(replace(t, features=t.features + sines[t.name]) for t in spec.types))

    @cached_property
    def _without_categories(self) -> EntitySpec:
        return replace(
            cast("EntitySpec", self),
            types=tuple(self._expanded_type(t) for t in self.types),
            ego=tuple((key, expanded_names(features, self.categories.get(key, {}))) for key, features in self.ego),
            kinds={},
            categories={},
        )

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """From where positions are seen, kind by kind; see ``docs/relations.md``."""
        return frames_of(self.kinds, self._without_categories.names, [key for key, _ in self.ego])

    @property
    def computed(self) -> set[str]:
        """Keys of the blocks that :meth:`expand` computes anew, as float32."""
        return set(self.categories).union(*(frame.keys for frame in self.frames))

    def expand(self, blocks: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Put one column per value in the place of every category, and see positions from the ego.

        What comes out is as :attr:`expanded` describes it.

        Args:
            blocks: tensors by key, with a leading batch dimension; of a plain Box, under the name of its type.

        Raises:
            ValueError: a category in a row that is there has a value that it cannot have.
        """
        expanded = {}
        for key, sizes in self._sizes.items():
            if key in blocks:  # where one is missing, whoever takes the observation apart says so
                if not torch.compiler.is_compiling():  # an exported program cannot ask
                    present = next((t.present(blocks) for t in self.types if t.name == key), None)
                    refuse_unknown(key, blocks[key], self.names[key], self.categories[key], present)
                expanded[key] = expand(blocks[key], sizes)
        blocks = {**blocks, **expanded} if expanded else blocks
        for frame in self.frames:
            if frame.keys <= blocks.keys():
                blocks = {**blocks, **frame.apply(blocks)}
        return blocks

    @property
    def one_hot(self) -> dict[str, tuple[int, ...]]:
        """Per entity type, and for the ego: which of its columns, once expanded, belong to categories."""
        found = {t.name: one_hot_places(t.features, self.categories.get(t.name, {})) for t in self.types}
        ego: tuple[int, ...] = ()
        width = 0
        for (key, names), (_, expanded) in zip(self.ego, self.expanded.ego, strict=True):
            ego += tuple(width + place for place in one_hot_places(names, self.categories.get(key, {})))
            width += len(expanded)
        return {owner: places for owner, places in {**found, EGO: ego}.items() if places}

    def common_values(self, kind: str) -> list[tuple[str, ...]]:
        """Of a kind of categories, the values by which its groups are compared, feature by feature; else empty."""
        owners = self.kinds[kind]
        groups = list(groups_of(owners))
        is_category = any(name in self.category_values.get(owner, {}) for owner, group in groups for name in group)
        return shared_values(kind, groups, self.category_values) if is_category else []

    @property
    def category_values(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Names of all values per owner: an entity type, or ``"ego"``."""
        ego = {name: values for key, _ in self.ego for name, values in self.categories.get(key, {}).items()}
        return {**self.categories, EGO: ego}

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, ...]]:
        """Of every key with categories: how many values each column has, 0 = it is a number."""
        return {
            key: tuple(len(values.get(name, ())) for name in self.names[key]) for key, values in self.categories.items()
        }

    def _expanded_type(self, t: EntityType) -> EntityType:
        values, column = self.categories.get(t.name, {}), t.presence_column
        if column is not None:
            column = len(expanded_names(t.features[:column], values))
        return replace(t, features=expanded_names(t.features, values), presence_column=column)
