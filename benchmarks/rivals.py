"""What people write today: attention in a Stable-Baselines3 features extractor out of PyTorch's own modules.

All take a Box (N,F) with presence in the last column, or a Dict of ``ego``, ``items`` and ``items_present``, whose ego
stands in every row. They are as fast as their modules allow: no ``need_weights``, and for the encoder a feed-forward of
the width measured, not its default of 2048. Two mean-pool the present rows; ego-attention reads the first one.
"""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class SetExtractor(BaseFeaturesExtractor):
    """Embed rows, encode them, average the present ones."""

    def __init__(self, observation_space: spaces.Box | spaces.Dict, d_model: int = 64) -> None:
        super().__init__(observation_space, d_model)
        keyed = isinstance(observation_space, spaces.Dict)
        width = (
            sum(observation_space[key].shape[-1] for key in ("ego", "items")) if keyed else observation_space.shape[1]
        )
        self.embed = nn.Linear(width, d_model)

    def forward(self, observations: Tensor | dict[str, Tensor]) -> Tensor:
        """(B,N,F), or a dict of blocks -> (B,D)."""
        if isinstance(observations, dict):
            absent, items = observations["items_present"] < 0.5, observations["items"]
            ego = observations["ego"].unsqueeze(1).expand(-1, items.shape[1], -1)
            observations = torch.cat([items, ego], -1)
        else:
            absent = observations[..., -1] < 0.5
        absent[:, 0] &= ~absent.all(1)  # an all-masked row would be NaN
        return self.read(torch.relu(self.embed(observations)), absent)

    def read(self, rows: Tensor, absent: Tensor) -> Tensor:
        """Encode and pool: (B,N,D) -> (B,D)."""
        rows = self.encode(rows, absent)
        weight = (~absent).unsqueeze(-1).to(rows.dtype)
        return (rows * weight).sum(1) / weight.sum(1)

    def encode(self, rows: Tensor, absent: Tensor) -> Tensor:
        """(B,N,D) -> (B,N,D)."""
        raise NotImplementedError


class TransformerEncoderExtractor(SetExtractor):
    """``nn.TransformerEncoder``; the nested-tensor fast path is off (it is slower here, and absent in training)."""

    def __init__(
        self,
        observation_space: spaces.Box | spaces.Dict,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        d_feedforward: int = 128,
    ) -> None:
        super().__init__(observation_space, d_model)
        layer = nn.TransformerEncoderLayer(
            d_model, n_heads, d_feedforward, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)

    def encode(self, rows: Tensor, absent: Tensor) -> Tensor:
        """(B,N,D) -> (B,N,D)."""
        return self.encoder(rows, src_key_padding_mask=absent)


class MultiheadAttentionExtractor(SetExtractor):
    """``nn.MultiheadAttention`` in hand-written pre-norm blocks."""

    def __init__(
        self,
        observation_space: spaces.Box | spaces.Dict,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        d_feedforward: int = 128,
    ) -> None:
        super().__init__(observation_space, d_model)
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(d_model, n_heads, batch_first=True) for _ in range(n_layers)
        )
        self.feedforward = nn.ModuleList(
            nn.Sequential(nn.Linear(d_model, d_feedforward), nn.ReLU(), nn.Linear(d_feedforward, d_model))
            for _ in range(n_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(2 * n_layers))

    def encode(self, rows: Tensor, absent: Tensor) -> Tensor:
        """(B,N,D) -> (B,N,D)."""
        for i, (attention, feedforward) in enumerate(zip(self.attention, self.feedforward, strict=True)):
            normed = self.norms[2 * i](rows)
            rows = rows + attention(normed, normed, normed, key_padding_mask=absent, need_weights=False)[0]
            rows = rows + feedforward(self.norms[2 * i + 1](rows))
        return rows


class EgoAttentionExtractor(SetExtractor):
    """The first row looks at all rows (Leurent & Mercat 2019, *Social Attention for Autonomous Decision-Making*)."""

    def __init__(
        self, observation_space: spaces.Box | spaces.Dict, d_model: int = 64, n_heads: int = 4, **_: int
    ) -> None:
        super().__init__(observation_space, d_model)
        self.n_heads, self.embed_deeper = n_heads, nn.Linear(d_model, d_model)
        self.query, self.key, self.value, self.combine = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))

    def read(self, rows: Tensor, absent: Tensor) -> Tensor:
        """(B,N,D) -> (B,D)."""
        rows = torch.relu(self.embed_deeper(rows))
        q, k, v = (
            x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for x in (self.query(rows[:, :1]), self.key(rows), self.value(rows))
        )
        scores = (q @ k.transpose(-2, -1)) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(absent[:, None, None], -1e9).softmax(-1)
        return (self.combine((weights @ v).transpose(1, 2).flatten(1)) + rows[:, 0]) / 2
