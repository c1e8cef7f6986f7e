"""One forward pass of any Stable-Baselines3 model: what it would do, what it thinks it is worth, and why not."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor, nn

from attn_rl.entities import EntitySpec, SplitObservation
from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.sb3.extractor import EntityExtractor

Observation = Mapping[str, Any] | np.ndarray
PROBABILITY_FLOOR = 1e-6


class Outputs(NamedTuple):
    """What one pass computed.

    Attributes:
        policy: log-probabilities of all action dimensions, concatenated (B, sum of sizes); for continuous actions the
            Gaussian's means and log standard deviations (B, 2A).
        sizes: number of choices per action dimension; empty = continuous.
        value: (B,); NaN where the model has no state value (SAC, TD3).
    """

    policy: Tensor
    sizes: tuple[int, ...]
    value: Tensor


class PatternEdit(Protocol):
    """Replaces a pattern (B,H,Q,K) of layer ``layer`` while it is in use."""

    def __call__(self, layer: int, pattern: Tensor) -> Tensor: ...


class Actor:
    """The acting half of a model: its policy, the extractor it looks through, and one pass through both.

    Works for PPO, A2C, TRPO, MaskablePPO (actor and critic), DQN and QR-DQN (policy = softmax of the Q values),
    SAC and TQC (Gaussian before squashing), TD3 and DDPG (a Gaussian of unit width around the action). Recording is
    per extractor: a target network or a critic with an extractor of its own stays unobserved.

    Args:
        model: an SB3 algorithm or its policy. It is put into evaluation mode, as ``predict`` does.
        detached: look at a copy, so that not even the mode of ``model`` changes.

    Raises:
        ValueError: the policy looks through no extractor of this package, or its kind is unknown.
    """

    def __init__(self, model: BaseAlgorithm | BasePolicy, *, detached: bool = False) -> None:
        policy: Any = model.policy if isinstance(model, BaseAlgorithm) else model
        self.policy = _copy(policy) if detached else policy
        self.policy.set_training_mode(False)
        self.extractor = _acting_extractor(self.policy)
        self.spec: EntitySpec = self.extractor.spec
        modules = self.extractor.network.modules()
        self.attention = [module for module in modules if isinstance(module, MultiHeadAttention)]

    def tensors(self, obs: Observation) -> dict[str, Tensor] | Tensor:
        """Turn one observation or a batch into tensors with a batch dimension."""
        return self.policy.obs_to_tensor(obs)[0]

    def to_env(self, action: np.ndarray) -> Any:
        """One deterministic action of a record as ``predict`` would hand it to the environment."""
        space: Any = self.policy.action_space
        if not isinstance(space, spaces.Box):
            return action
        if not self.policy.squash_output:
            return np.clip(action, space.low, space.high).reshape(space.shape)
        squashed = np.tanh(action) if hasattr(_acting_net(self.policy), "get_action_dist_params") else action
        return self.policy.unscale_action(squashed).reshape(space.shape)

    def act(
        self,
        obs: dict[str, Tensor] | Tensor,
        *,
        keep: Tensor | None = None,
        edit: PatternEdit | None = None,
    ) -> Outputs:
        """Compute the policy and the value of a batch, in one pass.

        Args:
            obs: from :meth:`tensors`.
            keep: boolean (B,N) over all slots; False = this entity is taken out of the observation.
            edit: what to do to each pattern before it is used; None = leave it.
        """
        with ExitStack() as stack:
            if keep is not None:
                stack.enter_context(_removed(self.policy, keep))
            if edit is not None:
                stack.enter_context(_edited(self.attention, edit))
            return _outputs(self.policy, obs)


def policy_kl(p: Outputs, q: Outputs) -> Tensor:
    r"""Kullback-Leibler divergence of the policies in nats, (B,).

    .. math:: D_{KL}(p \| q) = \sum_a p(a) \log \frac{p(a)}{\max(q(a), 10^{-6})}

    summed over action dimensions (Kullback & Leibler 1951). The floor keeps the answer finite where q forbids an
    action outright, as a pointer head does once the entity pointed at is gone. Gaussians: closed form, no floor.
    """
    if not p.sizes:
        (mean_p, log_p), (mean_q, log_q) = p.policy.chunk(2, -1), q.policy.chunk(2, -1)
        ratio = torch.exp(2 * (log_p - log_q))
        distance = ((mean_p - mean_q) / log_q.exp()) ** 2
        return 0.5 * (ratio + distance - 1 - 2 * (log_p - log_q)).sum(-1)
    floored = q.policy.clamp(min=float(np.log(PROBABILITY_FLOOR)))
    terms = p.policy.exp() * (p.policy.clamp(min=-1e4) - floored)  # 0 x (-3e38) stays 0
    return terms.sum(-1).clamp(min=0.0)


def take_rows(obs: dict[str, Tensor] | Tensor, rows: Tensor) -> dict[str, Tensor] | Tensor:
    """The observations of the given rows, repeats allowed: (B,...) -> (len(rows),...)."""
    if isinstance(obs, Mapping):
        return {key: block[rows] for key, block in obs.items()}
    return obs[rows]


# ---- the pass itself, per family of algorithms -------------------------------------------------------------------


def _copy(policy: Any) -> Any:
    """A policy of its own weights. The last distribution may hang on a graph, which cannot be copied."""
    holders = [module for module in policy.modules() if hasattr(module, "action_dist")]
    return copy.deepcopy(policy, {id(holder.action_dist): copy.copy(holder.action_dist) for holder in holders})


def _is_actor_critic(policy: Any) -> bool:
    """Sb3-contrib's maskable one too, which does not descend from SB3's."""
    return hasattr(policy, "evaluate_actions")


def _acting_extractor(policy: Any) -> EntityExtractor:
    holder = policy if _is_actor_critic(policy) else _acting_net(policy)
    extractor = getattr(holder, "pi_features_extractor", None) or getattr(holder, "features_extractor", None)
    if not isinstance(extractor, EntityExtractor):
        raise ValueError(
            f"the policy looks through {type(extractor).__name__}, expected an extractor of attn_rl; "
            "pass policy_kwargs=dict(features_extractor_class=EntityAttentionExtractor)"
        )
    return extractor


def _acting_net(policy: Any) -> Any:
    for name in ("q_net", "quantile_net", "actor"):
        if getattr(policy, name, None) is not None:
            return getattr(policy, name)
    raise ValueError(
        f"cannot look inside {type(policy).__name__}; expected the policy of PPO, A2C, TRPO, MaskablePPO, DQN, QRDQN, "
        "SAC, TQC, TD3 or DDPG"
    )


def _outputs(policy: Any, obs: Any) -> Outputs:
    if _is_actor_critic(policy):
        return _actor_critic(policy, obs)
    net = _acting_net(policy)
    if hasattr(policy, "q_net") or hasattr(policy, "quantile_net"):
        q_values = net(obs) if hasattr(policy, "q_net") else net(obs).mean(1)
        return Outputs(q_values.log_softmax(-1), (q_values.shape[-1],), q_values.amax(-1))
    if hasattr(net, "get_action_dist_params"):
        mean, log_std, _ = net.get_action_dist_params(obs)
    else:
        mean = net(obs)
        log_std = torch.zeros_like(mean)
    return Outputs(torch.cat([mean, log_std], -1), (), mean.new_full((len(mean),), torch.nan))


def _actor_critic(policy: ActorCriticPolicy, obs: Any) -> Outputs:
    """As ``ActorCriticPolicy.forward``, but with the whole distribution and without drawing from it."""
    features = policy.extract_features(obs)
    if isinstance(features, tuple):
        latent_pi = policy.mlp_extractor.forward_actor(features[0])
        latent_vf = policy.mlp_extractor.forward_critic(features[1])
    else:
        latent_pi, latent_vf = policy.mlp_extractor(features)
    value = policy.value_net(latent_vf).flatten()
    distribution: Any = policy._get_action_dist_from_latent(latent_pi)
    parts = getattr(distribution, "distribution", None) or distribution.distributions
    parts = parts if isinstance(parts, list) else [parts]
    if isinstance(parts[0], torch.distributions.Normal):
        return Outputs(torch.cat([parts[0].mean, parts[0].stddev.log()], -1), (), value)
    if isinstance(parts[0], torch.distributions.Bernoulli):
        odds = parts[0].logits
        pairs = torch.stack([nn.functional.logsigmoid(-odds), nn.functional.logsigmoid(odds)], -1)
        return Outputs(pairs.flatten(1), (2,) * odds.shape[-1], value)
    logits = [part.logits for part in parts]
    return Outputs(torch.cat(logits, -1), tuple(part.shape[-1] for part in logits), value)


# ---- interventions -----------------------------------------------------------------------------------------------


class _Removing:
    """An EntitySpec that finds some entities absent."""

    def __init__(self, spec: EntitySpec, keep: Tensor) -> None:
        self._spec, self._keep = spec, keep

    def split(self, observation: Any) -> SplitObservation:
        split = self._spec.split(observation)
        kept = self._keep.split(list(self._spec.capacities.values()), -1)
        entities = {
            name: (x, present & kept_rows)
            for (name, (x, present)), kept_rows in zip(split.entities.items(), kept, strict=True)
        }
        return split._replace(entities=entities)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spec, name)


@contextmanager
def _removed(policy: nn.Module, keep: Tensor) -> Iterator[None]:
    """Take entities out of what *every* extractor of the policy sees, whether or not presence is observed."""
    extractors: list[Any] = [module for module in policy.modules() if isinstance(module, EntityExtractor)]
    specs = [extractor.spec for extractor in extractors]
    for extractor, spec in zip(extractors, specs, strict=True):
        extractor.spec = _Removing(spec, keep)
    try:
        yield
    finally:
        for extractor, spec in zip(extractors, specs, strict=True):
            extractor.spec = spec


@contextmanager
def _edited(attention: list[MultiHeadAttention], edit: PatternEdit) -> Iterator[None]:
    def hook_of(layer: int):
        return lambda module, inputs, pattern: edit(layer, pattern)

    handles = [module.tap.register_forward_hook(hook_of(layer)) for layer, module in enumerate(attention)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
