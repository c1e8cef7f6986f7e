"""Variants of recorded states, passed through the network together: what would the policy have done?"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from attn_rl.backends.choose import using
from attn_rl.inspection.record.actor import Actor, PatternEdit, take_rows
from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.inspection.record.outputs import Outputs, policy_kl
from attn_rl.inspection.record.recorder import recorded_tensors

MAX_ROWS = 8192
"""Variants in one pass."""


class RowEdit(Protocol):
    """A :class:`PatternEdit` that also gets which of all variants (R,) are being computed."""

    def __call__(self, layer: int, pattern: Tensor, rows: slice) -> Tensor: ...


@torch.no_grad()
def compare(
    actor: Actor,
    record: AttentionRecord,
    states: np.ndarray,
    *,
    keep: Tensor | None = None,
    edit: RowEdit | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pass variants of recorded states through the network; KL from and change of value to the record, both (R,).

    Args:
        actor, record: as for :func:`measure`.
        states: which state each of the R variants is one of (R,).
        keep: boolean (R,N), False = taken out.
        edit: what to do to the patterns of some of the R variants.
    """
    obs, lstm_states = recorded_tensors(actor, record)
    expected = Outputs(torch.as_tensor(record.policy), record.sizes, torch.as_tensor(record.value))
    if edit is not None:  # the modules run with an edited pattern: their rounding shall not count as an effect
        with using(actor.policy, "plain"):
            found = actor.act(obs, lstm_states)
        expected = Outputs(found.policy.cpu(), found.sizes, found.value.cpu())
    kl, value = [torch.zeros(0)], [torch.zeros(0)]
    for start in range(0, len(states), MAX_ROWS):
        rows = slice(start, start + MAX_ROWS)
        chosen = torch.as_tensor(states[rows])
        on_device = chosen.to(actor.policy.device)
        got = actor.act(
            take_rows(obs, on_device),
            None if lstm_states is None else lstm_states[on_device],
            keep=None if keep is None else keep[rows].to(actor.policy.device),
            edit=None if edit is None else _of_rows(edit, rows),
        )
        before = Outputs(expected.policy[chosen], expected.sizes, expected.value[chosen])
        after = Outputs(got.policy.cpu(), got.sizes, got.value.cpu())
        kl.append(policy_kl(before, after))
        value.append(after.value - before.value)
    return torch.cat(kl).numpy(), torch.cat(value).numpy()


def _of_rows(edit: RowEdit, rows: slice) -> PatternEdit:
    return lambda layer, pattern: edit(layer, pattern, rows)


def on_slots(record: AttentionRecord, found: np.ndarray) -> np.ndarray:
    """One number per present slot, state by state -> (S,N), NaN on absent ones."""
    spread = np.full(record.slot_present.shape, np.nan, np.float32)
    spread[record.slot_present] = found
    return spread
