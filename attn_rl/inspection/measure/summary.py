"""From arrays to the numbers and sentences that people read."""

from __future__ import annotations

import numpy as np

from attn_rl.inspection.measure import metrics
from attn_rl.inspection.measure.effects import Effects
from attn_rl.inspection.record.attention_record import AttentionRecord, known_mean

UNKNOWN = np.array([np.nan])
POINTER_VERDICT = (
    "actions point at entities: the readout's row is NO explanation of the choice; "
    "read the pointer's probabilities or the absence effect"
)


def scalars(record: AttentionRecord, effects: Effects, relevant: np.ndarray) -> dict[str, float]:
    """Every scalar of a set of states; ``docs/tensorboard.md`` lists them. Unknown ones are left out.

    Args:
        record: the recorded pass.
        effects: its counterfactuals.
        relevant: (S,) slot of the entity that matters, -1 = unknown.
    """
    found = _effect_scalars(record, effects, relevant)
    if record.layers:
        found |= map_scalars(record, relevant) | _agreement(record, effects) | _head_scalars(record, effects, relevant)
        found |= {f"attention_relations/{s.name}/{_head_name(s.layer, s.head)}": s.value for s in record.strengths}
        found |= _edge_scalars(record)
    return {tag: value for tag, value in found.items() if not np.isnan(value)}


def map_scalars(record: AttentionRecord, relevant: np.ndarray, prefix: str = "attention") -> dict[str, float]:
    """What can be said from one pass alone, without any counterfactual."""
    readout, entity_map = record.readout(), record.entity_map()
    present = record.slot_present
    found = {
        f"{prefix}/entropy": metrics.mean(metrics.entropy(readout, record.present[:, None])),
        f"{prefix}/largest": metrics.mean(metrics.largest(readout)),
        f"{prefix}/mass_on_relevant": metrics.mean(metrics.mass_on(entity_map, relevant)),
        f"{prefix}/top1_relevant": metrics.mean(metrics.top1(entity_map, relevant, present)),
    }
    for owner, columns in owners(record).items():
        found[f"{prefix}/mass/{owner}"] = metrics.mean(readout[..., columns].sum(-1))
    return found


def live_scalars(record: AttentionRecord) -> dict[str, float]:
    """What one acting pass of a rollout says."""
    found = map_scalars(record, np.full(len(record.present), -1), "attention_live")
    leaks = [float((layer.pattern * ~record.present[:, None, None]).max(initial=0.0)) for layer in record.layers]
    found["attention_live/absent_leak"] = max(leaks)
    return {tag: value for tag, value in found.items() if not np.isnan(value)}


def owners(record: AttentionRecord) -> dict[str, np.ndarray]:
    """Columns of every leading token and entity type: {"ego": [0], "items": [1, 2, ...]}."""
    names = [label.rsplit(" ", 1)[0] for label in record.labels]
    return {name: np.flatnonzero([n == name for n in names]) for name in dict.fromkeys(names)}


def compared(record: AttentionRecord) -> str:
    """What each head compares most, and which edges it follows: ``"compares most: head 1: cue = colour, 69; ..."``."""
    depth = "layer {}, " if len(record.layers) > 1 else ""
    parts = [f"{depth.format(layer + 1)}head {head + 1}: {s.short}" for (layer, head), s in record.compared().items()]
    follows = record.follows().items()
    found = [f"compares most: {'; '.join(parts)}"] if parts else []
    shares = ((where, f.name, f"{f.weight:.0%} of its weight (equal weights: {f.equal:.0%})") for where, f in follows)
    parts = [f"{depth.format(layer + 1)}head {head + 1}: {name}, {share}" for (layer, head), name, share in shares]
    return ". ".join([*found, *([f"follows most: {'; '.join(parts)}"] if parts else [])])


def verdicts(record: AttentionRecord, effects: Effects) -> list[str]:
    """What to believe about this record, in plain words, worst news first."""
    found: list[str] = []
    if not record.layers:
        return ["this policy has no attention: absence effects only"]
    if record.pointer is not None:
        found.append(POINTER_VERDICT)
    uniform = metrics.mean(effects.get("uniform_kl", UNKNOWN))
    if uniform < metrics.UNUSED_BELOW:
        found.append(f"map not used by the policy (uniform_kl {uniform:.4f} < {metrics.UNUSED_BELOW} nats)")
        return found
    agreement = _agreement(record, effects).get("attention/agreement_absence", np.nan)
    if np.isnan([uniform, agreement]).any():
        return found
    if agreement < 0.7:
        found.append(f"map and absence effect name the same entity in only {agreement:.0%} of states: trust the effect")
    elif record.pointer is None:
        found.append(f"map is used (uniform_kl {uniform:.2f} nats); agrees with the absence effect in {agreement:.0%}")
    return found


