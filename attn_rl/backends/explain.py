"""Telling what runs a model, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from torch import nn

from attn_rl.backends.choose import learning, why_not_kernels, why_not_trimmed
from attn_rl.nn.network import SetNetwork


def explain(model: Any) -> str:
    """Tell which backend acts and learns, part by part, and why not a faster one.

    Args:
        model: an SB3 algorithm, or a policy.
    """
    phases = (("acting", False), ("learning", True))
    return "\n".join(f"{phase}: {part} by {how}" for phase, learns in phases for part, how in parts(model, learns))


def parts(model: Any, learns: bool) -> list[tuple[str, str]]:
    """What acts or ``learns``, part by part: its name and its backend, with the reason against a faster one."""
    policy = getattr(model, "policy", model)
    with learning(policy) if learns and getattr(model, "LEARNS_BY_KERNELS", False) else nullcontext():
        return list(_parts(model, policy, learns))


def _parts(model: Any, policy: nn.Module, learns: bool) -> Iterator[tuple[str, str]]:
    networks = {id(module): name for name, module in policy.named_modules() if isinstance(module, SetNetwork)}
    for module in policy.modules():
        if id(module) in networks and isinstance(module, SetNetwork):
            name = networks[id(module)] if len(networks) > 1 else "network"
            yield name, _backend_of(module, learns)
    if (heads := getattr(policy, "heads_by_kernels", None)) is not None:
        found = heads(learns)
        yield "actor and critic", f"plain, because {found}" if isinstance(found, str) else "kernels"
    if not learns and (why_not_at_once := getattr(policy, "why_not_at_once", None)) is not None:
        found = why_not_at_once()
        yield "observation to action", "one call" if found is None else f"parts, because {found}"
    if learns and (others := getattr(model, "explain_updates", None)) is not None:
        yield from others().items()


def _backend_of(network: SetNetwork, learns: bool) -> str:
    if (reason := why_not_kernels(network, learns)) is None:
        return "kernels"
    trims = learns and why_not_trimmed(network) is None  # updates put it into training mode
    return f"{'trimmed' if trims else 'plain'}, because {reason}"
