"""Which backend runs a policy's actor and critic, and why."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from attn_rl.backends.choose import compiled_of, why_not_gradients, why_not_now
from attn_rl.backends.kernels import build
from attn_rl.backends.kernels.mlp import MlpProgram
from attn_rl.nn.network import SetNetwork
from attn_rl.nn.stages import Opaque

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
