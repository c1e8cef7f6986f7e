r"""Several of many, without replacement: in order, or as a set. Shapes: B batch, R rows, C choices, K at most taken.

Where fewer than K can be chosen, all of them are; the entries that are left over say C: nothing.

**In order** (Plackett 1975, Luce 1959): the choice is drawn again and again from what is left,

.. math:: \log p(a) = \sum_j \Big( s^{(j)}_{a_j} - \log \sum_{i \notin \{a_1 \ldots a_{j-1}\}} e^{s^{(j)}_i} \Big).

For a *ranking* the scores are the same at every turn, and one race draws all (Gumbel top-k, Kool et al. 2019). *In
turn*, scores depend on what was taken before. Entropy: the sum of the turns' entropies along one draw, unbiased in
value and gradient.

**As a set** (conditional Bernoulli, Chen & Liu 1997): sets of n elements in proportion to the product of their weights,

.. math:: p(S) = \frac{\prod_{i \in S} e^{s_i}}{e_n(e^{s_1}, \ldots, e^{s_C})},

with the elementary symmetric polynomial :math:`e_n`. The likeliest set is that of the n largest scores. The polynomial,
draws and the entropy come from a binary tree over the choices (:class:`Tree`): exact, in log C steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attn_rl.sb3.structured.choices import FORBIDDEN, race


def certain_after(log_prob: Tensor) -> Tensor:
    """Factors of value 1 whose gradient is that of ``log_prob``: they make an estimate's gradient unbiased."""
    return 1 + log_prob - log_prob.detach()


