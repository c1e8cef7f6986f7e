"""Recording attention: the weights of the very pass that computed the action and the value.

Shapes: S states, L layers, H heads, Q query rows, K columns (tokens: the reader and other leading tokens, then all
slots), N slots, D d_model, d = D / H.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from attn_rl.inspection.acting import Actor, Observation, Outputs
from attn_rl.nn.attention import MultiHeadAttention

POOLED = -1


@dataclass
class Layer:
    """What one attention layer computed.

    Attributes:
        pattern: weights (S,H,Q,K); rows sum to 1.
        values: value vectors before W_O (S,H,K,d).
        value_norm: length of each value vector after its head's part of W_O (S,H,K).
        tokens: rows that entered the layer, normalised (S,K,D).
    """

    pattern: np.ndarray
    values: np.ndarray
    value_norm: np.ndarray
    tokens: np.ndarray


@dataclass
class AttentionRecord:
    """Everything one forward pass of a policy showed; plain NumPy arrays.

    Attributes:
        obs: the observation, key by key, with leading S ("" where it is a bare array).
        layers: one entry per attention layer; none for a policy without attention.
        labels: what the K columns are: ``("ego", "items 0", ...)``.
        lead: columns before the first slot (ego, learned query).
        reader: the query row that is read out, or ``POOLED`` (-1): the mean or maximum of the present slots' rows.
        present: boolean (S,K).
        features: the extractor's output (S,F).
        policy: log-probabilities (S, sum of ``sizes``), or Gaussian means and log standard deviations (S,2A).
        sizes: choices per action dimension; empty = continuous.
        value: (S,), NaN where the model has none.
        pointer: (S,N) probability of pointing at each slot; None without a pointer head.
        feature_names: names of the features per observation key.
    """

    obs: dict[str, np.ndarray]
    layers: list[Layer]
    labels: tuple[str, ...]
    lead: int
    reader: int
    present: np.ndarray
    features: np.ndarray
    policy: np.ndarray
    sizes: tuple[int, ...]
    value: np.ndarray
    pointer: np.ndarray | None = None
    feature_names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def slot_present(self) -> np.ndarray:
        """Presence of the slots alone (S,N)."""
        return self.present[:, self.lead :]

    @property
    def slot_labels(self) -> tuple[str, ...]:
        """Labels of the slots alone."""
        return self.labels[self.lead :]

    @property
    def probabilities(self) -> np.ndarray:
        """Action probabilities (S, sum of sizes); empty (S,0) for continuous actions."""
        return np.exp(self.policy) if self.sizes else self.policy[:, :0]

    @property
    def action(self) -> np.ndarray:
        """The deterministic action as ``predict`` gives it before clipping: (S,) or (S, dimensions)."""
        if not self.sizes:
            return self.policy[:, : self.policy.shape[-1] // 2]
        parts = np.split(self.policy, np.cumsum(self.sizes)[:-1], axis=-1)
        chosen = np.stack([part.argmax(-1) for part in parts], -1)
        return chosen[:, 0] if len(self.sizes) == 1 else chosen

    def readout(self, layer: int = -1) -> np.ndarray:
        """The weights of the row that is read out (S,H,K); of pooled rows, their mean over present slots."""
        pattern = self.layers[layer].pattern
        if self.reader != POOLED:
            return pattern[:, :, self.reader]
        rows = pattern[:, :, self.lead :]
        weight = self.slot_present[:, None, :, None]
        return (rows * weight).sum(2) / np.maximum(weight.sum(2), 1)

    def entity_map(self, layer: int = -1) -> np.ndarray:
        """The map people look at: readout weights on the slots, averaged over heads (S,N)."""
        return self.readout(layer)[..., self.lead :].mean(1)

    def value_map(self, layer: int = -1) -> np.ndarray:
        """Weight times length of the transformed value, per head (S,H,K); see :func:`metrics.value_weighted`."""
        return self.readout(layer) * self.layers[layer].value_norm


@dataclass
class _Heard:
    inputs: list[Tensor] = field(default_factory=list)
    present: list[Tensor] = field(default_factory=list)
    patterns: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    extractor_present: list[Tensor] = field(default_factory=list)


def record_attention(model: BaseAlgorithm | BasePolicy | Actor, obs: Observation) -> AttentionRecord:
    """Compute action and value of ``obs`` in one forward pass and return everything that it showed.

    Args:
        model: any Stable-Baselines3 model (or policy) with an extractor of this package. Like ``predict``, it is put
            into evaluation mode. No random number is drawn.
        obs: one observation or a batch, as ``model.predict`` takes it.

    Returns:
        The record, with a leading axis S also for a single observation.

    Raises:
        ValueError: the policy has no extractor of this package.
    """
    actor = model if isinstance(model, Actor) else Actor(model)
    tensors = actor.tensors(obs)
    with torch.no_grad(), listening(actor) as heard:
        outputs = actor.act(tensors)
    return make_record(actor, tensors, outputs, heard)


@contextmanager
def listening(actor: Actor) -> Iterator[_Heard]:
    """Note what passes through the acting extractor; outside of this block nothing is attached to the network."""
    heard = _Heard()

    def on_attention(module: nn.Module, inputs: tuple) -> None:
        heard.inputs.append(inputs[1].detach())
        heard.present.append(inputs[2].detach())

    handles = [m.register_forward_pre_hook(on_attention) for m in actor.attention]
    handles += [
        m.tap.register_forward_hook(lambda module, inputs, pattern: heard.patterns.append(pattern.detach()))
        for m in actor.attention
    ]
    handles.append(
        actor.extractor.register_forward_hook(lambda module, inputs, out: heard.features.append(out.detach()))
    )
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def make_record(actor: Actor, obs: dict[str, Tensor] | Tensor, outputs: Outputs, heard: _Heard) -> AttentionRecord:
    """Put together what was heard during exactly one pass.

    Raises:
        ValueError: more or fewer passes were heard, or a pattern does not cover all tokens.
    """
    passes = len(heard.features)
    if passes != 1 or len(heard.patterns) != len(actor.attention):
        raise ValueError(
            f"heard {passes} passes and {len(heard.patterns)} patterns of {len(actor.attention)} layers; a record "
            "holds one pass: open `listening` around a single forward call"
        )
    network = actor.extractor.network
    lead = getattr(network, "n_lead", 0) if actor.attention else 0
    layers = [_layer(*parts) for parts in zip(actor.attention, heard.patterns, heard.inputs, strict=True)]
    labels = _lead_labels(actor, lead) + actor.spec.slot_labels
    present = heard.present[-1] if heard.present else _presence(actor, obs)
    if present.shape[-1] != len(labels):
        raise ValueError(f"the pattern covers {present.shape[-1]} tokens, the observation has {len(labels)}: {labels}")
    blocks = obs if isinstance(obs, Mapping) else {"": obs}
    return AttentionRecord(
        obs={key: block.cpu().numpy() for key, block in blocks.items()},
        layers=layers,
        labels=labels,
        lead=lead,
        reader=POOLED if getattr(network, "pooling", None) is not None else 0,
        present=to_array(present),
        features=to_array(heard.features[0]),
        policy=to_array(outputs.policy),
        sizes=outputs.sizes,
        value=to_array(outputs.value),
        pointer=_pointer(actor, outputs),
        feature_names=actor.spec.names,
    )


def observation_tensors(actor: Actor, record: AttentionRecord) -> dict[str, Tensor] | Tensor:
    """The recorded observation as fresh tensors on the model's device."""
    blocks = {key: torch.tensor(block, device=actor.policy.device) for key, block in record.obs.items()}
    return blocks[""] if set(blocks) == {""} else blocks


