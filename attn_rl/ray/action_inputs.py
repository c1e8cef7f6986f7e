"""From a policy and observations to what RLlib's action distributions are made of."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchMultiCategorical,
)
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from torch import Tensor

from attn_rl.sb3.compat import action_distribution
from attn_rl.sb3.policy import EntityAttentionPolicy


def distribution_class(policy: EntityAttentionPolicy) -> Any:
    """RLlib's distribution over the actions of ``policy``, made of what :func:`inputs_and_values` returns.

    Raises:
        ValueError: RLlib has none like it.
    """
    distribution = policy.action_dist
    if isinstance(distribution, CategoricalDistribution):
        return TorchCategorical
    if type(distribution) is MultiCategoricalDistribution:
        return TorchMultiCategorical.get_partial_dist_cls(input_lens=list(map(int, distribution.action_dims)))
    if isinstance(distribution, BernoulliDistribution):
        return TorchMultiCategorical.get_partial_dist_cls(input_lens=[2] * distribution.action_dims)
    if type(distribution) is DiagGaussianDistribution:
        return TorchDiagGaussian
    raise ValueError(
        f"actions are drawn by a {type(distribution).__name__}, which RLlib has no counterpart of; expected a "
        "Discrete, MultiDiscrete, MultiBinary or Box action space, without gSDE and without metadata['actions']"
    )


def inputs_and_values(policy: EntityAttentionPolicy, obs: Any) -> tuple[Tensor, Tensor]:
    """One pass: what actions are drawn by (B,K), and values (B,).

    Choices that a mask or an absent entity forbids have the lowest finite logit, not -inf: RLlib's KL divergence and
    entropy stay finite.

    Args:
        policy: of :class:`attn_rl.ray.module.EntityRLModule`.
        obs: tensors with a leading batch dimension.
    """
    if policy.why_no_logits() is None:
        logits, values = policy.logits_and_values(obs)
        return logits, values.flatten()
    latent_pi, latent_vf = _latents(policy, policy.extract_features(obs))
    values = policy.value_net(latent_vf).flatten()
    return _inputs(action_distribution(policy, latent_pi)), values


def _latents(policy: EntityAttentionPolicy, features: Any) -> tuple[Tensor, Tensor]:
    if isinstance(features, Tensor):
        both: tuple[Tensor, Tensor] = policy.mlp_extractor(features)
        return both
    return policy.mlp_extractor.forward_actor(features[0]), policy.mlp_extractor.forward_critic(features[1])


def _inputs(distribution: Any) -> Tensor:
    """The numbers of one of SB3's distributions as RLlib's take them: (B,K)."""
    if isinstance(distribution, BernoulliDistribution):
        odds = distribution.distribution.logits
        return torch.stack([torch.zeros_like(odds), odds], -1).flatten(1)
    if isinstance(distribution, DiagGaussianDistribution):
        return torch.cat([distribution.distribution.mean, distribution.distribution.stddev.log()], -1)
    parts: Any = getattr(distribution, "distribution", None)  # SB3 keeps a list of them for several dimensions
    return torch.cat([part.logits for part in (parts if isinstance(parts, list) else [parts])], -1)