class InOrder:
    """Drawn one after another.

    Args:
        scores: given what was taken before, indices (B,R,J) with C for nothing, the scores (B,R,J+1,C) of the turns 1
            to J+1 without regard to what can still be chosen.
        valid: what can be chosen (B,R,C), boolean.
        take: K.
        ranking: scores (B,R,C) that hold for all turns, where they do.
    """

    def __init__(
        self, scores: Callable[[Tensor], Tensor], valid: Tensor, take: int, ranking: Tensor | None = None
    ) -> None:
        self.scores, self.valid, self.take, self.ranking = scores, valid, take, ranking
        self.n_taken = valid.sum(-1).clamp(max=take)

    def _log_probs(self, before: Tensor) -> Tensor:
        """Of turns 1 to J+1, (B,R,J+1,C), after ``before`` (B,R,J)."""
        n = self.valid.shape[-1]
        taken = torch.nn.functional.one_hot(before, n + 1)[..., :n].cumsum(-2).bool()
        left = torch.cat([self.valid.unsqueeze(-2), self.valid.unsqueeze(-2) & ~taken], -2)
        return self.scores(before).masked_fill(~left, FORBIDDEN).log_softmax(-1)

    def _turns(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of each turn's choices (B,R,K,C), and of the one that was made (B,R,K)."""
        log_probs = self._log_probs(values[..., :-1])
        n = log_probs.shape[-1]
        made = log_probs.gather(-1, values.clamp(max=n - 1).unsqueeze(-1)).squeeze(-1)
        return log_probs, torch.where(self.turn_is_taken(), made, torch.zeros_like(made))

    def turn_is_taken(self) -> Tensor:
        """Whether there is something left to choose in a turn (B,R,K), boolean."""
        return torch.arange(self.take, device=self.valid.device) < self.n_taken.unsqueeze(-1)

    def turns(self, values: Tensor) -> Tensor:
        """Log-probabilities of every choice in every turn (B,R,K,C), given that ``values`` (B,R,K) were taken."""
        return self._turns(values)[0]

    def draw(self, deterministic: bool = False) -> tuple[Tensor, Tensor]:
        values = self._draw(deterministic)
        return values, self.log_prob(values)

    @torch.no_grad()
    def _draw(self, deterministic: bool) -> Tensor:
        n = self.valid.shape[-1]
        if self.ranking is not None:
            scores = self.ranking.masked_fill(~self.valid, FORBIDDEN)
            scores = scores if deterministic else race(scores)
            best = scores.masked_fill(~self.valid, FORBIDDEN).argsort(-1, descending=True)[..., : self.take]
            best = torch.nn.functional.pad(best, (0, self.take - best.shape[-1]), value=n)
            return best.masked_fill(~self.turn_is_taken(), n)
        values = self.valid.new_zeros((*self.valid.shape[:-1], 0), dtype=torch.long)
        for turn in range(self.take):
            log_probs = self._log_probs(values)[..., -1, :]
            chosen = (log_probs if deterministic else race(log_probs)).argmax(-1)
            chosen = chosen.masked_fill(turn >= self.n_taken, n)
            values = torch.cat([values, chosen.unsqueeze(-1)], -1)
        return values

    def log_prob(self, values: Tensor) -> Tensor:
        return self._turns(values.long())[1].sum(-1)

    def entropy(self) -> Tensor:
        values = self._draw(False)
        log_probs, made = self._turns(values)
        of_turn = -(log_probs.exp() * log_probs).sum(-1) * self.turn_is_taken()
        so_far = torch.nn.functional.pad(made, (1, 0)).cumsum(-1)[..., :-1]
        return (of_turn * certain_after(so_far)).sum(-1)


class Tree:
    """Elementary symmetric polynomials of weights exp(scores), up to degree K, over a binary tree of the choices.

    A node holds, for every k, the log of the sum over all sets of k of its leaves of the product of their weights.

    Args:
        scores: (...,C), forbidden ones :data:`FORBIDDEN`.
        degree: K.
    """

    def __init__(self, scores: Tensor, degree: int) -> None:
        n = scores.shape[-1]
        n_leaves = 1 << max(n - 1, 0).bit_length()
        padded = torch.nn.functional.pad(scores, (0, n_leaves - n), value=FORBIDDEN)
        leaf = torch.stack([torch.zeros_like(padded), padded], -1)
        self.degree = degree
        self.levels = [torch.nn.functional.pad(leaf, (0, max(degree - 1, 0)), value=FORBIDDEN)]  # (...,nodes,K+1)
        while self.levels[-1].shape[-2] > 1:
            self.levels.append(self._splits(self.levels[-1]).logsumexp(-1).clamp(min=FORBIDDEN))

    def _splits(self, level: Tensor) -> Tensor:
        """Of every parent and k, the log-weight of taking j of k on the left: (...,nodes/2,K+1,K+1)."""
        left, right = level[..., 0::2, :], level[..., 1::2, :]
        width = left.shape[-1]
        k, j = torch.meshgrid(*[torch.arange(width, device=level.device)] * 2, indexing="ij")
        other = right[..., (k - j).clamp(min=0)].masked_fill(j > k, FORBIDDEN)
        return left.unsqueeze(-2) + other

    def log_total(self, n: Tensor) -> Tensor:
        """Log of the polynomial of degree n: n (...) -> (...)."""
        return self.levels[-1][..., 0, :].gather(-1, n.unsqueeze(-1)).squeeze(-1)

    def entropy(self, n: Tensor) -> Tensor:
        """Of the set of n elements, (...): what is split at a node, then within both halves."""
        found = torch.zeros_like(self.levels[0])
        for level in self.levels[:-1]:
            log_p = self._splits(level).log_softmax(-1)
            width = log_p.shape[-1]
            k, j = torch.meshgrid(*[torch.arange(width, device=n.device)] * 2, indexing="ij")
            below = found[..., 0::2, :].unsqueeze(-2) + found[..., 1::2, :][..., (k - j).clamp(min=0)]
            found = (log_p.exp() * (below - log_p)).sum(-1)
        return found[..., 0, :].gather(-1, n.unsqueeze(-1)).squeeze(-1)

    def draw(self, n: Tensor) -> Tensor:
        """Which leaves are in a set of n elements: (...) -> boolean (..., leaves)."""
        counts = n.unsqueeze(-1)
        for level in reversed(self.levels[:-1]):
            splits = self._splits(level)  # (...,nodes,K+1,K+1)
            index = counts.unsqueeze(-1).unsqueeze(-1).expand(*counts.shape, 1, splits.shape[-1])
            left = race(splits.gather(-2, index).squeeze(-2)).argmax(-1)
            counts = torch.stack([left, counts - left], -1).flatten(-2)
        return counts > 0


class AsSet:
    """A set of n elements, n = K or as many as can be chosen.

    Args:
        scores: (B,R,C).
        valid: what can be chosen (B,R,C), boolean.
        take: K.
    """

    def __init__(self, scores: Tensor, valid: Tensor, take: int) -> None:
        self.valid, self.take = valid, take
        scores = scores - scores.masked_fill(~valid, FORBIDDEN).amax(-1, keepdim=True).detach().clamp(min=FORBIDDEN / 2)
        self.scores = scores.masked_fill(~valid, FORBIDDEN)
        self.n_taken = valid.sum(-1).clamp(max=take)
        self.tree = Tree(self.scores, take)

    def draw(self, deterministic: bool = False) -> tuple[Tensor, Tensor]:
        n = self.valid.shape[-1]
        with torch.no_grad():
            if deterministic:
                order = self.scores.argsort(dim=-1, descending=True, stable=True).argsort(-1)
                chosen = order < self.n_taken.unsqueeze(-1)
            else:
                chosen = self.tree.draw(self.n_taken)[..., :n]
            slots = torch.arange(n, device=chosen.device).expand(chosen.shape).masked_fill(~chosen, n)
            slots = slots.sort(-1).values[..., : self.take]
            values = torch.nn.functional.pad(slots, (0, self.take - slots.shape[-1]), value=n)
        return values, self.log_prob(values)

    def log_prob(self, values: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(self.scores, (0, 1))  # nothing weighs nothing
        return padded.gather(-1, values.long()).sum(-1) - self.tree.log_total(self.n_taken)

    def entropy(self) -> Tensor:
        return self.tree.entropy(self.n_taken)

    def inclusion(self) -> Tensor:
        """Probability of every choice to be in the set (B,R,C): the gradient of log e_n by the scores."""
        with torch.enable_grad():
            scores = self.scores.detach().requires_grad_()
            total = Tree(scores, self.take).log_total(self.n_taken)
            return torch.autograd.grad(total.sum(), scores)[0].masked_fill(~self.valid, 0.0)
