"""What a distribution of structured actions says, as plain tensors: for records and their pictures.

Everything is given the likeliest earlier choices (:meth:`StructuredDistribution.mode`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attn_rl.actions import Argument
from attn_rl.sb3.structured.choices import Numbers, OneChoice
from attn_rl.sb3.structured.distribution import StructuredDistribution
from attn_rl.sb3.structured.subsets import AsSet, InOrder

LEAST = 1e-12


def log_probabilities(distribution: StructuredDistribution) -> tuple[Tensor, tuple[int, ...]]:
    """Log-probabilities of every choice of every discrete entry (B, sum of sizes), and the sizes.

    A set has two per slot: out and in. Of what is drawn in order, every turn has its own. Without any discrete entry:
    means and log standard deviations (B,2A), and no sizes. Rows that are not asked are certain, or zeros.
    """
    parts: list[Tensor] = []
    sizes: list[int] = []
    for _, found, asked, values in distribution.given_modes():
        if isinstance(found, Numbers):
            continue
        if isinstance(found, OneChoice):
            log_probs = found.log_probs
        elif isinstance(found, AsSet):
            inside = found.inclusion().clamp(LEAST, 1 - LEAST)
            log_probs = torch.stack([(1 - inside).clamp(min=LEAST).log(), inside.log()], -1)
        elif isinstance(found, InOrder):
            log_probs = found.turns(values)
            certain = torch.nn.functional.one_hot(log_probs.new_zeros(log_probs.shape[:-1]).long(), log_probs.shape[-1])
            log_probs = torch.where(asked[..., None, None], log_probs, certain.clamp(LEAST).log())
        sizes += [log_probs.shape[-1]] * (log_probs[0].numel() // log_probs.shape[-1])
        parts.append(log_probs.flatten(1))
    if parts:
        return torch.cat(parts, 1), tuple(sizes)
    numbers = [(found, asked.unsqueeze(-1)) for _, found, asked, _ in distribution.given_modes()]
    means = [(found.mean * asked).flatten(1) for found, asked in numbers if isinstance(found, Numbers)]
    spreads = [(found.log_std * asked).flatten(1) for found, asked in numbers if isinstance(found, Numbers)]
    return torch.cat([*means, *spreads], 1), ()


def pointing(distribution: StructuredDistribution, capacities: dict[str, int]) -> tuple[Tensor | None, tuple[str, ...]]:
    """Who points at whom: probability of every slot of all types (B,P,N), row by row, and what the P rows are called.

    Rows that are not asked are zeros. Of a set: the probability to be among those taken. Of several that are taken in
    order, every turn has a row.

    Args:
        distribution: what points.
        capacities: slots per type, in the order of the slots; None where nothing points.
    """
    rows: list[Tensor] = []
    labels: list[str] = []
    for argument, found, asked, values in distribution.given_modes():
        if not argument.points_at:
            continue
        likely = _likely(found, values) * asked[..., None, None]  # (B,R,T,C)
        rows.append(_slots(argument, likely.flatten(1, 2), capacities))
        owners = [""] if argument.each is None else [f"{argument.each} {i} " for i in range(likely.shape[1])]
        turns = [""] if likely.shape[2] == 1 else [f" {i + 1}" for i in range(likely.shape[2])]
        labels += [f"{owner}{argument.name}{turn}" for owner in owners for turn in turns]
    return (torch.cat(rows, 1) if rows else None), tuple(labels)


def _likely(found: Any, values: Tensor) -> Tensor:
    """Probability of every choice at every turn (B,R,T,C)."""
    if isinstance(found, OneChoice):
        return found.log_probs.exp().unsqueeze(-2)
    if isinstance(found, AsSet):
        return found.inclusion().unsqueeze(-2)
    by_turn: Tensor = found.turns(values).exp() * found.turn_is_taken().unsqueeze(-1)
    return by_turn


def _slots(argument: Argument, likely: Tensor, capacities: dict[str, int]) -> Tensor:
    """From the choices of an argument (B,R,C) to the slots of all types (B,R,N)."""
    given = dict(
        zip(argument.points_at, likely.split([capacities[name] for name in argument.points_at], -1), strict=True)
    )
    return torch.cat([given.get(name, likely.new_zeros(*likely.shape[:-1], n)) for name, n in capacities.items()], -1)
