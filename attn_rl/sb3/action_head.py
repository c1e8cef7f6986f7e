"""Action logits from the features: flat dimensions, dimensions that point at entities, and masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn

from attn_rl.sb3.extractor import EntityExtractor, FeatureLayout


class ActionLayout(NamedTuple):
    """How the logits are made up: the size of every action dimension, and which one points.

    Attributes:
        sizes: number of choices per dimension; their logits are concatenated in this order.
        pointer: index of the dimension whose choice *i* is slot *i*; None = no pointer.
    """

    sizes: tuple[int, ...]
    pointer: int | None = None

    @property
    def n_flat(self) -> int:
        """Logits that come from a linear layer."""
        return sum(size for i, size in enumerate(self.sizes) if i != self.pointer)

    @classmethod
    def from_space(cls, space: gym.Space[Any], n_slots: int) -> ActionLayout:
        """Find the dimension with as many choices as the pointer's type has slots (``n_slots``, 0 = no pointer)."""
        if isinstance(space, spaces.Discrete):
            sizes: tuple[int, ...] = (int(space.n),)
        elif isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
            sizes = tuple(int(n) for n in space.nvec)
        else:
            raise ValueError(
                f"pointer heads and action masks need a Discrete or MultiDiscrete action space, got {space}; "
                "remove pointer= and the action_mask key"
            )
        if not n_slots:
            return cls(sizes)
        fitting = [i for i, size in enumerate(sizes) if size == n_slots]
        if not fitting:
            raise ValueError(
                f"pointer: {n_slots} slots, but the action space {space} has no dimension of that size; a pointer "
                "chooses among one type's slots: give the dimension as many choices, or put the types to choose from "
                "into one type, with a flag for each"
            )
        return cls(sizes, fitting[-1])  # "what, to whom": the whom comes last


class HeadInputs(nn.Module):
    """SB3's actor and critic MLPs on the readout; what the action head needs besides passes by the actor."""

    def __init__(self, mlp: MlpExtractor, layout: FeatureLayout) -> None:
        super().__init__()
        self.mlp, self.n_readout = mlp, layout.readout
        self.latent_dim_pi = mlp.latent_dim_pi + layout.width - layout.readout
        self.latent_dim_vf = mlp.latent_dim_vf

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, features_dim) -> actor latent with extras, critic latent."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """(B, features_dim) -> (B, latent_dim_pi)."""
        readout, extras = features[:, : self.n_readout], features[:, self.n_readout :]
        return torch.cat([self.mlp.forward_actor(readout), extras], -1)

    def forward_critic(self, features: Tensor) -> Tensor:
        """(B, features_dim) -> (B, latent_dim_vf)."""
        return self.mlp.forward_critic(features[:, : self.n_readout])


class PointerHead(nn.Module):
    r"""One logit per entity from its token and the actor's latent (Vinyals et al. 2015, equation 3).

    .. math:: \ell_i = w^\top \mathrm{relu}(W_t\, \mathrm{token}_i + W_c\, \mathrm{latent})

    The same weights serve every entity: permuting entities permutes the logits, and capacity is free to grow.
    """

    def __init__(self, d_token: int, d_latent: int, d_hidden: int = 64) -> None:
        super().__init__()
        self.from_token = nn.Linear(d_token, d_hidden)
        self.from_latent = nn.Linear(d_latent, d_hidden, bias=False)
        self.score = nn.Linear(d_hidden, 1, bias=False)
        for layer, gain in ((self.from_token, 2**0.5), (self.from_latent, 2**0.5), (self.score, 0.01)):
            nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(self.from_token.bias)

    def forward(self, tokens: Tensor, latent: Tensor) -> Tensor:
        """tokens (B,N,D), latent (B,L) -> logits (B,N)."""
        hidden = self.from_token(tokens) + self.from_latent(latent).unsqueeze(1)
        logits: Tensor = self.score(torch.relu(hidden)).squeeze(-1)
        return logits


class MaskWatch:
    """Says, the first time, that an action mask allows nothing while a policy acts; the answer stays as it is."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes, self.batches, self.said = tuple(sizes), 0, False

    def look(self, mask: Tensor) -> None:
        """Look at a mask (B, sum of sizes), boolean; not while gradients are asked for: those rows were acted on."""
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if self.said or traced or torch.is_grad_enabled():
            return
        self.batches += 1
        for part, flags in enumerate(mask.split(self.sizes, -1)):
            allowed = flags.any(-1)
            if not bool(allowed.all()):
                self.said = True
                where = f"environment {int(allowed.int().argmin())} of {len(mask)}, batch {self.batches} acted on"
                warnings.warn(f"{where}: {nothing_allowed(part, len(self.sizes))}", stacklevel=2)
                return


