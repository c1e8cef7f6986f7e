"""The policy for sb3-contrib's MaskablePPO; importing this module needs sb3-contrib."""

from __future__ import annotations

import numpy as np
import torch
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import Tensor

from attn_rl.sb3.action_head import legal
from attn_rl.sb3.policy import EntityHeads


class MaskableEntityAttentionPolicy(EntityHeads, MaskableActorCriticPolicy):
    """:class:`EntityAttentionPolicy` for MaskablePPO, whose masks come from the environment's ``action_masks()``.

    Where such a mask forbids everything, sb3-contrib draws uniformly among the forbidden; here choice 0 is certain.
    """

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> MaskableDistribution:
        distribution = super()._get_action_dist_from_latent(latent_pi)
        apply = distribution.apply_masking

        def apply_legal(masks: np.ndarray | Tensor | None) -> None:
            apply(None if masks is None else self._legal(masks))

        distribution.apply_masking = apply_legal  # type: ignore[method-assign]
        return distribution

    def _legal(self, masks: np.ndarray | Tensor) -> Tensor:
        flags = torch.as_tensor(masks, dtype=torch.bool)
        sizes = getattr(self.action_space, "nvec", None)
        parts = flags.split([flags.shape[-1]] if sizes is None else sizes.tolist(), -1)
        return torch.cat([legal(part) for part in parts], -1)
