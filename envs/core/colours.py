"""Colours that can be told apart: points of a lattice in the RGB cube."""

from __future__ import annotations

import numpy as np

from .types import FloatArray


def lattice(levels: int) -> FloatArray:
    """Return the (levels**3, 3) float64 colours with ``levels`` evenly spaced values per channel, in [0, 1].

    Raises:
        ValueError: unless 2 <= levels <= 7.
    """
    if not 2 <= levels <= 7:
        raise ValueError(f"levels={levels}; expected 2 to 7 values per colour channel")
    axis = np.arange(levels) / (levels - 1)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def check_colours(n_needed: int, levels: int) -> None:
    """Check that the lattice has enough colours.

    Raises:
        ValueError: where it has not, with the number of levels that would do.
    """
    if n_needed > levels**3:
        raise ValueError(
            f"{n_needed} different colours are needed, levels={levels} gives {levels**3}; "
            "pass more levels (up to 7: 343 colours) or fewer entities"
        )