def nothing_allowed(part: int, n_parts: int) -> str:
    """What a warning says of an action mask that allows nothing in one part of the action."""
    nothing = "no action" if n_parts == 1 else f"no choice in part {part} of the action"
    return (
        f"action_mask allows {nothing}; choice 0 is taken with certainty. Allow at least one, or end the episode "
        "before (this is said once)"
    )


class EntityActionHead(nn.Module):
    """Logits of all action dimensions; invalid choices get probability exactly zero.

    A choice is invalid where a pointer dimension points at an absent entity or the action mask forbids it. Where a
    dimension has *no* valid choice, its choice 0 is certain (log-probability 0, entropy 0): a defined, finite answer,
    never a uniform draw among invalid ones. What that action does is the environment's to say.

    Invalid logits are the lowest finite number, not -inf: probabilities are exactly zero all the same, and entropy, KL
    divergence (TRPO) and their gradients stay finite.
    """

    def __init__(self, layout: FeatureLayout, actions: ActionLayout, d_latent: int) -> None:
        super().__init__()
        if layout.n_mask not in (0, sum(actions.sizes)):
            raise ValueError(
                f"action_mask has {layout.n_mask} entries, the action space {sum(actions.sizes)} choices; "
                "give one flag per choice, the dimensions of a MultiDiscrete concatenated"
            )
        self.layout, self.actions, self.d_latent = layout, actions, d_latent
        self.mask_watch = MaskWatch(actions.sizes)
        self.flat = nn.Linear(d_latent, actions.n_flat) if actions.n_flat else None
        self.point = PointerHead(layout.d_token, d_latent) if actions.pointer is not None else None
        if self.flat is not None:
            nn.init.orthogonal_(self.flat.weight, 0.01)
            nn.init.zeros_(self.flat.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, latent_dim_pi) as :class:`HeadInputs` packs it -> logits (B, sum of sizes)."""
        tokens, present, mask = self.layout.extras(inputs[:, self.d_latent :])
        if self.layout.n_mask:
            self.mask_watch.look(mask)
        return torch.cat(self.logits(inputs[:, : self.d_latent], tokens, present, mask), -1)

    def logits(self, latent: Tensor, tokens: Tensor, present: Tensor, mask: Tensor) -> list[Tensor]:
        """Logits of every action dimension; there may be more slots than the action space has.

        Args:
            latent: the actor's (B,L).
            tokens: what is pointed at (B,N,D); nobody asks without a pointer.
            present: which of them are there, boolean (B,N).
            mask: boolean (B, sum of sizes); (B,0) = no restriction.
        """
        sizes = [tokens.shape[1] if i == self.actions.pointer else n for i, n in enumerate(self.actions.sizes)]
        masks = mask.split(sizes, -1) if self.layout.n_mask else [None] * len(sizes)
        flat, used, found = None if self.flat is None else self.flat(latent), 0, []
        for i, size in enumerate(sizes):
            if i == self.actions.pointer and self.point is not None:
                found.append(forbid(self.point(tokens, latent), present, masks[i]))
            elif flat is not None:
                part = flat[:, used : used + size]
                found.append(forbid(part, torch.ones_like(part, dtype=torch.bool), masks[i]))
                used += size
        return found


def forbid(logits: Tensor, valid: Tensor, mask: Tensor | None = None) -> Tensor:
    """Give invalid choices of one action dimension probability zero; choice 0 where nothing is valid.

    Args:
        logits: (B,A).
        valid: boolean (B,A).
        mask: further boolean (B,A), None = no restriction.
    """
    if mask is not None:
        valid = valid & mask
    return logits.masked_fill(~legal(valid), torch.finfo(logits.dtype).min)


def legal(valid: Tensor) -> Tensor:
    """Let choice 0 stand where no choice is valid: boolean (..., A) -> boolean (..., A)."""
    first = torch.zeros_like(valid)
    first[..., 0] = True
    return valid | (first & ~valid.any(-1, keepdim=True))  # torch.where of booleans is nothing that onnxruntime knows


def check_feeds_heads(extractor: type) -> None:
    """Raise where an extractor hands on nothing to point at or to mask by."""
    if not issubclass(extractor, EntityExtractor):
        raise ValueError(
            f"{extractor.__name__} cannot feed a pointer or an action mask; "
            "use EntityAttentionExtractor, DeepSetsExtractor or FlatExtractor, or subclass one"
        )