def _effect_scalars(record: AttentionRecord, effects: Effects, relevant: np.ndarray) -> dict[str, float]:
    present = record.slot_present
    is_relevant = (np.arange(present.shape[1])[None] == relevant[:, None]) & present
    others = present & ~is_relevant & (relevant >= 0)[:, None]
    effects_of_any = effects.of_entities() | effects.of_states()
    found = {f"attention/{name}": metrics.mean(effect) for name, effect in effects_of_any.items()}
    if (absence := effects.get("absence_kl")) is not None:
        found |= {
            "attention/absence_kl_relevant": metrics.mean(absence[is_relevant]),
            "attention/absence_kl_others": metrics.mean(absence[others]),
            "attention/absence_top1_relevant": metrics.mean(metrics.top1(absence, relevant, present)),
        }
    if record.pointer is not None:
        found["attention/pointer_top1_relevant"] = metrics.mean(metrics.top1(record.pointer, relevant, present))
    if len(record.layers) > 1:  # with a single layer both are its map again
        for name in ("gradient", "rollout"):
            if name in effects:
                hits = metrics.top1(effects[name][:, record.lead :], relevant, present)
                found[f"attention/{name}_top1_relevant"] = metrics.mean(hits)
    return found | _curve_scalars(effects, present)


def _curve_scalars(effects: Effects, present: np.ndarray) -> dict[str, float]:
    found: dict[str, float] = {}
    for column, name in enumerate(("deletion", "insertion") if "curves" in effects else ()):
        sign = 1 - 2 * (1 - column)  # a good order takes similarity away early, or brings it early
        curves = effects["curves"][:, :, column].transpose(1, 0, 2)  # (orders,S,N+1)
        areas = [sign * metrics.mean(metrics.curve_area(curve, present)) for curve in curves]
        found[f"attention/{name}"] = metrics.scaled(*areas)
    return found


def _agreement(record: AttentionRecord, effects: Effects) -> dict[str, float]:
    """How often the map's first entity is also that of an effect."""
    present, entity_map = record.slot_present, record.entity_map()
    weighted = record.value_map()[..., record.lead :].sum(1)
    found: dict[str, float] = {}
    for name, effect in effects.of_entities().items():
        tag, blamed = f"attention/agreement_{name.removesuffix('_kl')}", metrics.top_slot(effect, present)
        found[tag] = metrics.mean(metrics.top1(entity_map, blamed, present))
        found[f"{tag}_value_weighted"] = metrics.mean(metrics.top1(weighted, blamed, present))
    return found


def _head_name(layer: int, head: int) -> str:
    return f"layer{layer + 1}_head{head + 1}"


def _edge_scalars(record: AttentionRecord) -> dict[str, float]:
    if record.followed is None:
        return {}
    shares = known_mean(record.followed)  # (L,H,T)
    return {
        f"attention_edges/{name}/{_head_name(layer, head)}": float(shares[layer, head, i])
        for i, name in enumerate(record.edge_types)
        for layer, head in np.ndindex(shares.shape[:2])
    }


def _head_scalars(record: AttentionRecord, effects: Effects, relevant: np.ndarray) -> dict[str, float]:
    found: dict[str, float] = {}
    for layer in range(len(record.layers)):
        readout = record.readout(layer)
        entropies = metrics.entropy(readout, record.present[:, None])
        on_relevant = metrics.mass_on(readout[..., record.lead :], relevant)
        for head in range(readout.shape[1]):
            name = _head_name(layer, head)
            found |= {
                f"attention_heads/entropy/{name}": metrics.mean(entropies[:, head]),
                f"attention_heads/largest/{name}": metrics.mean(metrics.largest(readout[:, head])),
                f"attention_heads/mass_on_relevant/{name}": metrics.mean(on_relevant[:, head]),
            }
            for effect, values in effects.of_heads().items():
                tag = effect.removesuffix("_head_kl")
                found[f"attention_heads/{tag}_kl/{name}"] = metrics.mean(values[:, layer, head])
    return found
