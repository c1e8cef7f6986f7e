"""Adam's step on all parameters at once, instead of on some thirty small tensors one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam


class ContiguousAdam:
    """The step of a ``torch.optim.Adam``, with weights and moments side by side in memory.

    Parameters and the optimiser's state stay what they are, tensor by tensor, and so does what is saved: they only
    become views of one stretch of memory. Make one per update; it finds the order of the one before.

    Attributes:
        weights: all parameters (P,).
    """

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        self.group = optimizer.param_groups[0]
        self.parameters: list[Tensor] = self.group["params"]
        states: list[dict[str, Any]] = [optimizer.state[p] for p in self.parameters]
        for parameter, state in zip(self.parameters, states, strict=True):
            if not state:  # before the first step
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter.detach()) for _ in range(2))
        self.weights = side_by_side(self.parameters)
        self.moments = [side_by_side([state[name] for state in states]) for name in ("exp_avg", "exp_avg_sq")]
        self.steps = side_by_side([state["step"] for state in states])

    @staticmethod
    def can_take(optimizer: torch.optim.Optimizer) -> bool:
        """Whether this is plain fused Adam, of one group that has always moved together."""
        if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
            return False
        group = optimizer.param_groups[0]
        alike = {(p.dtype, p.device, p.requires_grad) for p in group["params"]}
        steps = {float(optimizer.state[p]["step"]) if optimizer.state.get(p) else 0.0 for p in group["params"]}
        other = ("amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay")
        plain = bool(group["fused"]) and not any(group.get(name) for name in other)
        heard = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
        return plain and not heard and len(alike) == len(steps) == 1

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """Move all parameters by their gradient (P,)."""
        group, (beta1, beta2) = self.group, self.group["betas"]
        adam(
            [self.weights],
            [gradient],
            [self.moments[0]],
            [self.moments[1]],
            [],
            [self.steps[0]],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        self.steps[1:] = self.steps[0]


@torch.no_grad()
def side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """Move ``tensors`` into one stretch of memory, unless they lie there already, and return it (P,)."""
    first, total = tensors[0], 0
    together = True
    for tensor in tensors:
        same = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        together &= same and tensor.is_contiguous() and tensor.storage_offset() == first.storage_offset() + total
        total += tensor.numel()
    if together:
        return first.detach().as_strided((total,), (1,), first.storage_offset())
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.data = part.view(tensor.shape)
    return flat
