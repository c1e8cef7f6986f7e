"""Adam's step on all parameters at once, instead of on some thirty small tensors one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from attn_rl.compat import fused_adam, has_step_hooks

ATTRIBUTE = "_contiguous_adam"


class ContiguousAdam:
    """The step of a ``torch.optim.Adam``, with weights and moments side by side in memory.

    Parameters and the optimiser's state stay what they are, tensor by tensor, each with a storage of its own size, and
    so does what is saved and pickled: they only lie next to each other.

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
        parts = [self.parameters, *([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))]
        self.weights, *self.moments, self.steps = (side_by_side(part) for part in parts)
        self._placed = [(x, x.data_ptr()) for part in parts for x in part]
        self._addresses = [*map(Tensor.data_ptr, self.parameters)]

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> ContiguousAdam | None:
        """The one of ``optimizer``, made where there is none yet; None where its step is not that of plain Adam."""
        if not cls.can_take(optimizer):
            return None
        found = vars(optimizer).get(ATTRIBUTE)
        if not isinstance(found, cls) or not found.holds(optimizer):
            found = vars(optimizer)[ATTRIBUTE] = cls(optimizer)  # type: ignore[arg-type]
        return found

    def holds(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether everything still lies where it was put."""
        group, state = optimizer.param_groups[0], optimizer.state
        now = [
            *group["params"],
            *(state[p].get(name) for name in ("exp_avg", "exp_avg_sq", "step") for p in group["params"]),
        ]
        return group is self.group and all(
            x is placed and x.data_ptr() == address for x, (placed, address) in zip(now, self._placed, strict=True)
        )

    def weights_in_place(self) -> bool:
        """Whether the weights still lie where they were put."""
        return [*map(Tensor.data_ptr, self.parameters)] == self._addresses

    @staticmethod
    def can_take(optimizer: torch.optim.Optimizer) -> bool:
        """Whether this is plain fused Adam on the CPU, of one group that has always moved together."""
        if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1 or "step" in vars(optimizer):
            return False
        group = optimizer.param_groups[0]
        alike = {(p.dtype, p.device.type, p.requires_grad) for p in group["params"]}
        steps = {float(optimizer.state[p]["step"]) if optimizer.state.get(p) else 0.0 for p in group["params"]}
        other = ("amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay", "foreach")
        plain = bool(group["fused"]) and not any(group.get(name) for name in other)
        has_hook = has_step_hooks(optimizer)
        return plain and not has_hook and len(steps) == 1 and alike == {(torch.float32, "cpu", True)}

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """Move all parameters by their gradient (P,)."""
        self.steps.add_(1)
        fused_adam(self.weights, gradient, self.moments, self.steps[0], self.group)
        increment_version(self.parameters)


@torch.no_grad()
def side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """Move float32 ``tensors`` on the CPU into one stretch of memory, in this order, and return all of it (P,).

    Each keeps a storage of its own, of its own size: pickled alone, it does not carry the others along.
    """
    whole = torch.cat([tensor.detach().flatten() for tensor in tensors])
    memory, offset = whole.numpy(), 0
    for tensor in tensors:
        part = torch.frombuffer(memory, dtype=whole.dtype, count=tensor.numel(), offset=offset * whole.itemsize)
        tensor.data = part.view(tensor.shape)
        offset += tensor.numel()
    return whole
