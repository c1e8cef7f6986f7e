"""Which backend runs a policy's actor and critic, or all of it at once, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from torch import nn

from attn_rl.backends.choose import (
    acting_of,
    compiled_of,
    mode_of,
    why_not_gradients,
    why_not_now,
)
from attn_rl.backends.kernels import build
from attn_rl.backends.kernels.acting import ActingProgram, Block
from attn_rl.backends.kernels.mlp import MlpProgram
from attn_rl.backends.kernels.program import make_program
from attn_rl.nn.network import AttentionNetwork, SetNetwork
from attn_rl.nn.normalizer import RunningNormalizer
from attn_rl.nn.stages import Opaque

TRAINING = attrgetter("training")
Layers = dict[str, nn.Module]
"""Linear layers and activations in turn, by their names."""


def actor_and_critic(
    policy: nn.Module, find: Callable[[], tuple[Layers, ...]], learns: bool
) -> tuple[MlpProgram, ...] | str:
    """Actor and critic as C++ takes them, or why it doesn't.

    Args:
        policy: whose they are; what it consists of is looked at, too.
        find: their layers; raises :class:`Opaque`.
        learns: whether gradients are wanted.
    """
    if (reason := why_not_now(policy, learns)) is not None:
        return reason
    compiled = compiled_of(policy, lambda: _make_mlps(find()), lambda: [policy, *_outside_networks(policy)])
    if compiled.program is None:
        return compiled.why_not or ""
    if learns and (reason := why_not_gradients(policy, compiled.snapshot)) is not None:
        return reason
    return compiled.program  # type: ignore[no-any-return]


def _outside_networks(policy: nn.Module) -> list[nn.Module]:
    """All that is in ``policy`` but networks, which are chosen for on their own."""
    inside = {id(part) for module in policy.modules() if isinstance(module, SetNetwork) for part in module.modules()}
    return [module for module in policy.modules() if id(module) not in inside and module is not policy]


def _make_mlps(parts: tuple[Layers, ...]) -> tuple[MlpProgram, ...]:
    if (reason := build.why_not()) is not None:
        raise Opaque("", reason)
    return tuple(MlpProgram(part) for part in parts)


class ActingParts(NamedTuple):
    """What a policy of discrete actions consists of.

    Attributes:
        network: whose first row is read.
        actor, critic: of that row.
        blocks: where an observation holds the network's tokens, in their order.
    """

    network: AttentionNetwork
    actor: Layers
    critic: Layers
    blocks: Sequence[Block]


class WholePolicy(NamedTuple):
    """A policy of discrete actions as one call of C++ takes it.

    Attributes:
        program: what is called.
        network: inside it.
        normalizers: inside that; they may want to see what is learned from.
        modules: all of the policy's.
    """

    program: ActingProgram
    network: AttentionNetwork
    normalizers: list[RunningNormalizer]
    modules: list[nn.Module]

    @property
    def collects(self) -> bool:
        """Whether statistics of what passes are collected now."""
        return any(normalizer.collects for normalizer in self.normalizers)

    @property
    def settled(self) -> bool:
        """Whether entering evaluation mode would change nothing."""
        return not any(map(TRAINING, self.modules)) and not any(x.pending_count for x in self.normalizers)


def whole_policy(policy: nn.Module, find: Callable[[], ActingParts], learns: bool) -> WholePolicy | str:
    """From observation to action, or to PPO's losses, as one call of C++, or why it is not.

    Args:
        policy: whose action it is; what it consists of is looked at.
        find: its parts; raises :class:`Opaque`.
        learns: whether gradients are wanted.
    """
    if (reason := why_not_now(policy, learns)) is not None:
        return reason
    compiled = acting_of(policy, lambda: _make_whole(policy, find()))
    if compiled.program is None:
        return compiled.why_not or ""
    whole: WholePolicy = compiled.program
    if (forced := mode_of(whole.network).forced) not in (None, "kernels"):
        return f"{forced!r} is asked for"
    if learns and (reason := why_not_gradients(policy, compiled.snapshot)) is not None:
        return reason
    return "somebody follows it slot by slot" if whole.program.network.observed else whole


def _make_whole(policy: nn.Module, parts: ActingParts) -> WholePolicy:
    network = make_program(parts.network)
    actor, critic = _make_mlps((parts.actor, parts.critic))
    normalizers = [module for module in parts.network.modules() if isinstance(module, RunningNormalizer)]
    program = ActingProgram(network, actor, critic, parts.blocks)
    return WholePolicy(program, parts.network, normalizers, [*policy.modules()])
