"""A policy as the C++ runtime reads it: one safetensors file, whose metadata says how the tensors are put together.

The other side is ``runtime/attn_rl.hpp``: whoever changes a key here changes it there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from safetensors.torch import save
from torch import Tensor, nn

from attn_rl.deployment.description import KEY, describe
from attn_rl.deployment.exportable import ExportablePolicy, NotExportable, sizes_of
from attn_rl.nn.baselines import DeepSetsStage
from attn_rl.nn.readout import PoolingStage, ReadoutStage
from attn_rl.nn.stages import (
    ActivationStage,
    BlockStage,
    KindStage,
    LayerStage,
    LinearStage,
    NetworkStage,
    NormStage,
    Opaque,
    RelationStage,
    ScalingStage,
    TokenStage,
    stage_of,
    stages_of,
)
from attn_rl.regular_files import refuse_to_replace
from attn_rl.sb3.action_head import EntityActionHead, HeadInputs
from attn_rl.sb3.extractor import EntityExtractor

NETWORKS: tuple[type[NetworkStage | DeepSetsStage], ...] = (NetworkStage, DeepSetsStage)

Json = Any
"""Numbers, words, lists and dictionaries; a tensor is the name under which the file has it."""


def write_weights(exportable: ExportablePolicy, path: Path) -> None:
    """Write ``policy.safetensors``.

    Raises:
        NotExportable: a part that the runtime cannot compute; the message names it.
        IrregularFile: ``path`` is a link, a folder or a device.
    """
    refuse_to_replace(path)
    tensors = Tensors()
    try:
        program = tensors.policy(exportable)
    except Opaque as opaque:
        raise NotExportable(
            f"the C++ runtime computes attn_rl's own parts only; {opaque}. Export to ONNX or torch.export instead"
        ) from None
    metadata = {KEY: json.dumps(describe(exportable)), "program": json.dumps(program, ensure_ascii=False)}
    path.write_bytes(save(tensors.found, metadata))


class Tensors:
    """Collects tensors under the names by which the description speaks of them.

    Attributes:
        found: float32, by name.
    """

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def add(self, tensor: Tensor | None) -> str | None:
        """Keep a copy; None stays None."""
        if tensor is None:
            return None
        name = f"t{len(self.found)}"
        self.found[name] = tensor.detach().to("cpu", torch.float32).clone().contiguous()
        return name

    # ---- the policy ----

    def policy(self, exportable: ExportablePolicy) -> Json:
        """Inputs, networks, heads and actions."""
        policy = exportable.policy
        extractors = [policy.pi_features_extractor]
        if not policy.share_features_extractor:
            extractors.append(policy.vf_features_extractor)
        return {
            "inputs": self._inputs(exportable),
            "networks": [self.network(extractor, f"features_extractor {i}") for i, extractor in enumerate(extractors)],
            "heads": self._heads(policy),
            "actions": self._actions(exportable),
        }

    def _inputs(self, exportable: ExportablePolicy) -> Json:
        """Where an observation has the ego's features, and the rows of every type; which of them are categories."""
        spec = exportable.spec
        if spec.frames:
            kinds = ", ".join(frame.kind for frame in spec.frames)
            raise Opaque("features_extractor.spec", f"sees positions from the ego ({kinds}), which it does not compute")
        types = [
            {
                "name": t.name,
                "width": t.width,
                "presence": t.presence_key,
                "presence_column": t.presence_column,
            }
            | _categories(t.features, spec.categories.get(t.name, {}))
            for t in spec.types
        ]
        ego = [
            {"name": name, "width": len(features)} | _categories(features, spec.categories.get(name, {}))
            for name, features in spec.ego
        ]
        return {"ego": ego, "types": types, "masked": spec.action_mask}

    def _actions(self, exportable: ExportablePolicy) -> Json:
        space = exportable.actions
        if isinstance(space, spaces.Box):
            low, high = (torch.as_tensor(bound.reshape(-1)) for bound in (space.low, space.high))
            return {
                "kind": "box",
                "low": self.add(low),
                "high": self.add(high),
                "log_std": self.add(exportable.policy.log_std),
            }
        if isinstance(space, spaces.MultiBinary):
            return {"kind": "switches"}
        return {"kind": "choices", "sizes": sizes_of(space)}

    def _heads(self, policy: Any) -> Json:
        head, mlp = policy.action_net, policy.mlp_extractor
        mlp = mlp.mlp if isinstance(mlp, HeadInputs) else mlp
        point, pointer, dimension, masks = None, -1, -1, False
        if isinstance(head, EntityActionHead):
            masks = True
            if head.point is not None and head.actions.pointer is not None:
                dimension = head.actions.pointer
                pointer = list(policy.pi_features_extractor.spec.capacities).index(policy.pi_features_extractor.pointer)
                point = {
                    name: self.linear(stage_of(getattr(head.point, name), f"action_net.point.{name}", LinearStage))
                    for name in ("from_token", "from_latent", "score")
                }
            head = head.flat
        flat = None if head is None else self.linear(stage_of(head, "action_net", LinearStage))
        return {
            "actor": self.stack(stages_of(mlp.policy_net, "mlp_extractor.policy_net")),
            "critic": self.stack(stages_of(mlp.value_net, "mlp_extractor.value_net")),
            "value": self.linear(stage_of(policy.value_net, "value_net", LinearStage)),
            "flat": flat,
            "point": point,
            "pointer_type": pointer,
            "pointer_dimension": dimension,
            "forbids": masks,
        }

    # ---- networks ----

    def network(self, extractor: EntityExtractor, path: str) -> Json:
        """One extractor: its network, and the layer behind it."""
        part: nn.Module = extractor.network
        stage = stage_of(part, path, *NETWORKS)
        found: dict[str, Any] = {"tokens": [self._token(token) for token in stage.tokens]}
        if isinstance(stage, DeepSetsStage):
            found |= {
                "phi": self.stack(stage.phi),
                "pooling": self._pooling(stage.pooling),
                "rho": self.stack(stage.rho),
            }
        else:
            readout = stage_of(part.readout, f"{path}.readout", ReadoutStage)  # type: ignore[arg-type]
            found |= self._attention(stage) | {"pooling": self._pooling(readout.pooling)}
        layers = extractor.project if isinstance(extractor.project, nn.Sequential) else nn.Sequential()
        return found | {"project": self.stack(stages_of(layers, f"{path}.project"))}

    def _attention(self, stage: NetworkStage) -> Json:
        if stage.edges is not None:
            raise Opaque("edges", "join entities in pairs, which is none of these")
        blocks = zip(stage.encoder.blocks, stage.relations, strict=True)
        return {
            "blocks": [self._block(*pair) for pair in blocks],
            "norm": self.norm(stage.encoder.norm),
            "kinds": [self._kind(kind) for kind in stage.kinds],
            "reads_first": stage.reads_first,
        }

    def _token(self, stage: TokenStage) -> Json:
        embedding = None
        if stage.embedding is not None:
            embedding = {
                "first": self.linear(stage.embedding.first),
                "context": self.add(stage.embedding.context),
                "second": self.linear(stage.embedding.second),
            }
        return {
            "role": stage.role,
            "scaling": self._scaling(stage.scaling),
            "embedding": embedding,
            "query": self.add(stage.query),
        }

    def _block(self, stage: BlockStage, relation: RelationStage | None) -> Json:
        attention = stage.attention
        parts: Mapping[str, LinearStage] = {
            name: getattr(attention, name) for name in ("query", "key", "value", "output")
        } | {name: getattr(stage.feedforward, name) for name in ("widen", "narrow")}
        temperature = attention.log_temperature
        return {name: self.linear(part) for name, part in parts.items()} | {
            "norm_attention": self.norm(stage.norm_attention),
            "norm_feedforward": self.norm(stage.norm_feedforward),
            "n_heads": attention.n_heads,
            "count_factor": attention.count_factor or 0.0,
            "scales_products": attention.scales_products,
            "temperature": self.add(None if temperature is None else temperature.exp().flatten()),
            "relation": self._relation(relation),
        }

    def _relation(self, stage: RelationStage | None) -> Json:
        if stage is None:
            return None
        carried = [
            {"places": list(part.places), "width": part.width, "project": self.add(part.project)}
            for part in stage.carried
        ]
        return {"forms": self.add(stage.forms()), "carried": carried}

    def _kind(self, stage: KindStage) -> Json:
        groups = [{"token": g.token, "columns": list(g.columns), "place": g.place} for g in stage.groups]
        return {"compare": stage.compare, "groups": groups, "scaling": self._scaling(stage.scaling)}

    def _pooling(self, stage: PoolingStage | None) -> Json:
        return None if stage is None else {"pools": list(stage.pools), "empty": self.add(stage.empty)}

    # ---- layers ----

    def linear(self, stage: LinearStage) -> Json:
        """Weight (out,in) and bias (out) or None."""
        return {"weight": self.add(stage.weight), "bias": self.add(stage.bias)}

    def norm(self, stage: NormStage) -> Json:
        """Weight and bias (D)."""
        return {"weight": self.add(stage.weight), "bias": self.add(stage.bias), "eps": stage.eps}

    def stack(self, layers: Sequence[LayerStage]) -> Json:
        """Layer by layer."""
        return [self._layer(layer) for layer in layers]

    def _layer(self, layer: LayerStage) -> Json:
        if isinstance(layer, ActivationStage):
            return {"kind": layer.name}
        if isinstance(layer, NormStage):
            return {"kind": "norm"} | self.norm(layer)
        return {"kind": "linear"} | self.linear(layer)

    def _scaling(self, stage: ScalingStage | None) -> Json:
        if stage is None:
            return None
        factor = torch.rsqrt(stage.variance + stage.epsilon)
        return {"mean": self.add(stage.mean), "factor": self.add(factor), "clip": stage.clip}


def _categories(features: Sequence[str], values: Mapping[str, Sequence[str]]) -> Json:
    """How many values each feature has, 0 = it is a number; nothing where all are."""
    return {"categories": [len(values.get(name, ())) for name in features]} if values else {}
