"""Private names of PyTorch and of its TensorBoard writer that attn_rl uses, in one place.

Those of Stable-Baselines3 are in :mod:`attn_rl.sb3.compat`. ``tests/test_compat.py`` checks all of them against the
installed version and says what needs each.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import SummaryWriter


GLOBAL_HOOKS: tuple[dict[int, Any], ...] = (
    torch_module._global_forward_hooks,
    torch_module._global_forward_pre_hooks,
    torch_module._global_backward_hooks,
    torch_module._global_backward_pre_hooks,
)
"""Hooks on all modules of the process."""


def hooks_of(part: nn.Module) -> tuple[dict[int, Any], ...]:
    """The dictionaries in which ``part`` keeps its hooks; they stay the same objects."""
    return part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks


def parts_of(module: nn.Module) -> tuple[dict[str, Any], ...]:
    """The dictionaries in which ``module`` keeps its modules, parameters and buffers."""
    return module._modules, module._parameters, module._buffers


def why_not_torch() -> str | None:
    """Why PyTorch must see every operation at this moment, None where it need not."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return "PyTorch is tracing or compiling the modules"
    if torch.is_autocast_enabled("cpu"):
        return "autocast chooses the dtypes"
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return "a PyTorch mode follows every operation"
    if torch._C._functorch.maybe_current_level() is not None or torch.autograd.forward_ad._current_level >= 0:
        return "torch.func follows every operation"
    return None


def waits_for_gradient(weight: Tensor) -> bool:
    """Whether a hook is called with the gradient of ``weight``."""
    return bool(weight._backward_hooks or weight._post_accumulate_grad_hooks)


version_of: Callable[[Tensor], int] = attrgetter("_version")
"""PyTorch's count of changes in place."""


def has_step_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a hook is called at the steps of ``optimizer``."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


def scale_all(tensors: list[Tensor], factor: Tensor | float) -> None:
    """Multiply all ``tensors`` in place by a scalar."""
    torch._foreach_mul_(tensors, factor)


def fused_adam(weights: Tensor, gradient: Tensor, moments: list[Tensor], steps: Tensor, group: dict[str, Any]) -> None:
    """The kernel behind ``torch.optim.Adam(fused=True)``, without the checks around it at every step.

    Args:
        weights, gradient: (P,).
        moments: first and second, each (P,).
        steps: how many have been taken with this one, a scalar.
        group: the optimiser's settings.
    """
    beta1, beta2 = group["betas"]
    settings = {name: group[name] for name in ("lr", "weight_decay", "eps")}
    torch._fused_adam_(
        [weights],
        [gradient],
        [moments[0]],
        [moments[1]],
        [],
        [steps],
        **settings,
        beta1=beta1,
        beta2=beta2,
        amsgrad=False,
        maximize=False,
    )


def sum_of_norms(tensors: list[Tensor]) -> Tensor:
    """Return the sum of the tensors' Euclidean norms, a scalar: finite only where every element is."""
    return torch.stack(torch._foreach_norm(tensors)).sum()


def add_summary(writer: SummaryWriter, summary: Summary, step: int | None = None) -> None:
    """Write a ready-made summary: the writer's own methods re-encode pictures."""
    writer._get_file_writer().add_summary(summary, step)
