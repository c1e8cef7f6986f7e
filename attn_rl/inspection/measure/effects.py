"""Counterfactual passes: what the policy would have done without an entity, a head, or the map itself.

These are extra forward passes, apart from the one that made the record. All variants of all states go through the
network together. Shapes as in :mod:`attn_rl.inspection.record.recorder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from attn_rl.inspection.measure import metrics
from attn_rl.inspection.record.actor import Actor, PatternEdit, take_rows
from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.inspection.record.outputs import Outputs, policy_kl
from attn_rl.inspection.record.recorder import recorded_tensors

N_PERMUTATIONS = 4
N_RANDOM_ORDERS = 2
MAX_ROWS = 8192


class RowEdit(Protocol):
    """A :class:`PatternEdit` that is also told which of all variants (R,) are being computed."""

    def __call__(self, layer: int, pattern: Tensor, rows: slice) -> Tensor: ...


@dataclass
class Effects:
    """What the counterfactual passes found; KL divergences of the policy in nats, NaN on absent slots.

    Attributes:
        absence_kl: (S,N) entity i taken out of the observation; the softmax renormalises over the rest. "What would
            its absence change?" (leave one out, Li et al. 2016).
        absence_value: (S,N) value without entity i minus value with it.
        content_kl: (S,N) entity i stays, but its weight x value is zeroed in every layer without renormalising. "What
            did it contribute?"
        uniform_kl: (S,) every pattern replaced by equal weights on what is present (Wiegreffe & Pinter 2019, 3.2).
        permuted_kl: (S,) every pattern's weights permuted among present columns, mean over 4 draws (Jain & Wallace
            2019, 4.2.1).
        drop_head_kl: (S,L,H) one head zeroed (Michel et al. 2019).
        keep_head_kl: (S,L,H) all other heads of its layer zeroed.
        gradient: (S,K) gradient times attention, see :func:`metrics.gradient_attention`.
        rollout: (S,K) see :func:`metrics.rollout`.
        curves: similarity exp(-KL) after k entities, (order, deletion | insertion, S, N+1); orders: map, random
            (mean over draws), leave-one-out oracle.
    """

    absence_kl: np.ndarray
    absence_value: np.ndarray
    content_kl: np.ndarray
    uniform_kl: np.ndarray
    permuted_kl: np.ndarray
    drop_head_kl: np.ndarray
    keep_head_kl: np.ndarray
    gradient: np.ndarray
    rollout: np.ndarray
    curves: np.ndarray

    def rows(self, chosen: slice) -> Effects:
        """Some of the states."""
        arrays = {name: array[chosen] for name, array in vars(self).items() if name != "curves"}
        return Effects(**arrays, curves=self.curves[:, :, chosen])


def measure(actor: Actor, record: AttentionRecord, seed: int = 0, n_curves: int | None = None) -> Effects:
    """Run every counterfactual on the recorded states.

    Args:
        actor: the model that the record was made with, unchanged since.
        record: from :func:`attn_rl.record_attention`.
        seed: of the random permutations and orders; drawn from a private generator.
        n_curves: how many states, from the first on, get deletion and insertion curves (the others NaN): they are
            most of the work. None = all.
    """
    generator = torch.Generator().manual_seed(seed)
    absence, absence_value = removal(actor, record)
    n_states, n_slots = record.slot_present.shape
    n_columns, n_layers = record.present.shape[1], len(record.layers)
    n_heads = record.layers[0].pattern.shape[1] if n_layers else 0
    heads = np.zeros((2, n_states, n_layers, n_heads), np.float32)
    content = np.full((n_states, n_slots), np.nan, np.float32)
    uniform_kl, permuted_kl = np.full((2, n_states), np.nan, np.float32)
    gradient, rolled = np.full((2, n_states, n_columns), np.nan, np.float32)
    found_curves = np.full((3, 2, n_states, n_slots + 1), np.nan, np.float32)
    if n_layers:
        content = content_removal(actor, record)
        uniform_kl, permuted_kl = uniform(actor, record), permuted(actor, record, generator)
        heads = np.stack([head_importance(actor, record, keep=keep) for keep in (False, True)])
        some = slice(n_curves)
        part = record.rows(some)
        found_curves[:, :, some] = curves(actor, part, part.entity_map(), absence[some], generator)
        gradient = gradient_attention(actor, record)
        rolled = metrics.rollout([layer.pattern for layer in record.layers], reader_rows(record))
    return Effects(
        absence_kl=absence,
        absence_value=absence_value,
        content_kl=content,
        uniform_kl=uniform_kl,
        permuted_kl=permuted_kl,
        drop_head_kl=heads[0],
        keep_head_kl=heads[1],
        gradient=gradient,
        rollout=rolled,
        curves=found_curves,
    )


def removal(actor: Actor, record: AttentionRecord) -> tuple[np.ndarray, np.ndarray]:
    """Take out one entity at a time: KL and change of value, both (S,N), NaN on absent slots."""
    states, slots = np.nonzero(record.slot_present)
    keep = torch.as_tensor(np.arange(record.slot_present.shape[1]) != slots[:, None])
    kl, value = _compare(actor, record, states, keep=keep)
    return _spread(record, kl), _spread(record, value)


def content_removal(actor: Actor, record: AttentionRecord) -> np.ndarray:
    """Zero one entity's weight x value at a time, everywhere: KL (S,N), NaN on absent slots."""
    states, slots = np.nonzero(record.slot_present)
    columns = torch.as_tensor(np.arange(record.present.shape[1]) == record.lead + slots[:, None])  # (R,K)

    def edit(layer: int, pattern: Tensor, rows: slice) -> Tensor:
        return pattern.masked_fill(columns[rows, None, None].to(pattern.device), 0.0)

    return _spread(record, _compare(actor, record, states, edit=edit)[0])


