"""How far back a policy looks: what a record says of remembered entities, by their age.

Shapes: S states, N slots, A ages.
"""

from __future__ import annotations

import numpy as np

from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.wrappers.memory.age import FIRST_NAME


def slot_ages(record: AttentionRecord) -> np.ndarray | None:
    """How many steps ago each slot's entity was seen (S,N): 0 is now; None where nothing is remembered."""
    columns, remembers = [], False
    for key, features in record.feature_names.items():
        block = record.obs.get(key)
        if block is None or block.ndim != 3:
            continue
        ages = np.zeros(block.shape[:2], int)
        if FIRST_NAME in features:
            remembers = True
            ages = np.rint(np.expm1(block[..., features.index(FIRST_NAME)])).astype(int)
        columns.append(ages)
    ages = np.concatenate(columns, axis=1) if columns else np.zeros((0, 0), int)
    return ages if remembers and ages.shape == record.slot_present.shape else None


def by_age(values: np.ndarray, ages: np.ndarray, present: np.ndarray) -> np.ndarray:
    """What slots (S,N) have together, by their age (S,A): column a is of a steps ago.

    Args:
        values: of the slots, a weight or an effect.
        ages: of the slots, from :func:`slot_ages`.
        present: which slots hold something.
    """
    states = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
    found = np.zeros((len(values), int(ages.max(initial=0, where=present)) + 1))
    np.add.at(found, (states[present], ages[present]), np.nan_to_num(values)[present])
    return found
