"""Gymnasium's infos of a vector environment, one dict of arrays, as SB3's: a list of dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attn_rl.wrappers.base import Info


def infos_by_row(infos: Mapping[str, Any], rows: np.ndarray, without: Sequence[str] = ()) -> list[Info]:
    """Turn Gymnasium's dict of arrays with presence masks (``_key``) into one dict for each row."""
    result: list[Info] = [{} for _ in rows]
    for key, values in infos.items():
        mask = infos.get(f"_{key}")
        if mask is None or key in without:
            continue
        if isinstance(values, Mapping):
            parts: Sequence[object] = infos_by_row(values, rows)
        else:
            parts = values[rows].tolist() if values.ndim == 1 else list(values[rows])
        for info, part, told in zip(result, parts, mask[rows].tolist(), strict=True):
            if told:
                info[key] = part
    return result
