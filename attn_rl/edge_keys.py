"""What the keys of edges in an observation are called; as in PyTorch Geometric, behind the edge type's name."""

from __future__ import annotations

import re

KEY = re.compile(r"(?:(?P<name>.+)_)?edge_(?P<part>index|attr|mask)")
UNNAMED = "edge"
"""What the edges of ``edge_index``, ``edge_attr`` and ``edge_mask`` are called."""


def is_edge_key(key: str) -> bool:
    """Whether a key of an observation belongs to edges."""
    return KEY.fullmatch(key) is not None
