"""The policy: good defaults without any policy_kwargs, our initialisation kept, heads that point at entities."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.distributions import Categorical

from attn_rl.entities import ACTION_MASK
from attn_rl.sb3.action_head import ActionLayout, EntityActionHead, HeadInputs
from attn_rl.sb3.extractor import EntityAttentionExtractor, EntityExtractor, FeatureLayout

DEFAULT_NET_ARCH = [64]


class LeanCategorical(CategoricalDistribution):
    """SB3's distribution over discrete actions, its logits and actions not looked over at every call.

    Sampling still refuses NaN.
    """

    def proba_distribution(self, action_logits: Tensor) -> LeanCategorical:
        """Take on the logits (B,A)."""
        self.distribution = Categorical(logits=action_logits, validate_args=False)
        return self


class EntityHeads:
    """Mixin over an SB3 actor-critic policy: entity features, action heads, initialisation.

    Args:
        observation_space: see ``docs/observations.md``.
        action_space: any that the algorithm takes; Discrete or MultiDiscrete for pointers and masks.
        lr_schedule: as SB3 passes it.
        pointer: name of the entity type that an action dimension chooses from: choice *i* is slot *i*. With
            ``Discrete(N)`` that is the action, with ``MultiDiscrete`` the last dimension of N choices.
        policy: keywords of SB3's policy, among them ``features_extractor_class`` (default
            :class:`EntityAttentionExtractor`), ``features_extractor_kwargs``, ``net_arch`` (default [64]) and
            ``optimizer_kwargs`` (default of Adam: ``eps=1e-5``, as in SB3, and ``fused=True``: one kernel a step).

    An ``action_mask`` in the observation (1 = valid) masks invalid actions in training and in ``predict``. With no
    valid action at all, action 0 is taken with certainty.
    """

    mlp_extractor: Any
    action_net: nn.Module

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        lr_schedule: Schedule,
        *args: Any,
        pointer: str | None = None,
        **policy: Any,
    ) -> None:
        self.pointer = pointer
        policy.setdefault("features_extractor_class", EntityAttentionExtractor)
        if not args:
            policy.setdefault("net_arch", DEFAULT_NET_ARCH)
        if policy.get("optimizer_class", torch.optim.Adam) is torch.optim.Adam:
            given = policy.get("optimizer_kwargs")
            policy["optimizer_kwargs"] = {"fused": True, **({"eps": 1e-5} if given is None else given)}
        masked = isinstance(observation_space, spaces.Dict) and ACTION_MASK in observation_space.spaces
        extractor = dict(policy.pop("features_extractor_kwargs", None) or {})
        if pointer is not None or masked:
            _check_feeds_heads(policy["features_extractor_class"])
            extractor |= {"pointer": pointer, "masked": masked}
        super().__init__(  # type: ignore[call-arg]
            observation_space, action_space, lr_schedule, *args, features_extractor_kwargs=extractor, **policy
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"pointer": self.pointer}  # type: ignore[misc]

    def _layout(self) -> FeatureLayout:
        extractor = self.features_extractor  # type: ignore[attr-defined]
        return extractor.layout if isinstance(extractor, EntityExtractor) else FeatureLayout(extractor.features_dim)

    def _build_mlp_extractor(self) -> None:
        layout = self._layout()
        mlp = MlpExtractor(
            layout.readout,
            net_arch=self.net_arch,  # type: ignore[attr-defined]
            activation_fn=self.activation_fn,  # type: ignore[attr-defined]
            device=self.device,  # type: ignore[attr-defined]
        )
        self.mlp_extractor = mlp if layout.width == layout.readout else HeadInputs(mlp, layout)

    def _build(self, lr_schedule: Schedule) -> None:
        policy: Any = self
        if type(policy.action_dist) is CategoricalDistribution:
            policy.action_dist = LeanCategorical(policy.action_dist.action_dim)
        super()._build(lr_schedule)  # type: ignore[misc]
        if isinstance(self.mlp_extractor, HeadInputs):
            layout = self._layout()
            actions = ActionLayout.from_space(self.action_space, layout.n_slots)  # type: ignore[attr-defined]
            self.action_net = EntityActionHead(layout, actions, self.mlp_extractor.mlp.latent_dim_pi)
        # SB3's orthogonal initialisation has just re-drawn every linear layer of the extractor; ours is meant.
        for extractor in {self.pi_features_extractor, self.vf_features_extractor}:  # type: ignore[attr-defined]
            if isinstance(extractor, EntityExtractor):
                extractor.reset_parameters()
        self.optimizer = self.optimizer_class(  # type: ignore[attr-defined]
            self.parameters(),  # type: ignore[attr-defined]
            lr=lr_schedule(1),
            **self.optimizer_kwargs,  # type: ignore[attr-defined]
        )


def _check_feeds_heads(extractor: type) -> None:
    if not issubclass(extractor, EntityExtractor):
        raise ValueError(
            f"{extractor.__name__} cannot feed a pointer or an action mask; "
            "use EntityAttentionExtractor, DeepSetsExtractor or FlatExtractor, or subclass one"
        )


class EntityAttentionPolicy(EntityHeads, ActorCriticPolicy):
    """Actor-critic policy that attends over entities, for PPO, A2C and TRPO.

    ``PPO(EntityAttentionPolicy, env)`` is a good agent without any ``policy_kwargs``. See :class:`EntityHeads` for the
    arguments; ``attn_rl.sb3.maskable`` holds the variant for sb3-contrib's MaskablePPO.
    """
