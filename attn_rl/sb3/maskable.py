"""The policy for sb3-contrib's MaskablePPO; importing this module needs sb3-contrib."""

from __future__ import annotations

import copy

import numpy as np
import torch
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import Tensor

from attn_rl.sb3.action_head import MaskWatch, forbid
from attn_rl.sb3.entity_heads import EntityHeads


class MaskableEntityAttentionPolicy(EntityHeads, MaskableActorCriticPolicy):
    """:class:`EntityAttentionPolicy` for MaskablePPO, whose masks come from the environment's ``action_masks()``.

    A choice is valid where the mask allows it and, for a pointer, the entity is present. Where nothing is valid,
    sb3-contrib draws uniformly among the forbidden; here choice 0 is certain, and a mask that allows nothing is warned
    of once.
    """

    mask_watch: MaskWatch | None = None

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> MaskableDistribution:
        logits = self.action_net(latent_pi)
        distribution = copy.copy(self.action_dist).proba_distribution(action_logits=logits)
        sizes = getattr(distribution, "action_dims", [logits.shape[-1]])

        def apply_masking(masks: np.ndarray | Tensor | None) -> None:
            masked = logits
            if masks is not None:
                flags = torch.as_tensor(masks, dtype=torch.bool, device=logits.device).reshape(logits.shape)
                self._watch(sizes).look(flags)
                masked = _forbid_masked(logits, flags, sizes)
            distribution.proba_distribution(action_logits=masked)

        distribution.apply_masking = apply_masking  # type: ignore[method-assign]
        return distribution

    def _watch(self, sizes: list[int]) -> MaskWatch:
        if self.mask_watch is None:
            self.mask_watch = MaskWatch(sizes)
        return self.mask_watch


def _forbid_masked(logits: Tensor, flags: Tensor, sizes: list[int]) -> Tensor:
    """Join the masks with what the head has forbidden already; dimensions of ``sizes`` are concatenated."""
    valid = logits > torch.finfo(logits.dtype).min
    logits = logits.masked_fill(~valid, 0.0)  # choice 0 may have to stand in
    parts = (x.split(sizes, -1) for x in (logits, valid, flags))
    return torch.cat([forbid(*part) for part in zip(*parts, strict=True)], -1)
