"""In which order tokens stand: stated here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

EGO, QUERY = "ego", "query"


class TokenOrder(NamedTuple):
    """A learned query first, then the ego, then the entities, type by type.

    Attributes:
        lead: what stands before the entities: :data:`QUERY` and :data:`EGO`, where there are such.
        types: the entity types.
    """

    lead: tuple[str, ...]
    types: tuple[str, ...]

    @classmethod
    def of(cls, types: Sequence[str], *, query: bool, ego: bool) -> TokenOrder:
        """The order of these."""
        return cls((QUERY,) * query + (EGO,) * ego, tuple(types))

    def join(self, lead: Mapping[str, Tensor], types: Sequence[Tensor]) -> Tensor:
        """Concatenate the rows (B,n,...) of each owner; a single part is not copied."""
        parts = [*(lead[owner] for owner in self.lead), *types]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def presence(self, entities: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Which tokens are there, boolean (B,N): those before the entities always are."""
        present = [there for _, there in entities.values()]
        return pad(present[0] if len(present) == 1 else torch.cat(present, 1), (len(self.lead), 0), value=True)

    def part_of(self, owner: str) -> int:
        """Which part of the order ``owner`` is."""
        return self.lead.index(owner) if owner in self.lead else len(self.lead) + self.types.index(owner)

    def starts(self, slots: Sequence[int]) -> list[int]:
        """The first row of every part, where type *t* has ``slots[t]`` rows."""
        starts = [*range(len(self.lead) + 1)]
        for n in slots:
            starts.append(starts[-1] + n)
        return starts
