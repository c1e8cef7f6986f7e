"""Action distributions with fewer tensor operations than SB3's."""

from __future__ import annotations

import math

import torch
from stable_baselines3.common.distributions import CategoricalDistribution
from torch import Tensor
from torch.distributions import Categorical


class LeanCategorical(CategoricalDistribution):
    """SB3's distribution over discrete actions with fewer tensor operations: same draws, same figures but for rounding.

    Logits and actions are not looked over at every call; sampling still refuses NaN.
    """

    logits: Tensor

    def proba_distribution(self, action_logits: Tensor) -> LeanCategorical:
        """A distribution of its own with the logits (B,A): threads that share a policy do not share it."""
        made = LeanCategorical(self.action_dim)
        made.logits = action_logits
        return made

    def actions_from_params(self, action_logits: Tensor, deterministic: bool = False) -> Tensor:
        """One action each (B,), from logits (B,A)."""
        return self.proba_distribution(action_logits).get_actions(deterministic)

    def log_prob_from_params(self, action_logits: Tensor) -> tuple[Tensor, Tensor]:
        """One drawn action each (B,), from logits (B,A), and its log-probability (B,)."""
        return self.proba_distribution(action_logits).draw()

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
        if math.isnan(float(chosen.detach().sum())):
            raise ValueError("an action probability is NaN: look for NaN in the observation or in the weights")
        return actions.squeeze(1), chosen

    def mode(self) -> Tensor:
        """The most probable action each (B,)."""
        return self.logits.argmax(-1)
