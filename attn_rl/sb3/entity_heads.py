"""What every policy over entities adds to SB3's: entity features, heads that point at entities, initialisation."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from attn_rl.actions import Actions
from attn_rl.entities import ACTION_MASK
from attn_rl.sb3.action_head import ActionLayout, EntityActionHead, HeadInputs, check_feeds_heads
from attn_rl.sb3.distributions import LeanCategorical
from attn_rl.sb3.extractor import EntityAttentionExtractor, EntityExtractor, FeatureLayout
from attn_rl.sb3.structured.build import make_head, refuse_other_heads
from attn_rl.sb3.structured.distribution import StructuredDistribution

DEFAULT_NET_ARCH = [64]


class EntityHeads:
    """Mixin over an SB3 actor-critic policy: entity features, action heads, initialisation.

    Args:
        observation_space: see ``docs/observations.md``.
        action_space: any that the algorithm takes; Discrete or MultiDiscrete for pointers and masks.
        lr_schedule: as SB3 passes it.
        pointer: name of the entity type that an action dimension chooses from: choice *i* is slot *i*. With
            ``Discrete(N)`` that is the action, with ``MultiDiscrete`` the last dimension of N choices.
        actions: structured actions, as ``docs/actions.md`` declares them; the environment's ``metadata["actions"]``.
        policy: keywords of SB3's policy, among them ``features_extractor_class`` (default
            :class:`EntityAttentionExtractor`), ``features_extractor_kwargs``, ``net_arch`` (default [64]) and
            ``optimizer_kwargs`` (default of Adam: ``eps=1e-5``, as in SB3, and ``fused=True``: one kernel a step; not
            with ``foreach`` or ``differentiable``, which PyTorch does not combine with it).

    An ``action_mask`` in the observation (1 = valid) masks invalid actions in training and in ``predict``. With no
    valid action at all, action 0 is taken with certainty.
    """

    mlp_extractor: Any
    action_net: nn.Module

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        lr_schedule: Schedule,
        *args: Any,
        pointer: str | None = None,
        actions: Actions | None = None,
        **policy: Any,
    ) -> None:
        self.pointer, self.actions = pointer, actions
        policy.setdefault("features_extractor_class", EntityAttentionExtractor)
        if not args:
            policy.setdefault("net_arch", DEFAULT_NET_ARCH)
        if policy.get("optimizer_class", torch.optim.Adam) is torch.optim.Adam:
            given = policy.get("optimizer_kwargs")
            given = {"eps": 1e-5} if given is None else given
            other = given.get("foreach") or given.get("differentiable")
            policy["optimizer_kwargs"] = given if other else {"fused": True, **given}
        masked = isinstance(observation_space, spaces.Dict) and ACTION_MASK in observation_space.spaces
        extractor = dict(policy.pop("features_extractor_kwargs", None) or {})
        if actions:
            check_feeds_heads(policy["features_extractor_class"])
            refuse_other_heads(actions, observation_space, pointer, policy)
            extractor |= {"actions": actions}
        elif pointer is not None or masked:
            check_feeds_heads(policy["features_extractor_class"])
            extractor |= {"pointer": pointer, "masked": masked}
        super().__init__(  # type: ignore[call-arg]
            observation_space, action_space, lr_schedule, *args, features_extractor_kwargs=extractor, **policy
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        return parameters | {"pointer": self.pointer, "actions": self.actions}

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        """Features as SB3 extracts them, without its preprocessing where an entity extractor sees to types itself."""
        extractor = features_extractor or self.features_extractor  # type: ignore[attr-defined]
        if self.share_features_extractor and isinstance(extractor, EntityExtractor):  # type: ignore[attr-defined]
            return extractor(obs)
        return super().extract_features(obs, features_extractor)  # type: ignore[misc]

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
        self.mlp_extractor = mlp if layout.width == layout.readout and not self.actions else HeadInputs(mlp, layout)

    def _build(self, lr_schedule: Schedule) -> None:
        policy: Any = self
        if type(policy.action_dist) is CategoricalDistribution:
            policy.action_dist = LeanCategorical(policy.action_dist.action_dim)
        if self.actions:
            policy.action_dist = StructuredDistribution()
        super()._build(lr_schedule)  # type: ignore[misc]
        if self.actions:
            self.action_net = make_head(policy)
        elif isinstance(self.mlp_extractor, HeadInputs):
            layout = self._layout()
            actions = ActionLayout.from_space(self.action_space, layout.n_slots)  # type: ignore[attr-defined]
            self.action_net = EntityActionHead(layout, actions, self.mlp_extractor.mlp.latent_dim_pi)
        # SB3's orthogonal initialisation has just re-drawn every linear layer of the extractor; ours is meant.
        both = (self.pi_features_extractor, self.vf_features_extractor)  # type: ignore[attr-defined]
        for extractor in dict.fromkeys(both):  # one seed, one network: in this order
            if isinstance(extractor, EntityExtractor):
                extractor.reset_parameters()
        self.optimizer = self.optimizer_class(  # type: ignore[attr-defined]
            self.parameters(),  # type: ignore[attr-defined]
            lr=lr_schedule(1),
            **self.optimizer_kwargs,  # type: ignore[attr-defined]
        )
