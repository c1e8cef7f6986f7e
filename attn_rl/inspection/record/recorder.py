"""Recording attention: the weights of the very pass that computed the action and the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from attn_rl.inspection.record.actor import Actor, Observation
from attn_rl.inspection.record.attention_record import AttentionRecord, LayerRecord
from attn_rl.inspection.record.outputs import Outputs
from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.relations.named import Strength
from attn_rl.sb3.structured.figures import pointing


@dataclass
class CapturedPass:
    """What went through the acting extractor inside :func:`capture_pass`; one entry per layer and pass."""

    inputs: list[Tensor] = field(default_factory=list)
    present: list[Tensor] = field(default_factory=list)
    patterns: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)


def record_attention(
    model: BaseAlgorithm | BasePolicy | Actor, obs: Observation, lstm_states: np.ndarray | None = None
) -> AttentionRecord:
    """Compute action and value of ``obs`` in one forward pass and return everything that it showed.

    Args:
        model: any Stable-Baselines3 model (or policy) with an extractor of this package. Like ``predict``, it is put
            into evaluation mode. No random number is drawn.
        obs: one observation or a batch, as ``model.predict`` takes it.
        lstm_states: of a recurrent policy, ``next_lstm_states`` of the record of the step before; None = an episode
            begins.

    Returns:
        The record, with a leading axis S also for a single observation.

    Raises:
        ValueError: the policy has no extractor of this package, or its way from features to actions is not known.
    """
    actor = model if isinstance(model, Actor) else Actor(model)
    tensors = actor.tensors(obs)
    states = actor.lstm_tensors(lstm_states, len(next(iter(_blocks(tensors).values()))))
    with torch.no_grad(), capture_pass(actor) as captured:
        outputs = actor.act(tensors, states)
    record = make_record(actor, tensors, outputs, captured)
    return record if states is None else replace(record, lstm_states=to_array(states))


@contextmanager
def capture_pass(actor: Actor) -> Iterator[CapturedPass]:
    """Keep what goes through the acting extractor; outside of this block nothing is attached to the network."""
    captured = CapturedPass()

    def on_pattern(pattern: Tensor, tokens: Tensor, present: Tensor) -> None:
        captured.inputs.append(tokens.detach())
        captured.present.append(present.detach())
        captured.patterns.append(pattern.detach())

    handles = [module.tap.observe(on_pattern) for module in actor.attention]
    handles.append(
        actor.extractor.register_forward_hook(lambda module, inputs, out: captured.features.append(out.detach()))
    )
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def make_record(
    actor: Actor, obs: dict[str, Tensor] | Tensor, outputs: Outputs, captured: CapturedPass
) -> AttentionRecord:
    """Put together what was captured during exactly one pass.

    Raises:
        ValueError: more or fewer passes were captured, or a pattern does not cover all tokens.
    """
    passes = len(captured.features)
    if passes != 1 or len(captured.patterns) != len(actor.attention):
        raise ValueError(
            f"captured {passes} passes and {len(captured.patterns)} patterns of {len(actor.attention)} layers; a "
            "record holds one pass: open `capture_pass` around a single forward call"
        )
    network = actor.extractor.network
    lead = network.order.lead if isinstance(network, AttentionNetwork) else ()
    layers = [_layer(*parts) for parts in zip(actor.attention, captured.patterns, captured.inputs, strict=True)]
    labels = lead + actor.spec.slot_labels
    present = captured.present[-1] if captured.present else _presence(actor, obs)
    if present.shape[-1] != len(labels):
        raise ValueError(f"the pattern covers {present.shape[-1]} tokens, the observation has {len(labels)}: {labels}")
    return AttentionRecord(
        obs={key: block.cpu().numpy() for key, block in _blocks(obs).items()},
        layers=layers,
        labels=labels,
        lead=len(lead),
        present=to_array(present),
        readout_rows=to_array(network.readout_rows(present) if actor.attention else torch.zeros(present.shape)),
        features=to_array(captured.features[0]),
        policy=to_array(outputs.policy),
        sizes=outputs.sizes,
        value=to_array(outputs.value),
        pointer=_pointer(actor, outputs),
        feature_names=actor.spec.names,
        categories=actor.spec.categories,
        strengths=_strengths(network) if actor.attention else (),
        next_lstm_states=None if outputs.lstm_states is None else to_array(outputs.lstm_states),
        **_along_edges(actor, obs, captured.patterns),
        **_pointing(actor, outputs),
    )


def patterns_record(actor: Actor, captured: CapturedPass) -> AttentionRecord:
    """A record of a pass that somebody else made: its patterns and presence, everything else empty."""
    patterns_only = replace(captured, inputs=[tokens[:, :0] for tokens in captured.inputs])
    nothing = torch.zeros(len(captured.features[0]), 0)
    return make_record(actor, {}, Outputs(nothing, (), torch.full((len(nothing),), torch.nan)), patterns_only)


def recorded_tensors(actor: Actor, record: AttentionRecord) -> tuple[dict[str, Tensor] | Tensor, Tensor | None]:
    """What was recorded as fresh tensors on the model's device: the observation, and the states of a recurrent one."""
    blocks = {key: torch.tensor(block, device=actor.policy.device) for key, block in record.obs.items()}
    states = actor.lstm_tensors(record.lstm_states, len(record.present))
    return blocks[""] if set(blocks) == {""} else blocks, states


