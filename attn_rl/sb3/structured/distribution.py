"""The distribution of structured actions, as Stable-Baselines3 asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import torch
from stable_baselines3.common.distributions import MultiCategoricalDistribution
from torch import Tensor

from attn_rl.actions import Argument
from attn_rl.sb3.structured.choices import OneChoice, Rows, refuse_nan
from attn_rl.sb3.structured.head import Chosen, Given, HeadAndScene, StructuredHead
from attn_rl.sb3.structured.layout import Scene
from attn_rl.sb3.structured.subsets import certain_after

MOST_BRANCHES = 32
"""So many earlier choices, all combinations counted, are gone through for the entropy of what depends on them; of more,
one is drawn."""


class StructuredDistribution(MultiCategoricalDistribution):
    r"""Arguments in order, each given the choices before it.

    .. math:: \log p(a) = \sum_k \sum_{r\ \text{asked}} \log p(a_{k,r} \mid a_{<k})

    Rows are independent of each other, given what was asked once. A row that is not asked is certain: its entries are
    0 (nothing taken, of several), its log-probability and its entropy 0, whatever stands in a given action. The entropy
    is exact where earlier choices have at most :data:`MOST_BRANCHES` combinations and nothing is drawn in order;
    otherwise one draw stands for them, unbiased in value and gradient (:func:`inexact` names the arguments).

    The mode is taken argument by argument, each given the modes before it.
    """

    head: StructuredHead
    scene: Scene

    def __init__(self, action_dims: list[int] | None = None) -> None:
        super().__init__(action_dims or [1])
        self._drawn: tuple[Tensor, Tensor] | None = None
        self._independent: dict[str, Rows] = {}

    def proba_distribution(self, action_logits: HeadAndScene) -> StructuredDistribution:  # type: ignore[override]
        """A distribution of its own for what the head returns."""
        made = StructuredDistribution()
        made.head, made.scene = action_logits
        return made

    def actions_from_params(self, action_logits: HeadAndScene, deterministic: bool = False) -> Tensor:  # type: ignore[override]
        """One action each (B, entries)."""
        return self.proba_distribution(action_logits).get_actions(deterministic)

    def log_prob_from_params(self, action_logits: HeadAndScene) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """One drawn action each (B, entries), and its log-probability (B,)."""
        made = self.proba_distribution(action_logits)
        actions = made.sample()
        return actions, made.log_prob(actions)

    def sample(self) -> Tensor:
        """One action each (B, entries).

        Raises:
            ValueError: a probability is NaN.
        """
        return self._draw(False)

    def mode(self) -> Tensor:
        """The likeliest choice of every argument, given those before (B, entries)."""
        return self._draw(True)

    def _draw(self, deterministic: bool) -> Tensor:
        given: dict[str, Chosen] = {}
        total = self.scene.latent.new_zeros(len(self.scene.latent))
        for argument, _, chosen, log_prob in self._one_after_another(deterministic):
            total = total + (log_prob * chosen.asked).sum(1)
            given[argument.name] = chosen
        refuse_nan(total)
        actions = self._pack(given)
        self._drawn = (actions, total)
        return actions

    def _one_after_another(self, deterministic: bool) -> Iterator[tuple[Argument, Rows, Chosen, Tensor]]:
        """Every argument, what it is drawn by, what is drawn, and its log-probability (B,R)."""
        given: dict[str, Chosen] = {}
        for argument in self.arguments:
            asked = self.head.asked(argument, self.scene, given)
            rows = self._rows(argument, given, asked)
            values, log_prob = rows.draw(deterministic)
            given[argument.name] = Chosen(self._only_asked(argument, values, asked), asked)
            yield argument, rows, given[argument.name], log_prob

    def given_modes(self) -> Iterator[tuple[Argument, Rows, Tensor, Tensor]]:
        """Every argument, what it is drawn by after the likeliest earlier choices, who is asked (B,R), its mode."""
        for argument, rows, chosen, _ in self._one_after_another(True):
            yield argument, rows, chosen.asked, chosen.values

    def _rows(self, argument: Argument, given: Given, asked: Tensor) -> Rows:
        """What to draw an argument by; what depends on nothing is computed once."""
        found = self._independent.get(argument.name)
        if found is None:
            found = self.head.head(argument).rows(self.scene, given, asked)
            if not argument.parents:
                self._independent[argument.name] = found
        return found

    def log_prob(self, actions: Tensor) -> Tensor:
        """Of actions (B, entries), or (B,) where there is one entry: (B,)."""
        if self._drawn is not None and self._drawn[0] is actions:
            return self._drawn[1]
        total = self.scene.latent.new_zeros(len(self.scene.latent))
        given: dict[str, Chosen] = {}
        for argument, part in self._unpack(actions):
            asked = self.head.asked(argument, self.scene, given)
            values = self._only_asked(argument, part, asked)
            rows = self._rows(argument, given, asked)
            total = total + torch.where(asked, rows.log_prob(values), torch.zeros_like(total[:, None])).sum(1)
            given[argument.name] = Chosen(values, asked)
        return total

    def entropy(self) -> Tensor:
        """Of each distribution (B,)."""
        whole = [a for a in self.arguments if a.each is None]
        types = list(dict.fromkeys(a.each for a in self.arguments if a.each is not None))
        groups = [[a for a in self.arguments if a.each == name] for name in types]
        one = self.scene.latent.new_ones(len(self.scene.latent), 1)
        return self._entropy(whole, groups, {}, one, MOST_BRANCHES)

    def _entropy(
        self, arguments: list[Argument], then: list[list[Argument]], given: Given, weight: Tensor, branches: int
    ) -> Tensor:
        """Entropy (B,) of ``arguments`` and of each group in ``then``, weighed row by row by ``weight`` (B,R)."""
        if not arguments:
            found = [self._entropy(group, [], given, weight, branches) for group in then]
            return torch.stack(found).sum(0) if found else weight.new_zeros(len(weight))
        argument, rest = arguments[0], arguments[1:]
        asked = self.head.asked(argument, self.scene, given)
        if not bool(asked.any()):
            given = {**given, argument.name: self._unasked(argument, asked)}
            return self._entropy(rest, then, given, weight, branches)
        rows = self._rows(argument, given, asked)
        total = (weight * rows.entropy() * asked).sum(1)
        later = [*rest, *(other for group in then for other in group)]
        for values, factor, left in self._outcomes(argument, rows, asked, later, branches):
            after = {**given, argument.name: Chosen(values, asked)}
            total = total + self._entropy(rest, then, after, weight * factor, left)
        return total

    def _outcomes(
        self, argument: Argument, rows: Rows, asked: Tensor, later: list[Argument], branches: int
    ) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Choices to go on with, how much each weighs (B,R), and how many branches may follow."""
        if not any(argument.name in other.parents for other in later):
            yield self._unasked(argument, asked).values, torch.ones_like(asked, dtype=torch.float32), branches
        elif isinstance(rows, OneChoice) and rows.log_probs.shape[-1] <= branches:
            n = rows.log_probs.shape[-1]
            for choice, probability in enumerate(rows.log_probs.exp().unbind(-1)):
                yield torch.full_like(asked, choice, dtype=torch.long).unsqueeze(-1), probability, branches // n
        else:
            values, log_prob = rows.draw()
            yield self._only_asked(argument, values.detach(), asked), certain_after(log_prob * asked), branches

    @property
    def distribution(self) -> NoReturn:  # type: ignore[override]
        """There is none of PyTorch's."""
        raise AttributeError("structured actions have no distribution of PyTorch's (TRPO wants one); use PPO or A2C")

    # ---- entries of an action --------------------------------------------------------------------------------------

    @property
    def arguments(self) -> list[Argument]:
        """In order."""
        return list(self.head.layout.arguments.values())

    def nothing(self, argument: Argument) -> int:
        """The entry of what is not asked."""
        return argument.size(self.head.layout.capacities) if argument.take else 0

    def _unasked(self, argument: Argument, asked: Tensor) -> Chosen:
        values = torch.full((*asked.shape, argument.width), self.nothing(argument), device=asked.device)
        return Chosen(values, asked)

    def _only_asked(self, argument: Argument, values: Tensor, asked: Tensor) -> Tensor:
        """Values (B,R,width) with rows that are not asked certain."""
        return torch.where(asked.unsqueeze(-1), values, torch.full_like(values, self.nothing(argument)))

    def _pack(self, given: Given) -> Tensor:
        parts = [chosen.values.flatten(1) for chosen in given.values()]
        exact = all(not a.continuous for a in self.arguments)
        return torch.cat([part.long() if exact else part.float() for part in parts], 1)

    def _unpack(self, actions: Tensor) -> Iterator[tuple[Argument, Tensor]]:
        capacities = self.head.layout.capacities
        sizes = [a.rows(capacities) * a.width for a in self.arguments]
        for argument, part in zip(self.arguments, actions.reshape(len(actions), -1).split(sizes, -1), strict=True):
            values = part.unflatten(-1, (-1, argument.width))
            yield argument, values if argument.continuous else values.long()


def inexact(arguments: dict[str, Argument], capacities: dict[str, int]) -> tuple[str, ...]:
    """Arguments from whose entropy one draw stands for all: drawn in order, or after more choices than are counted."""
    found = []
    for name, argument in arguments.items():
        n, pending, counted = 1, list(argument.parents), set[str]()
        while pending:
            earlier = arguments[pending.pop()]
            if earlier.name in counted:
                continue
            counted.add(earlier.name)
            pending += earlier.parents
            n *= MOST_BRANCHES + 1 if earlier.take or earlier.continuous else earlier.size(capacities)
        if n > MOST_BRANCHES or (argument.take > 1 and argument.draw != "set"):
            found.append(name)
    return tuple(found)
