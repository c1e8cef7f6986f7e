"""What older record files leave out or say in another way; the format itself is unchanged.

NumPy and the standard library only: the page reads records inside the TensorBoard process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

FIRST_EFFECTS = (
    *("absence_kl", "absence_value", "content_kl", "uniform_kl", "permuted_kl", "drop_head_kl", "keep_head_kl"),
    *("gradient", "rollout", "curves"),
)
"""The effects that files hold which do not list them."""


def readout_rows(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> np.ndarray:
    """How much of every row the readout reads (S,K); older files name a row instead, or say -1: all slots present."""
    if "readout_rows" in arrays:
        return arrays["readout_rows"]
    present, lead = arrays["present"], meta["lead"]
    read = np.zeros(present.shape, np.float32)
    if meta["reader"] >= 0:
        read[:, meta["reader"]] = 1
    else:
        read[:, lead:] = present[:, lead:]
    equal_parts: np.ndarray = read / np.maximum(read.sum(-1, keepdims=True), 1)
    return equal_parts


def effect_names(arrays: Iterable[str], meta: Mapping[str, Any]) -> list[str]:
    """Which arrays of a file are effects: those that it lists, or the first ones; one that is missing is no effect."""
    stored = set(arrays)
    return [name for name in meta.get("effects", FIRST_EFFECTS) if name in stored]
