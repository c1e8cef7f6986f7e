"""Counterfactual passes: what the policy would have done without an entity, a head, or the map itself.

These are extra forward passes, apart from the one that made the record. All variants of all states go through the
network together. Shapes: S states, N slots, K columns (tokens), L layers, H heads, R variants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from attn_rl.inspection.measure import metrics
from attn_rl.inspection.measure.variants import compare, on_slots
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.inspection.record.outputs import Outputs
from attn_rl.inspection.record.recorder import recorded_tensors

N_PERMUTATIONS = 4
N_RANDOM_ORDERS = 2
SEED = 0


class Effects(dict[str, np.ndarray]):
    """What the counterfactual passes found: name -> array, states first; KL divergences of the policy in nats.

    A name says what the array holds: ``<what>_kl`` per entity (S,N), NaN on absent slots, or per state (S,);
    ``<what>_head_kl`` per head (S,L,H). Summary, record file, pictures and page show whatever is here. What an effect
    does not apply to, or an older file does not hold, is missing.
    """

    def rows(self, chosen: slice) -> Effects:
        """Some of the states."""
        return Effects({name: array[chosen] for name, array in self.items()})

    def of_entities(self) -> dict[str, np.ndarray]:
        """Effects of single entities (S,N), those that are known anywhere."""
        return {name: array for name, array in self.items() if name.endswith("_kl") and _known(array, 2)}

    def of_states(self) -> dict[str, np.ndarray]:
        """Effects of something that is done to a whole state (S,)."""
        return {name: array for name, array in self.items() if name.endswith("_kl") and _known(array, 1)}

    def of_heads(self) -> dict[str, np.ndarray]:
        """Effects of single heads (S,L,H)."""
        return {name: array for name, array in self.items() if name.endswith("_head_kl") and _known(array, 3)}


Effect = Callable[[Actor, AttentionRecord], "np.ndarray | Mapping[str, np.ndarray] | None"]
"""A counterfactual: an array with the states first, several by name where the same passes give them, or None where it
does not apply (to a policy without attention, say)."""


def measure(actor: Actor, record: AttentionRecord, n_curves: int | None = None) -> Effects:
    """Run every counterfactual of ``EFFECTS`` on the recorded states, and the deletion and insertion curves.

    Args:
        actor: the model that the record was made with, unchanged since.
        record: from :func:`attn_rl.record_attention`.
        n_curves: how many states, from the first on, get curves (the others NaN): they are most of the work. None =
            all.

    Raises:
        ValueError: an effect returned something else than arrays with one row per state.
    """
    effects = Effects()
    for name, effect in EFFECTS.items():
        found = effect(actor, record)
        if found is not None:
            effects |= dict(found) if isinstance(found, Mapping) else {name: found}
    for name, array in effects.items():
        if np.shape(array)[:1] != record.present.shape[:1]:
            raise ValueError(
                f"effect {name!r} has shape {np.shape(array)}, expected one row for each of the "
                f"{len(record.present)} states"
            )
    if record.layers and "absence_kl" in effects:
        part = record.rows(slice(n_curves))
        effects["curves"] = np.full((*record.present.shape[:1], 3, 2, part.slot_present.shape[1] + 1), np.nan, "f4")
        effects["curves"][:n_curves] = curves(actor, part, part.entity_map(), effects["absence_kl"][:n_curves])
    return effects


def absence(actor: Actor, record: AttentionRecord) -> dict[str, np.ndarray]:
    """Take entity i out; the softmax renormalises over the rest: what would its absence change?

    Leave one out, Li et al. 2016.

    Returns:
        ``absence_kl`` (S,N), and ``absence_value`` (S,N): the value without entity i minus the value with it.
    """
    states, slots = np.nonzero(record.slot_present)
    keep = torch.as_tensor(np.arange(record.slot_present.shape[1]) != slots[:, None])
    kl, value = compare(actor, record, states, keep=keep)
    return {"absence_kl": on_slots(record, kl), "absence_value": on_slots(record, value)}


def content(actor: Actor, record: AttentionRecord) -> np.ndarray | None:
    """Entity i stays, but its weight x value is zeroed in every layer without renormalising: (S,N).

    "What did it contribute?"
    """
    if not record.layers:
        return None
    states, slots = np.nonzero(record.slot_present)
    columns = torch.as_tensor(np.arange(record.present.shape[1]) == record.lead + slots[:, None])  # (R,K)

    def edit(layer: int, pattern: Tensor, rows: slice) -> Tensor:
        return pattern.masked_fill(columns[rows, None, None].to(pattern.device), 0.0)

    return on_slots(record, compare(actor, record, states, edit=edit)[0])


def dropped_head(actor: Actor, record: AttentionRecord) -> np.ndarray | None:
    """One head zeroed: (S,L,H). Michel et al. 2019."""
    return _heads(actor, record, keep=False) if record.layers else None


def kept_head(actor: Actor, record: AttentionRecord) -> np.ndarray | None:
    """All other heads of its layer zeroed: (S,L,H). Michel et al. 2019."""
    return _heads(actor, record, keep=True) if record.layers else None


def _heads(actor: Actor, record: AttentionRecord, *, keep: bool) -> np.ndarray:
    n_states, n_layers, n_heads = len(record.present), len(record.layers), record.layers[0].pattern.shape[1]
    one = torch.eye(n_heads, dtype=torch.bool).repeat(n_states, 1)  # (S x H, H)
    zeroed = ~one if keep else one
    found = []
    for target in range(n_layers):

        def edit(layer: int, pattern: Tensor, rows: slice, target: int = target) -> Tensor:
            if layer != target:
                return pattern
            return pattern.masked_fill(zeroed[rows, :, None, None].to(pattern.device), 0.0)

        kl, _ = compare(actor, record, np.arange(n_states).repeat(n_heads), edit=edit)
        found.append(kl.reshape(n_states, n_heads))
    return np.stack(found, 1)


def uniform(actor: Actor, record: AttentionRecord) -> np.ndarray | None:
    """Every pattern replaced by equal weights on what is present: (S,). Wiegreffe & Pinter 2019, 3.2."""
    if not record.layers:
        return None
    present = torch.as_tensor(record.present)

    def edit(layer: int, pattern: Tensor, rows: slice) -> Tensor:
        flags = present[rows, None, None].to(pattern)
        return (flags / flags.sum(-1, keepdim=True).clamp(min=1)).expand_as(pattern)

    return compare(actor, record, np.arange(len(present)), edit=edit)[0]


def permuted(actor: Actor, record: AttentionRecord) -> np.ndarray | None:
    """Weights permuted among present columns, alike in all heads and rows: mean over draws (S,).

    Jain & Wallace 2019, 4.2.1. The draws come from a private generator and are the same every time.
    """
    if not record.layers:
        return None
    generator = torch.Generator().manual_seed(SEED)
    states = np.arange(len(record.present)).repeat(N_PERMUTATIONS)
    absent = ~torch.as_tensor(record.present)[states]
    in_order = torch.argsort(absent.int(), dim=-1, stable=True)  # present columns first
    at_random = torch.argsort(torch.rand(absent.shape, generator=generator) + absent * 2.0, dim=-1)
    source = torch.empty_like(in_order).scatter_(-1, in_order, at_random)

    def edit(layer: int, pattern: Tensor, rows: slice) -> Tensor:
        return pattern.gather(-1, source[rows, None, None].to(pattern.device).expand_as(pattern))

    kl, _ = compare(actor, record, states, edit=edit)
    mean: np.ndarray = kl.reshape(-1, N_PERMUTATIONS).mean(-1)
    return mean


def curves(actor: Actor, record: AttentionRecord, score: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """Take entities out, or put them in, in several orders: similarity exp(-KL) after k entities.

    Args:
        actor, record: as for :func:`measure`.
        score: the map under test (S,N): largest first.
        oracle: effect of each entity alone (S,N): largest first.

    Returns:
        (S, order, deletion | insertion, N+1); orders: map, random (mean over draws), leave-one-out oracle.
    """
    present, generator = record.slot_present, torch.Generator().manual_seed(SEED)
    noise = [torch.rand(present.shape, generator=generator).numpy() for _ in range(N_RANDOM_ORDERS)]
    places = np.stack([metrics.ranks(order, present) for order in (score, *noise, oracle)])  # (orders,S,N)
    k = np.arange(present.shape[1] + 1)[:, None]
    keep = np.stack([places[:, :, None] >= k, places[:, :, None] < k], 1)  # (orders,2,S,N+1,N)
    similarity = np.ones(keep.shape[:-1], np.float32)
    changed = ~(keep | ~present[:, None]).all(-1)  # nothing to compute where all entities stay
    kl, _ = compare(actor, record, np.nonzero(changed)[2], keep=torch.as_tensor(keep[changed]))
    similarity[changed] = np.exp(-kl)
    orders = np.stack([similarity[0], similarity[1:-1].mean(0), similarity[-1]])  # (orders,2,S,N+1)
    return orders.transpose(2, 0, 1, 3)


def gradient_attention(actor: Actor, record: AttentionRecord) -> np.ndarray | None:
    """Gradient times attention for the action taken, see :func:`metrics.gradient_attention`: (S,K)."""
    if not record.layers:
        return None
    patterns: list[Tensor] = []

    def edit(layer: int, pattern: Tensor) -> Tensor:
        patterns.append(pattern if pattern.requires_grad else pattern.requires_grad_())
        return patterns[-1]

    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN's LSTM: no gradient in evaluation
        outputs = actor.act(*recorded_tensors(actor, record), edit=edit)
        gradients = torch.autograd.grad(_chosen_logit(outputs).sum(), patterns)
    arrays = [layer.pattern for layer in record.layers]
    return metrics.gradient_attention(arrays, [g.cpu().numpy() for g in gradients], _last_rows(record))


def rollout(actor: Actor, record: AttentionRecord) -> np.ndarray | None:
    """Attention rolled out through the layers, see :func:`metrics.rollout`: (S,K)."""
    return metrics.rollout([layer.pattern for layer in record.layers], _last_rows(record)) if record.layers else None


EFFECTS: dict[str, Effect] = {
    "absence_kl": absence,
    "content_kl": content,
    "uniform_kl": uniform,
    "permuted_kl": permuted,
    "drop_head_kl": dropped_head,
    "keep_head_kl": kept_head,
    "gradient": gradient_attention,
    "rollout": rollout,
}
"""Every counterfactual that is measured. An entry more is all that a new one needs: ``docs/extending.md``."""


def _last_rows(record: AttentionRecord) -> np.ndarray:
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


def _known(array: np.ndarray, axes: int) -> bool:
    return array.ndim == axes and not bool(np.isnan(array).all())
