"""From a policy's features to its outputs, per family of Stable-Baselines3's algorithms."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from attn_rl.sb3.compat import action_distribution
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.sb3.structured.distribution import StructuredDistribution
from attn_rl.sb3.structured.figures import log_probabilities

PROBABILITY_FLOOR = 1e-6
NOT_CALLED = ("forward", "get_distribution", "predict_values", "_predict")
"""Methods of a policy that lead from features to actions or values, and that recording follows without calling them."""
KNOWN = (
    *(f"stable_baselines3.{name}.policies" for name in ("common", "dqn", "sac", "td3")),
    *(f"sb3_contrib.{name}.policies" for name in ("common.maskable", "common.recurrent", "qrdqn", "tqc", "crossq")),
    "attn_rl.",
)
"""Whose methods recording knows how to follow."""


class Outputs(NamedTuple):
    """What one pass computed.

    Attributes:
        policy: log-probabilities of all action dimensions, concatenated (B, sum of sizes); for continuous actions the
            Gaussian's means and log standard deviations (B, 2A).
        sizes: number of choices per action dimension; empty = continuous.
        value: (B,); NaN where the model has no state value (SAC, TD3).
        lstm_states: of a recurrent policy, what it goes on with (B,4,layers,width): hidden and cell state of the
            actor's LSTM, hidden and cell state of the critic's; else None.
        structured: of structured actions, their distribution; ``policy`` is given the likeliest earlier choices.
    """

    policy: Tensor
    sizes: tuple[int, ...]
    value: Tensor
    lstm_states: Tensor | None = None
    structured: StructuredDistribution | None = None


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


def acting_extractor(policy: object) -> EntityExtractor:
    """The extractor through which the policy looks when it acts.

    Raises:
        ValueError: it is none of this package, or the policy's kind is unknown.
    """
    holder = policy if is_actor_critic(policy) else acting_net(policy)
    extractor = getattr(holder, "pi_features_extractor", None) or getattr(holder, "features_extractor", None)
    if not isinstance(extractor, EntityExtractor):
        raise ValueError(
            f"the policy looks through {type(extractor).__name__}, expected an extractor of attn_rl; "
            "pass policy_kwargs=dict(features_extractor_class=EntityAttentionExtractor)"
        )
    return extractor


def acting_net(policy: object) -> Any:
    """The network of an off-policy algorithm that acts.

    Raises:
        ValueError: the policy has none.
    """
    for name in ("q_net", "quantile_net", "actor"):
        if getattr(policy, name, None) is not None:
            return getattr(policy, name)
    raise ValueError(
        f"cannot look inside {type(policy).__name__}; expected the policy of PPO, A2C, TRPO, MaskablePPO, "
        "RecurrentPPO, DQN, QRDQN, SAC, TQC, TD3 or DDPG"
    )


def check_known_path(policy: object) -> None:
    """Refuse a policy that goes from features to actions or values in a way of its own: its record would be wrong.

    Raises:
        ValueError: names the method that decides there and that recording does not call.
    """
    holders: list[tuple[object, tuple[str, ...]]] = [(policy, NOT_CALLED)]
    if not is_actor_critic(policy) and hasattr(acting_net(policy), "get_action_dist_params"):
        holders.append((acting_net(policy), ("forward",)))
    for holder, methods in holders:
        for name in methods:
            method = getattr(holder, name, None)
            module = getattr(getattr(method, "__func__", method), "__module__", None) or ""
            if method is not None and not module.startswith(KNOWN):
                raise ValueError(
                    f"{type(holder).__name__} defines its own {name}(), so how it gets from features to actions is not "
                    "known and nothing is recorded; leave that method alone and change what it calls: the features "
                    "extractor, mlp_extractor, action_net or _get_action_dist_from_latent()"
                )


def is_recurrent(policy: object) -> bool:
    """Whether an LSTM stands between features and actions (sb3-contrib's RecurrentPPO)."""
    return hasattr(policy, "lstm_actor")


def compute_outputs(policy: object, obs: object, lstm_states: Tensor | None = None) -> Outputs:
    """One pass of a policy over a batch.

    Args:
        policy: one that :func:`check_known_path` accepts.
        obs: observation tensors.
        lstm_states: of a recurrent policy, where it stands (B,4,layers,width), see :class:`Outputs`.
    """
    if is_actor_critic(policy):
        return _actor_critic(policy, obs, lstm_states)
    net = acting_net(policy)
    if hasattr(policy, "q_net") or hasattr(policy, "quantile_net"):
        q_values = net(obs) if hasattr(policy, "q_net") else net(obs).mean(1)
        return Outputs(q_values.log_softmax(-1), (q_values.shape[-1],), q_values.amax(-1))
    if hasattr(net, "get_action_dist_params"):
        mean, log_std = _gaussian(net, obs)
    else:
        mean = net(obs)
        log_std = torch.zeros_like(mean)
    return Outputs(torch.cat([mean, log_std], -1), (), mean.new_full((len(mean),), torch.nan))


def _gaussian(actor: Any, obs: Any) -> tuple[Tensor, Tensor]:
    """Means and log standard deviations (B,A) of what SAC's and TQC's actor draws from and squashes."""
    mean, log_std, latent = actor.get_action_dist_params(obs)
    if not latent:
        return mean, log_std
    # gSDE: log_std belongs to the features (Raffin et al. 2022, eq. 6), a copy leaves the drawn noise alone
    spread = copy.copy(actor.action_dist).proba_distribution(mean, log_std, **latent).distribution.stddev
    return mean, spread.log()


def is_actor_critic(policy: object) -> bool:
    """Whether actor and critic are one policy; sb3-contrib's maskable one too, which does not descend from SB3's."""
    return hasattr(policy, "evaluate_actions")


def _actor_critic(policy: Any, obs: object, lstm_states: Tensor | None) -> Outputs:
    """As ``ActorCriticPolicy.forward``, but with the whole distribution and without drawing from it."""
    features, after = policy.extract_features(obs), None
    if lstm_states is not None:
        *features, after = _through_lstms(policy, features, lstm_states)
    if isinstance(features, Tensor):
        latent_pi, latent_vf = policy.mlp_extractor(features)
    else:
        latent_pi = policy.mlp_extractor.forward_actor(features[0])
        latent_vf = policy.mlp_extractor.forward_critic(features[1])
    value = policy.value_net(latent_vf).flatten()
    return _distribution_outputs(action_distribution(policy, latent_pi), value)._replace(lstm_states=after)


def _through_lstms(policy: Any, features: Any, lstm_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of ``RecurrentActorCriticPolicy``: what actor and critic receive, and the states after it."""
    pi, vf = (features, features) if isinstance(features, Tensor) else features
    before = lstm_states.permute(1, 2, 0, 3).contiguous()  # (4,layers,B,width)
    latent_pi, after_pi = policy.lstm_actor(pi[None], (before[0], before[1]))
    if policy.lstm_critic is not None:
        latent_vf, after_vf = policy.lstm_critic(vf[None], (before[2], before[3]))
    else:
        latent_vf, after_vf = latent_pi if policy.shared_lstm else policy.critic(vf)[None], after_pi
    return latent_pi[0], latent_vf[0], torch.stack([*after_pi, *after_vf]).permute(2, 0, 1, 3)


def _distribution_outputs(distribution: Any, value: Tensor) -> Outputs:
    if isinstance(distribution, StructuredDistribution):
        return Outputs(*log_probabilities(distribution), value, structured=distribution)
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