def _blocks(obs: dict[str, Tensor] | Tensor) -> Mapping[str, Tensor]:
    return obs if isinstance(obs, Mapping) else {"": obs}


def _layer(module: MultiHeadAttention, pattern: Tensor, tokens: Tensor) -> LayerRecord:
    values = module.w_v(tokens).unflatten(-1, (module.n_heads, -1)).transpose(1, 2)  # (S,H,K,d)
    w_o = module.w_o.weight.unflatten(1, (module.n_heads, -1))  # (D,H,d)
    transformed = torch.einsum("shkd,ohd->shko", values, w_o)
    return LayerRecord(to_array(pattern), to_array(values), to_array(transformed.norm(dim=-1)), to_array(tokens))


def _strengths(network: nn.Module) -> tuple[Strength, ...]:
    return tuple(network.strengths()) if isinstance(network, AttentionNetwork) else ()


def _along_edges(actor: Actor, obs: dict[str, Tensor] | Tensor, patterns: list[Tensor]) -> dict[str, Any]:
    """How much of every head's weight lies along the edges of each type, and how much would if all were equal."""
    network: Any = actor.extractor.network
    if not isinstance(network, AttentionNetwork) or network.edges is None or not _blocks(obs):
        return {}
    split = actor.spec.split(obs)
    joined = network.edges.adjacency(split.entities, split.edges)
    present = network.order.presence(split.entities)
    equal = (present.float() / present.sum(1, keepdim=True).clamp(min=1))[:, None, None]
    followed = [torch.stack([_share(pattern, pairs) for pairs in joined.values()], -1) for pattern in patterns]
    reachable = torch.cat([_share(equal.expand(-1, 1, pairs.shape[1], -1), pairs) for pairs in joined.values()], -1)
    return {
        "edge_types": tuple(joined),
        "followed": to_array(torch.stack(followed, 1)),
        "reachable": to_array(reachable),
    }


def _share(pattern: Tensor, pairs: Tensor) -> Tensor:
    """Mean weight (S,H) that a pattern (S,H,Q,K) has on pairs (S,K,K), of the queries that have one; NaN without."""
    pairs = pairs[:, : pattern.shape[2]]
    asks = pairs.any(-1).unsqueeze(1)
    weight = (pattern * pairs.unsqueeze(1)).sum(-1)
    return (weight * asks).sum(-1) / asks.sum(-1)


def _presence(actor: Actor, obs: dict[str, Tensor] | Tensor) -> Tensor:
    return torch.cat([present for _, present in actor.spec.split(obs).entities.values()], 1)


def _pointer(actor: Actor, outputs: Outputs) -> np.ndarray | None:
    """Probability of pointing, per slot of all types; zero for the types that cannot be pointed at."""
    actions = getattr(getattr(actor.policy, "action_net", None), "actions", None)
    if actions is None or actions.pointer is None or not outputs.sizes:
        return None
    start = sum(outputs.sizes[: actions.pointer])
    chosen = outputs.policy[:, start : start + outputs.sizes[actions.pointer]].exp()
    capacities = actor.spec.capacities
    parts = [
        chosen if name == actor.extractor.pointer else chosen.new_zeros(len(chosen), n)
        for name, n in capacities.items()
    ]
    return to_array(torch.cat(parts, 1))


def _pointing(actor: Actor, outputs: Outputs) -> dict[str, Any]:
    """Of structured actions: what is chosen, and who points at whom."""
    if outputs.structured is None:
        return {}
    found, labels = pointing(outputs.structured, actor.spec.capacities)
    told = {"chosen": to_array(outputs.structured.mode()), "pointing_labels": labels}
    return told if found is None else told | {"pointing": to_array(found)}


def to_array(x: Tensor) -> np.ndarray:
    """A copy on the CPU that nothing else writes to."""
    return x.detach().cpu().numpy().copy()
