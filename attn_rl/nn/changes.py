"""Whether a part still computes what its class says, and whether a tensor can be read outside of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attn_rl.compat import GLOBAL_HOOKS, hooks_of
from attn_rl.type_names import with_article

FORWARD: dict[type, Callable[..., Any]] = {}
"""What computes a part of each class, as it was when the class was defined: somebody may replace it for all of them."""


def why_changed(part: nn.Module, cls: type) -> str | None:
    """Why ``part`` may not compute what ``cls`` says: it is of another class, has a hook or a patched method."""
    if type(part) is not cls:
        return f"is {with_article(type(part))}, which can only run itself"
    if listeners(part) or any(GLOBAL_HOOKS):
        return "has a hook"
    if cls.forward is not FORWARD.get(cls, cls.forward):
        return f"has a replaced method, forward of all {cls.__name__}"
    replaced = [name for name in vars(part) if callable(getattr(cls, name, None))]
    return f"has a replaced method, {replaced[0]}" if replaced else None


def listeners(part: nn.Module) -> bool:
    """Whether any hook is registered on ``part``."""
    return any(hooks_of(part))


def is_plain(x: Tensor) -> bool:
    """Whether a backend outside PyTorch may read ``x``: float32, on the CPU, one stretch of memory."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.layout == torch.strided and x.is_contiguous()