def _layer(module: MultiHeadAttention, pattern: Tensor, tokens: Tensor) -> Layer:
    values = module.w_v(tokens).unflatten(-1, (module.n_heads, -1)).transpose(1, 2)  # (S,H,K,d)
    w_o = module.w_o.weight.unflatten(1, (module.n_heads, -1))  # (D,H,d)
    transformed = torch.einsum("shkd,ohd->shko", values, w_o)
    return Layer(to_array(pattern), to_array(values), to_array(transformed.norm(dim=-1)), to_array(tokens))


def _lead_labels(actor: Actor, lead: int) -> tuple[str, ...]:
    query = getattr(actor.extractor.network, "query", None)
    return ((("query",) if query is not None else ()) + ("ego",))[:lead]


def _presence(actor: Actor, obs: dict[str, Tensor] | Tensor) -> Tensor:
    return torch.cat([present for _, present in actor.spec.split(obs).entities.values()], 1)


def _pointer(actor: Actor, outputs: Outputs) -> np.ndarray | None:
    """Probability of pointing, per slot of all types; zero for the types that cannot be pointed at."""
    actions = getattr(getattr(actor.policy, "action_net", None), "actions", None)
    if actions is None or actions.pointer is None:
        return None
    start = sum(outputs.sizes[: actions.pointer])
    chosen = outputs.policy[:, start : start + outputs.sizes[actions.pointer]].exp()
    capacities = actor.spec.capacities
    parts = [
        chosen if name == actor.extractor.pointer else chosen.new_zeros(len(chosen), n)
        for name, n in capacities.items()
    ]
    return to_array(torch.cat(parts, 1))


def to_array(x: Tensor) -> np.ndarray:
    """A copy on the CPU that nothing else writes to."""
    return x.detach().cpu().numpy().copy()
