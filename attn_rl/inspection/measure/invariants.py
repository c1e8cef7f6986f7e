"""Two numbers that must be zero: is the record what was used, and does padding have no influence?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.inspection.record.recorder import capture_pass, recorded_tensors, to_array
from attn_rl.sb3.extractor import FeatureLayout
from attn_rl.sb3.structured.layout import StructuredLayout


@torch.no_grad()
def replay_error(actor: Actor, record: AttentionRecord) -> float:
    r"""How far recorded weights times recorded values, through the rest of the network, are from what was recorded.

    .. math:: \max_y \frac{\max |y_{replayed} - y|}{\max(1, \max |y|)}

    over y = features, policy parameters and value. Every layer's mixed values (what W_O receives) are replaced by
    ``pattern @ values`` of the record, so a wrong weight, a wrong order or a weight from another pass shows. The
    remainder is the rounding of float32, which grows with the numbers: hence relative to them.
    """
    device = actor.policy.device
    handles = []
    for module, layer in zip(actor.attention, record.layers, strict=True):
        mixed = torch.as_tensor(layer.pattern @ layer.values, device=device).transpose(1, 2).flatten(2)
        handles.append(module.w_o.register_forward_pre_hook(lambda m, inputs, mixed=mixed: (mixed,)))
    try:
        with capture_pass(actor) as captured:
            outputs = actor.act(*recorded_tensors(actor, record))
    finally:
        for handle in handles:
            handle.remove()
    layout = actor.extractor.layout
    recorded = torch.as_tensor(record.features, device=device)
    seen, told = (_of_present(x, layout) for x in (captured.features[0], recorded))
    pairs = [(seen, to_array(told)), (outputs.policy, record.policy), (outputs.value, record.value)]
    return max(_relative(to_array(got), expected) for got, expected in pairs)


@torch.no_grad()
def absent_leak(actor: Actor, record: AttentionRecord) -> float:
    """What absent rows do to the outcome: exactly 0, or something is broken.

    The largest weight on an absent column, or the largest change of policy and value when absent rows, and edges that
    do not exist, are filled with NaN instead of what they held, whichever is larger.
    """
    weights = [float((layer.pattern * ~record.present[:, None, None]).max(initial=0.0)) for layer in record.layers]
    (clean, states), (filled, _) = recorded_tensors(actor, record), recorded_tensors(actor, record)
    split = actor.spec.split(clean)
    for entity_type in actor.spec.types:
        block = filled[entity_type.name] if isinstance(filled, dict) else filled
        absent = ~split.entities[entity_type.name][1].unsqueeze(-1).expand_as(block).clone()
        if entity_type.presence_column is not None:
            absent[..., entity_type.presence_column] = False
        block[absent] = torch.nan
    for edge_type in actor.spec.edges:
        if edge_type.attr_key is not None and edge_type.mask_key is not None:
            filled[edge_type.attr_key][~(filled[edge_type.mask_key] > 0.5)] = torch.nan  # type: ignore[index]
    before, after = actor.act(clean, states), actor.act(filled, states)
    changes = [
        float((a - b).abs().nan_to_num(nan=torch.inf).max())
        for a, b in ((before.policy, after.policy), (before.value, after.value))
        if not bool(b.isnan().all() and a.isnan().all())
    ]
    return max([*weights, *changes])


def _of_present(features: Tensor, layout: FeatureLayout) -> Tensor:
    """Features in which the tokens of absent slots are zero: nobody reads them, and only the modules compute them."""
    if isinstance(layout, StructuredLayout):
        return features  # they are zero there
    tokens, present, _ = layout.extras(features[:, layout.readout :])
    n_tokens = layout.readout + layout.n_slots * layout.d_token
    return torch.cat(
        [features[:, : layout.readout], (tokens * present.unsqueeze(-1)).flatten(1), features[:, n_tokens:]], -1
    )


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    if np.isnan(expected).all() and np.isnan(got).all():
        return 0.0
    finite = np.where(np.abs(expected) < 1e30, expected, 0.0)  # a forbidden logit is -3e38 on both sides
    difference = np.abs(np.where(got == expected, 0.0, got - expected)).max(initial=0.0)
    return float(difference / max(1.0, np.abs(finite).max(initial=0.0)))
