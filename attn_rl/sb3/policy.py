"""The policy: good defaults without any policy_kwargs, our initialisation kept, heads that point at entities."""

from __future__ import annotations

import math
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
from attn_rl.nn import fused
from attn_rl.nn.rollout import Settles, hooks
from attn_rl.sb3.action_head import ActionLayout, EntityActionHead, HeadInputs
from attn_rl.sb3.extractor import EntityAttentionExtractor, EntityExtractor, FeatureLayout
from attn_rl.sb3.settled_heads import SettledHeads, are_plain

DEFAULT_NET_ARCH = [64]


class LeanCategorical(CategoricalDistribution):
    """SB3's distribution over discrete actions with fewer tensor operations: same draws, same figures but for rounding.

    Logits and actions are not looked over at every call; sampling still refuses NaN.
    """

    def proba_distribution(self, action_logits: Tensor) -> LeanCategorical:
        """Take on the logits (B,A)."""
        self.logits = action_logits
        return self

    @property
    def distribution(self) -> Categorical:  # type: ignore[override]
        """PyTorch's, for whoever asks (the KL divergence of TRPO)."""
        return Categorical(logits=self.logits, validate_args=False)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Of actions (B,)."""
        return self.logits.log_softmax(-1).gather(1, actions.long().view(-1, 1)).squeeze(1)

    def entropy(self) -> Tensor:
        """Of each distribution (B,)."""
        log_probs = self.logits.log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def sample(self) -> Tensor:
        """One action each (B,): what ``torch.multinomial`` draws, an exponential race (Efraimidis & Spirakis 2006).

        Raises:
            ValueError: a probability is NaN.
        """
        return self.draw()[0]

    def draw(self, deterministic: bool = False) -> tuple[Tensor, Tensor]:
        """One action each (B,), as :meth:`sample` or :meth:`mode` would, with its log-probability (B,)."""
        log_probs = self.logits.log_softmax(-1)
        race = log_probs if deterministic else log_probs - torch.empty_like(log_probs).exponential_().log_()
        actions = race.argmax(-1, keepdim=True)
        chosen = log_probs.gather(1, actions).squeeze(1)
        if math.isnan(float(chosen.sum())):
            raise ValueError("an action probability is NaN: look for NaN in the observation or in the weights")
        return actions.squeeze(1), chosen

    def mode(self) -> Tensor:
        """The most probable action each (B,)."""
        return self.logits.argmax(-1)


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


class EntityAttentionPolicy(EntityHeads, ActorCriticPolicy, Settles, fused.FusedUpdates):
    """Actor-critic policy that attends over entities, for PPO, A2C and TRPO.

    ``PPO(EntityAttentionPolicy, env)`` is a good agent without any ``policy_kwargs``. See :class:`EntityHeads` for the
    arguments; ``attn_rl.sb3.maskable`` holds the variant for sb3-contrib's MaskablePPO.
    """

    @property
    def _lean(self) -> bool:
        """Actor and critic are plain; else SB3 has to run them, as with continuous actions or a pointer."""
        own = type(self)._get_action_dist_from_latent is ActorCriticPolicy._get_action_dist_from_latent
        return (
            own
            and self.share_features_extractor
            and type(self.action_dist) is LeanCategorical
            and are_plain(self.mlp_extractor, self.action_net, self.value_net)
        )

    def settle(self) -> SettledHeads | None:
        """Actor and critic in one, None where that cannot be."""
        net: Any = self
        return SettledHeads(net.mlp_extractor, net.action_net, net.value_net) if self._lean else None

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,...), values (B,1) and log-probabilities (B,), as SB3 computes them."""
        if not self.runs_flat:
            return super().forward(obs, deterministic)
        logits, values = self.settled(self.extract_features(obs))
        actions, log_prob = self.action_dist.proba_distribution(logits).draw(deterministic)  # type: ignore[attr-defined]
        return actions, values, log_prob

    @property
    def gives_logits(self) -> bool:
        """Whether the kernels are at hand and PPO's losses need nothing but :meth:`logits_and_values`."""
        own = type(self).evaluate_actions is ActorCriticPolicy.evaluate_actions
        return (
            isinstance(self.fused, fused.Held)
            and own
            and self.share_features_extractor
            and type(self.action_dist) is LeanCategorical
        )

    def logits_and_values(self, obs: Any) -> tuple[Tensor, Tensor]:
        """What the discrete actions are drawn by (B,A), and values (B,1)."""
        features = self.extract_features(obs)
        if isinstance(self.fused, fused.Held) and (towers := self._towers()):
            return fused.towers(features, *towers)  # type: ignore[return-value]
        latent_pi, latent_vf = self.mlp_extractor(features)
        return self._get_action_dist_from_latent(latent_pi).logits, self.value_net(latent_vf)  # type: ignore[attr-defined]

    def _towers(self) -> tuple[fused.Tower, ...]:
        """Actor and critic for the fused kernels; none where these do not know them, or somebody listens there."""
        net: Any = self
        if net.fused.towers is None:
            net.fused.towers = ()
            if self._lean and not any(hooks([*net.mlp_extractor.modules(), net.action_net, net.value_net])):
                both = [*net.mlp_extractor.policy_net, net.action_net], [*net.mlp_extractor.value_net, net.value_net]
                if all(map(fused.can_build, both)):
                    net.fused.towers = tuple(map(fused.Tower, both))
        return net.fused.towers  # type: ignore[no-any-return]
