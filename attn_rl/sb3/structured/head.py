"""Scores of every argument, from the actor's latent, the entities' tokens and the choices made before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attn_rl.actions import Argument
from attn_rl.sb3.structured.choices import Numbers, OneChoice, Rows, forbid
from attn_rl.sb3.structured.layout import Scene, StructuredLayout, joined
from attn_rl.sb3.structured.subsets import AsSet, InOrder

D_HIDDEN = 64
D_KEY = 32
FIRST_LOG_STD = 0.0
"""As in Stable-Baselines3: a standard deviation of 1 to begin with."""


class Chosen:
    """What was chosen for an argument.

    Attributes:
        values: (B,R,width).
        asked: which rows were asked, boolean (B,R).
    """

    def __init__(self, values: Tensor, asked: Tensor) -> None:
        self.values, self.asked = values, asked


Given = Mapping[str, Chosen]
"""What was chosen before, by argument."""


class ArgumentHead(nn.Module):
    r"""One argument's scores for every row, after earlier choices.

    .. math:: h_r = \mathrm{relu}\Big(W_c\, \mathrm{latent} + W_t\, \mathrm{token}_r + \sum_{a\ \text{seen}} e_a\Big)

    :math:`e_a` is a learned vector of the choice, a projection of the tokens pointed at (their mean, of several) or of
    the numbers. Choices score :math:`W h_r`, entities :math:`(W_q h_r) \cdot (W_k\, \mathrm{token}_i) / \sqrt{d}`
    (Vinyals et al. 2015 as Kool et al. 2019 have it), numbers have the mean :math:`W h_r`. The same weights serve all
    rows and all entities.
    """

    def __init__(self, argument: Argument, arguments: Mapping[str, Argument], d_token: int, d_latent: int) -> None:
        super().__init__()
        self.argument = argument
        self.from_latent = nn.Linear(d_latent, D_HIDDEN)
        self.from_row = nn.Linear(d_token, D_HIDDEN, bias=False) if argument.each else None
        self.seen = nn.ModuleList(_seen(arguments[name], d_token) for name in argument.sees)
        self.arguments = [arguments[name] for name in argument.sees]
        self.out = nn.Linear(D_HIDDEN, len(argument.choices) or argument.continuous or D_KEY)
        self.key: Any = nn.Linear(d_token, D_KEY, bias=False) if argument.points_at else None
        self.taken: Any = (
            nn.Linear(d_token, D_HIDDEN, bias=False) if argument.draw == "in_turn" and argument.take else None
        )
        self.log_std = nn.Parameter(torch.full((argument.continuous,), FIRST_LOG_STD)) if argument.continuous else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew: orthogonal, the last layer close to zero: all choices are alike to begin with."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, 0.01 if module is self.out else 2**0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def hidden(self, scene: Scene, given: Given) -> Tensor:
        """Before the nonlinearity: (B,R,D_HIDDEN)."""
        found: Tensor = self.from_latent(scene.latent).unsqueeze(1)
        if self.from_row is not None:
            found = found + self.from_row(scene.tokens[self.argument.each or ""])
        for argument, layer in zip(self.arguments, self.seen, strict=True):
            chosen = given[argument.name]
            found = found + _shown(argument, layer, chosen, scene) * chosen.asked.unsqueeze(-1)
        return found

    def keys(self, scene: Scene) -> Tensor:
        """Of what can be pointed at (B,C,D_KEY)."""
        found: Tensor = self.key(joined(scene.tokens, self.argument.points_at)) * D_KEY**-0.5
        return found

    def rows(self, scene: Scene, given: Given, asked: Tensor) -> Rows:
        """What to draw by.

        Args:
            scene: what is there.
            given: what was chosen before.
            asked: rows that are asked (B,R), boolean.
        """
        argument, hidden = self.argument, self.hidden(scene, given)
        hidden = hidden.expand(-1, asked.shape[1], -1)
        if self.log_std is not None:
            return Numbers(self.out(torch.relu(hidden)), self.log_std)
        valid = self.valid(scene, given) & asked.unsqueeze(-1)
        if self.key is None:
            scores = self.out(torch.relu(hidden))
            return OneChoice(forbid(scores, valid.expand_as(scores)))
        keys = self.keys(scene).transpose(1, 2)
        if self.taken is not None:
            return InOrder(lambda before: self._in_turn(scene, hidden, keys, before), valid, argument.take)
        scores = self.out(torch.relu(hidden)) @ keys
        if not argument.take:
            return OneChoice(forbid(scores, valid))
        if argument.draw == "set":
            return AsSet(scores, valid, argument.take)
        return InOrder(lambda before: _every_turn(scores, before), valid, argument.take, scores)

    def _in_turn(self, scene: Scene, hidden: Tensor, keys: Tensor, before: Tensor) -> Tensor:
        """Scores of all turns after ``before`` (B,R,J): (B,R,J+1,C)."""
        shown = nn.functional.pad(self.taken(joined(scene.tokens, self.argument.points_at)), (0, 0, 0, 1))
        one_by_one = _gather(shown, before).cumsum(-2)
        turn = torch.arange(1, before.shape[-1] + 1, device=before.device).unsqueeze(-1)
        so_far = nn.functional.pad(one_by_one / turn, (0, 0, 1, 0))
        found: Tensor = self.out(torch.relu(hidden.unsqueeze(-2) + so_far)) @ keys.unsqueeze(1)
        return found

    def valid(self, scene: Scene, given: Given) -> Tensor:
        """What can be chosen, boolean (B,R,C), or (B,1,C) where it is the same in all rows."""
        argument = self.argument
        found = scene.latent.new_ones(len(scene.latent), 1, 1).bool()
        if argument.points_at:
            found = joined(scene.present, argument.points_at).unsqueeze(1)
        if argument.mask is None:
            return found
        flags = scene.masks[argument.mask]
        flags = flags if argument.each else flags.unsqueeze(1)
        if argument.mask_by is not None:
            by = given[argument.mask_by].values[..., :1].expand(-1, flags.shape[1], -1)
            index = by.long().unsqueeze(-1).expand(-1, -1, 1, flags.shape[-1])
            flags = flags.gather(2, index).squeeze(2)
        return found & flags


def _seen(argument: Argument, d_token: int) -> nn.Module:
    """What shows the choice of an earlier argument."""
    if argument.choices:
        return nn.Embedding(len(argument.choices), D_HIDDEN)
    return nn.Linear(argument.continuous or d_token, D_HIDDEN, bias=False)


def _shown(argument: Argument, layer: Any, chosen: Chosen, scene: Scene) -> Tensor:
    """A choice as a vector (B,R,D_HIDDEN)."""
    values = chosen.values
    if argument.continuous:
        numbers: Tensor = layer(values.to(scene.latent.dtype))
        return numbers
    if argument.choices:
        choice: Tensor = layer(values[..., 0].long())
        return choice
    projected: Tensor = layer(joined(scene.tokens, argument.points_at))
    found = _gather(nn.functional.pad(projected, (0, 0, 0, 1)), values.long())  # nothing is zeros
    return found.mean(-2)


def _gather(rows: Tensor, index: Tensor) -> Tensor:
    """rows (B,C,H), index (B,R,J) -> (B,R,J,H)."""
    flat = index.flatten(1).unsqueeze(-1).expand(-1, -1, rows.shape[-1])
    found: Tensor = rows.gather(1, flat).unflatten(1, index.shape[1:])
    return found


def _every_turn(scores: Tensor, before: Tensor) -> Tensor:
    return scores.unsqueeze(-2).expand(-1, -1, before.shape[-1] + 1, -1)


class HeadAndScene(NamedTuple):
    """What a distribution of structured actions is made from."""

    head: StructuredHead
    scene: Scene


class StructuredHead(nn.Module):
    """What SB3 calls ``action_net``: one head for each argument."""

    def __init__(self, layout: StructuredLayout, d_latent: int) -> None:
        super().__init__()
        self.layout, self.d_latent = layout, d_latent
        arguments = layout.arguments
        self.heads = nn.ModuleList(ArgumentHead(a, arguments, layout.d_token, d_latent) for a in arguments.values())

    def forward(self, inputs: Tensor) -> HeadAndScene:
        """(B, latent_dim_pi) as :class:`attn_rl.sb3.action_head.HeadInputs` packs it -> what the distribution asks."""
        return HeadAndScene(self, self.layout.scene(inputs[:, : self.d_latent], inputs[:, self.d_latent :]))

    def head(self, argument: Argument) -> ArgumentHead:
        """The head of an argument."""
        found: Any = self.heads[list(self.layout.arguments).index(argument.name)]
        return found  # type: ignore[no-any-return]

    def asked(self, argument: Argument, scene: Scene, given: Given) -> Tensor:
        """Which rows are asked, boolean (B,R): those that are there and whose earlier choices ask for it."""
        if argument.each is None:
            found = scene.latent.new_ones(len(scene.latent), 1).bool()
        else:
            found = scene.present[argument.each]
        for name, choices in argument.when:
            earlier = given[name]
            hit = torch.zeros_like(earlier.asked)
            for choice in choices:
                hit = hit | (earlier.values[..., 0].long() == choice)
            found = found & earlier.asked & hit
        return found