def head_importance(actor: Actor, record: AttentionRecord, *, keep: bool) -> np.ndarray:
    """Zero one head at a time, or all heads of its layer but this one: KL (S,L,H)."""
    n_states, n_layers, n_heads = len(record.present), len(record.layers), record.layers[0].pattern.shape[1]
    one = torch.eye(n_heads, dtype=torch.bool).repeat(n_states, 1)  # (S x H, H)
    zeroed = ~one if keep else one
    found = []
    for target in range(n_layers):

        def edit(layer: int, pattern: Tensor, rows: slice, target: int = target) -> Tensor:
            if layer != target:
                return pattern
            return pattern.masked_fill(zeroed[rows, :, None, None].to(pattern.device), 0.0)

        kl, _ = _compare(actor, record, np.arange(n_states).repeat(n_heads), edit=edit)
        found.append(kl.reshape(n_states, n_heads))
    return np.stack(found, 1)


def uniform(actor: Actor, record: AttentionRecord) -> np.ndarray:
    """Replace every pattern by equal weights on what is present: KL (S,)."""
    present = torch.as_tensor(record.present)

    def edit(layer: int, pattern: Tensor, rows: slice) -> Tensor:
        flags = present[rows, None, None].to(pattern)
        return (flags / flags.sum(-1, keepdim=True).clamp(min=1)).expand_as(pattern)

    return _compare(actor, record, np.arange(len(present)), edit=edit)[0]


def permuted(actor: Actor, record: AttentionRecord, generator: torch.Generator) -> np.ndarray:
    """Permute the weights among present columns, the same way in all heads and rows: mean KL over draws (S,)."""
    states = np.arange(len(record.present)).repeat(N_PERMUTATIONS)
    absent = ~torch.as_tensor(record.present)[states]
    in_order = torch.argsort(absent.int(), dim=-1, stable=True)  # present columns first
    at_random = torch.argsort(torch.rand(absent.shape, generator=generator) + absent * 2.0, dim=-1)
    source = torch.empty_like(in_order).scatter_(-1, in_order, at_random)

    def edit(layer: int, pattern: Tensor, rows: slice) -> Tensor:
        return pattern.gather(-1, source[rows, None, None].to(pattern.device).expand_as(pattern))

    kl, _ = _compare(actor, record, states, edit=edit)
    return kl.reshape(-1, N_PERMUTATIONS).mean(-1)


def curves(
    actor: Actor, record: AttentionRecord, score: np.ndarray, oracle: np.ndarray, generator: torch.Generator
) -> np.ndarray:
    """Take entities out, or put them in, in several orders: similarity exp(-KL), see :class:`Effects`.

    Args:
        actor, record: as for :func:`measure`.
        score: the map under test (S,N): largest first.
        oracle: effect of each entity alone (S,N): largest first.
        generator: of the random orders.
    """
    present = record.slot_present
    noise = [torch.rand(present.shape, generator=generator).numpy() for _ in range(N_RANDOM_ORDERS)]
    places = np.stack([metrics.ranks(order, present) for order in (score, *noise, oracle)])  # (orders,S,N)
    k = np.arange(present.shape[1] + 1)[:, None]
    keep = np.stack([places[:, :, None] >= k, places[:, :, None] < k], 1)  # (orders,2,S,N+1,N)
    similarity = np.ones(keep.shape[:-1], np.float32)
    changed = ~(keep | ~present[:, None]).all(-1)  # nothing to compute where all entities stay
    kl, _ = _compare(actor, record, np.nonzero(changed)[2], keep=torch.as_tensor(keep[changed]))
    similarity[changed] = np.exp(-kl)
    return np.stack([similarity[0], similarity[1:-1].mean(0), similarity[-1]])


def gradient_attention(actor: Actor, record: AttentionRecord) -> np.ndarray:
    """Gradient times attention for the action taken, see :func:`metrics.gradient_attention`: (S,K)."""
    patterns: list[Tensor] = []

    def edit(layer: int, pattern: Tensor) -> Tensor:
        patterns.append(pattern if pattern.requires_grad else pattern.requires_grad_())
        return patterns[-1]

    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN's LSTM: no gradient in evaluation
        outputs = actor.act(*recorded_tensors(actor, record), edit=edit)
        gradients = torch.autograd.grad(_chosen_logit(outputs).sum(), patterns)
    arrays = [layer.pattern for layer in record.layers]
    return metrics.gradient_attention(arrays, [g.cpu().numpy() for g in gradients], reader_rows(record))


def reader_rows(record: AttentionRecord) -> np.ndarray:
    """How much of each row that the last layer computed is read (S,Q)."""
    return record.readout_rows[:, : record.layers[-1].pattern.shape[2]]


def _chosen_logit(outputs: Outputs) -> Tensor:
    """Logit of the likeliest action above the mean of the allowed ones; Gaussian: half the squared mean."""
    if not outputs.sizes:
        return 0.5 * outputs.policy.chunk(2, -1)[0].square().sum(-1)
    total = torch.zeros(())
    for logits in outputs.policy.split(outputs.sizes, -1):
        allowed = logits > -1e30
        centre = logits.masked_fill(~allowed, 0.0).sum(-1) / allowed.sum(-1)
        total = total + logits.amax(-1) - centre
    return total


@torch.no_grad()
def _compare(
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


def _spread(record: AttentionRecord, found: np.ndarray) -> np.ndarray:
    """One number per present slot -> (S,N), NaN on absent ones."""
    spread = np.full(record.slot_present.shape, np.nan, np.float32)
    spread[record.slot_present] = found
    return spread
