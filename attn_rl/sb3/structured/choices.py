"""Distributions of one argument over rows: one choice, or numbers. Shapes: B batch, R rows, C choices, d numbers."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from attn_rl.sb3.action_head import legal

FORBIDDEN = -1e9
"""Score of what cannot be chosen: its probability is exactly zero, and 64 of them still have a finite sum."""


class Rows(Protocol):
    """What an argument is drawn by, for every row on its own. Rows without a choice are certain: see :func:`forbid`."""

    def draw(self, deterministic: bool = False) -> tuple[Tensor, Tensor]:
        """Values (B,R,width), and their log-probabilities (B,R)."""

    def log_prob(self, values: Tensor) -> Tensor:
        """Of values (B,R,width): (B,R)."""

    def entropy(self) -> Tensor:
        """(B,R); where it is an estimate, value and gradient are unbiased."""


def forbid(scores: Tensor, valid: Tensor) -> Tensor:
    """Scores (...,C) where ``valid``; choice 0 is certain where nothing is."""
    return scores.masked_fill(~legal(valid), FORBIDDEN)


def race(scores: Tensor) -> Tensor:
    """Scores whose largest is a draw in proportion to exp(scores): exponential race, Efraimidis & Spirakis 2006."""
    return scores - torch.empty_like(scores).exponential_().log_()


def refuse_nan(log_prob: Tensor) -> None:
    """Raise where a log-probability is NaN: sampling from it would answer something."""
    if math.isnan(float(log_prob.detach().sum())):
        raise ValueError("an action probability is NaN: look for NaN in the observation or in the weights")


class OneChoice:
    """Categorical: scores (B,R,C), forbidden ones marked by :func:`forbid`."""

    def __init__(self, scores: Tensor) -> None:
        self.log_probs = scores.log_softmax(-1)

    def draw(self, deterministic: bool = False) -> tuple[Tensor, Tensor]:
        chosen = (self.log_probs if deterministic else race(self.log_probs)).argmax(-1, keepdim=True)
        return chosen, self.log_probs.gather(-1, chosen).squeeze(-1)

    def log_prob(self, values: Tensor) -> Tensor:
        return self.log_probs.gather(-1, values.long()).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


class Numbers:
    r"""Gaussian with independent coordinates: mean (B,R,d), log standard deviation (d,).

    .. math:: H = \sum_k \log\sigma_k + \tfrac12 \log 2\pi e
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean, log_std

    def draw(self, deterministic: bool = False) -> tuple[Tensor, Tensor]:
        noise = torch.zeros_like(self.mean) if deterministic else torch.randn_like(self.mean)
        values = (self.mean + noise * self.log_std.exp()).detach()
        return values, self.log_prob(values)

    def log_prob(self, values: Tensor) -> Tensor:
        apart = (values - self.mean) / self.log_std.exp()
        return (-0.5 * apart.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().expand(self.mean.shape[:-1])
