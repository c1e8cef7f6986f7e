"""The policy: good defaults without any policy_kwargs, and acting in one call where all of it is ours."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from attn_rl.backends.choose import why_not_now
from attn_rl.backends.heads import ActingParts, WholePolicy, actor_and_critic, whole_policy
from attn_rl.backends.kernels import build
from attn_rl.backends.kernels.acting import draw
from attn_rl.backends.kernels.evaluating import evaluate
from attn_rl.backends.kernels.losses import Coefficients, Remembered
from attn_rl.backends.kernels.mlp import MlpProgram, run_all
from attn_rl.entities import EntitySpec
from attn_rl.nn.changes import is_plain, why_changed
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.readout import FirstRow, LearnedQuery
from attn_rl.nn.stages import Opaque
from attn_rl.sb3.acting_blocks import by_key, read_blocks
from attn_rl.sb3.action_head import HeadInputs
from attn_rl.sb3.distributions import LeanCategorical
from attn_rl.sb3.entity_heads import EntityHeads
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.sb3.predicting import PredictsAtOnce
from attn_rl.type_names import with_article


class EntityAttentionPolicy(PredictsAtOnce, EntityHeads, ActorCriticPolicy):
    """Actor-critic policy that attends over entities, for PPO, A2C and TRPO.

    ``PPO(EntityAttentionPolicy, env)`` is a good agent without any ``policy_kwargs``. See :class:`EntityHeads` for the
    arguments; ``attn_rl.sb3.maskable`` holds the variant for sb3-contrib's MaskablePPO.
    """

    _may_act_at_once = False

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        with suppress(Opaque):  # built for something else, for instance a pointer: not asked for at every step
            self._acting_parts()
            self._may_act_at_once = True

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,...), values (B,1) and log-probabilities (B,), as SB3 computes them."""
        whole = None if torch.is_grad_enabled() else self._at_once(learns=False)
        if whole is not None:
            drawn = whole.program.run(by_key(self._observed, obs), deterministic)
            if drawn is not None:
                return drawn
        if self.why_no_logits("_get_action_dist_from_latent") is not None:
            return super().forward(obs, deterministic)
        logits, values = self.logits_and_values(obs)
        actions, log_prob = self._draw(logits, deterministic)
        return actions, values, log_prob

    def losses_at_once(
        self, obs: Any, actions: Tensor, old: Remembered, weights: Coefficients
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """PPO's losses of a minibatch, see :func:`evaluate`; None where they take several calls."""
        whole = self._at_once(learns=True)
        if whole is None or actions.dtype != torch.int64 or not all(map(is_plain, old)):
            return None
        found = evaluate(whole.program, by_key(self._observed, obs), actions, old, weights)
        if found is not None and whole.collects:
            split = self._observed.split(obs)
            whole.network.collect(split.ego, split.entities)
        return found

    def _at_once(self, learns: bool) -> WholePolicy | None:
        """What one call of C++ takes of this policy now; None where it takes several."""
        if not self._may_act_at_once:
            return None
        found = whole_policy(self, self._acting_parts, learns)
        return None if isinstance(found, str) else found

    @property
    def _observed(self) -> EntitySpec:
        return self.features_extractor.spec  # type: ignore[return-value]

    def why_not_at_once(self, learns: bool = False) -> str | None:
        """Why it takes several calls from an observation to an action, or to PPO's losses; None where it is one."""
        try:
            self._acting_parts()
        except Opaque as opaque:
            return str(opaque)
        other = "the policy was built of other parts"
        found = whole_policy(self, self._acting_parts, learns) if self._may_act_at_once else other
        return found if isinstance(found, str) else None

    def _draw(self, logits: Tensor, deterministic: bool) -> tuple[Tensor, Tensor]:
        """One action each (B,) from logits (B,A), and its log-probability (B,)."""
        if not logits.requires_grad and is_plain(logits) and (build.why_not() or why_not_now(self, False)) is None:
            return draw(logits, deterministic)  # bit for bit what is drawn where nobody watches
        return LeanCategorical(logits.shape[-1]).proba_distribution(logits).draw(deterministic)

    def _acting_parts(self) -> ActingParts:
        """What this policy consists of, to act in one call.

        Raises:
            Opaque: something in it can only run itself.
        """
        for name, cls in COMPUTED_AT_ONCE.items():
            if name in vars(self) or _definer(self, name) is not cls:
                raise Opaque("", f"{type(self).__name__}.{name} is not {cls.__name__}'s")
        if (reason := self.why_no_logits()) is not None:
            raise Opaque("", reason)
        extractor = self.features_extractor
        if not isinstance(extractor, EntityExtractor) or type(extractor).forward is not EntityExtractor.forward:
            raise Opaque("features_extractor", "has a forward of its own")
        network = extractor.network
        if not isinstance(network, AttentionNetwork) or type(network).read is not AttentionNetwork.read:
            raise Opaque("features_extractor.network", f"is {with_article(type(network))}")
        if type(network.readout) not in (FirstRow, LearnedQuery):
            raise Opaque("features_extractor.network.readout", f"is {with_article(type(network.readout))}")
        for name, part, expected in (
            ("features_extractor", extractor, type(extractor)),
            ("features_extractor.project", extractor.project, nn.Identity),
            ("features_extractor.network.readout", network.readout, type(network.readout)),
        ):
            if (reason := why_changed(part, expected)) is not None:
                raise Opaque(name, reason)
        blocks = read_blocks(extractor.spec, self.observation_space)
        return ActingParts(network, *self._layers(), blocks)

    def logits_and_values(self, obs: Any) -> tuple[Tensor, Tensor]:
        """What the discrete actions are drawn by (B,A), and values (B,1)."""
        features = self.extract_features(obs)
        found = self.heads_by_kernels(torch.is_grad_enabled())
        if not isinstance(found, str):
            logits, values = run_all(features, found)
            return logits, values
        latent_pi, latent_vf = self.mlp_extractor(features)
        distribution: Any = self._get_action_dist_from_latent(latent_pi)
        return distribution.logits, self.value_net(latent_vf)

    def why_no_logits(self, *methods: str) -> str | None:
        """Why :meth:`logits_and_values` does not stand for ``methods``, None where it does."""
        changed = [name for name in methods if name in vars(self) or _definer(self, name) is not ActorCriticPolicy]
        if changed:
            return f"{type(self).__name__}.{changed[0]} is not Stable-Baselines3's"
        if not self.share_features_extractor:
            return "actor and critic have networks of their own"
        if self.actions or not isinstance(self.action_space, spaces.Discrete):
            return f"actions are {'structured: ' + ', '.join(self.actions) if self.actions else 'not Discrete'}"
        drawn_by = type(self.action_dist)
        return None if drawn_by is LeanCategorical else f"actions are drawn by a {drawn_by.__name__}"

    def heads_by_kernels(self, learns: bool) -> tuple[MlpProgram, ...] | str:
        """Actor and critic for C++, or why it does not run them."""
        if (reason := self.why_no_logits("_get_action_dist_from_latent")) is not None:
            return reason
        return actor_and_critic(self, self._layers, learns)

    def _layers(self) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
        """Actor and critic, layer by layer."""
        mlp = self.mlp_extractor
        if type(mlp) is not MlpExtractor:
            points = "points at entities or masks actions" if type(mlp) is HeadInputs else "is not SB3's"
            raise Opaque("mlp_extractor", points)
        for name, part, cls in (
            ("mlp_extractor", mlp, MlpExtractor),
            ("mlp_extractor.policy_net", mlp.policy_net, nn.Sequential),
            ("mlp_extractor.value_net", mlp.value_net, nn.Sequential),
        ):
            if (reason := why_changed(part, cls)) is not None:
                raise Opaque(name, reason)
        actor = _named("mlp_extractor.policy_net", mlp.policy_net) | {"action_net": self.action_net}
        critic = _named("mlp_extractor.value_net", mlp.value_net) | {"value_net": self.value_net}
        return actor, critic


COMPUTED_AT_ONCE: dict[str, type] = {
    "extract_features": EntityHeads,
    "logits_and_values": EntityAttentionPolicy,
    "_get_action_dist_from_latent": ActorCriticPolicy,
}
"""Methods that :meth:`EntityAttentionPolicy.forward` does not call where it acts at once, and whose they must be."""


def _definer(policy: nn.Module, method: str) -> type:
    return next(cls for cls in type(policy).__mro__ if method in vars(cls))


def _named(path: str, layers: nn.Sequential) -> dict[str, nn.Module]:
    return {f"{path}.{i}": layer for i, layer in enumerate(layers)}
