"""The networks that attention is compared with: DeepSets and flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attn_rl.nn.network import SetNetwork, token_stages
from attn_rl.nn.normalizer import Entities, EntityNormalizer
from attn_rl.nn.readout import Pooling, PoolingStage
from attn_rl.nn.stages import LayerStage, TokenStage, stage_of, stages_of
from attn_rl.nn.tokenizer import Embedding, Tokenizer


class DeepSetsStage(NamedTuple):
    """``rho([ego, pooling(phi(tokens))])``, without the ego where there is none.

    Attributes:
        tokens: in the order in which they stand.
        phi: layer by layer, of every entity.
        pooling: of what phi returns.
        rho: layer by layer.
    """

    tokens: tuple[TokenStage, ...]
    phi: tuple[LayerStage, ...]
    pooling: PoolingStage
    rho: tuple[LayerStage, ...]


class DeepSetsNetwork(SetNetwork):
    r"""DeepSets (Zaheer et al. 2017) as strong as we can make it: the opponent of attention.

    .. math:: \rho(\mathrm{ego},\ \mathrm{mean}_i\,\phi(x_i, \mathrm{ego}),\ \max_i \phi(x_i, \mathrm{ego}))

    The embedding sees the ego's features, is layer-normalised and deep enough for about as many parameters
    as the attention network; pooling is mean and max together. Without any of these it would be a straw man.

    Args:
        widths, ego_width, d_model, ego_conditioning, normalize, unscaled: as for
            :class:`attn_rl.nn.network.AttentionNetwork`.
        n_layers: further hidden layers of phi after the embedding.
        entity_rows: also return the entities' tokens (a pointer head reads them).
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        ego_width: int = 0,
        *,
        d_model: int = 32,
        n_layers: int = 1,
        ego_conditioning: bool = True,
        normalize: bool = True,
        unscaled: Mapping[str, Sequence[int]] | None = None,
        entity_rows: bool = False,
    ) -> None:
        super().__init__()
        self.normalizer = EntityNormalizer(widths, ego_width, normalize=normalize, unscaled=unscaled)
        self.tokenizer = Tokenizer(widths, ego_width, d_model, ego_conditioning=ego_conditioning)
        phi: list[nn.Module] = [nn.LayerNorm(d_model), nn.ReLU()]
        for _ in range(n_layers):
            phi += [nn.Linear(d_model, d_model), nn.LayerNorm(d_model), nn.ReLU()]
        self.phi = nn.Sequential(*phi)
        self.pooling = Pooling(d_model, ("mean", "max"))
        self.n_lead = int(ego_width > 0)
        pooled = (2 + self.n_lead) * d_model
        self.rho = nn.Sequential(nn.Linear(pooled, 2 * d_model), nn.ReLU(), nn.Linear(2 * d_model, d_model))
        self.entity_rows = entity_rows
        self.d_model = self.d_out = d_model
        self.reset_parameters()

    def forward(self, ego: Tensor | None, entities: Entities) -> tuple[Tensor, Tensor | None]:
        """Encode one observation batch; see :meth:`SetNetwork.forward`."""
        x, present, _ = self.tokenizer(*self.normalizer(ego, entities))
        rows = self.phi(x[:, self.n_lead :])
        pooled = self.pooling(rows, present[:, self.n_lead :])
        if self.n_lead:
            pooled = torch.cat([x[:, 0], pooled], -1)
        return self.rho(pooled), rows if self.entity_rows else None

    def stage(self) -> DeepSetsStage:
        """Describe the network."""
        tokens = token_stages(self.normalizer, self.tokenizer)
        pooling = stage_of(self.pooling, "pooling", PoolingStage)
        return DeepSetsStage(tokens, stages_of(self.phi, "phi"), pooling, stages_of(self.rho, "rho"))


class FlatNetwork(SetNetwork):
    """Forget that the observation is a set: concatenate everything, slot by slot, with presence flags.

    Args:
        widths, ego_width, d_model, normalize, unscaled: as for :class:`attn_rl.nn.network.AttentionNetwork`.
        capacities: slots of each entity type.
        sort_by: per type, the column whose ascending order the slots are put in (absent last); None = as they come.
    """

    ignores_slots = False  # a slot has weights of its own

    def __init__(
        self,
        widths: Mapping[str, int],
        ego_width: int = 0,
        *,
        capacities: Mapping[str, int],
        d_model: int = 64,
        normalize: bool = True,
        unscaled: Mapping[str, Sequence[int]] | None = None,
        sort_by: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.sort_by = dict(sort_by or {})
        self.normalizer = EntityNormalizer(widths, ego_width, normalize=normalize, unscaled=unscaled)
        width = ego_width + sum((widths[name] + 1) * n for name, n in capacities.items())
        self.hidden = Embedding(width, d_model)
        self.d_out = d_model
        self.reset_parameters()

    def forward(self, ego: Tensor | None, entities: Entities) -> tuple[Tensor, None]:
        """Encode one observation batch, without entity tokens; see :meth:`SetNetwork.forward`."""
        entities = {name: self._sorted(name, *rows) for name, rows in entities.items()}
        ego, entities = self.normalizer(ego, entities)
        columns = [] if ego is None else [ego]
        for x, present in entities.values():
            columns += [(x * present.unsqueeze(-1)).flatten(1), present.to(x.dtype)]
        return self.hidden(torch.cat(columns, -1)), None

    def _sorted(self, name: str, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        if name not in self.sort_by:
            return x, present
        key = x[..., self.sort_by[name]].masked_fill(~present, torch.inf)
        order = key.argsort(dim=1, stable=True)
        return x.gather(1, order.unsqueeze(-1).expand_as(x)), present.gather(1, order)
