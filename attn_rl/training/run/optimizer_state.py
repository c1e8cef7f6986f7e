"""An optimiser's state as arrays and JSON, and back: only what the agent's own optimiser would have."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attn_rl.sb3.contiguous_adam import ContiguousAdam
from attn_rl.training.run.checkpoint import Arrays, Checkpoint

CHANGING = ("lr",)
"""Options that a run changes; all others must be the agent's."""

IMPLEMENTATION = ("fused", "foreach", "capturable")
"""Options that say how, not what: the agent's own hold."""

NEVER_NEGATIVE = ("step", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "sum")


class DoesNotFit(ValueError):
    """Trained weights, or an optimiser's or environments' state, cannot serve an agent."""


def pack_optimizer(state_dict: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
    """Split an optimiser's state into arrays ``"<parameter index>.<name>"`` and JSON."""
    arrays = {
        f"{index}.{name}": value.detach().cpu().numpy().copy()
        for index, entry in state_dict["state"].items()
        for name, value in entry.items()
    }
    return arrays, {"param_groups": state_dict["param_groups"]}


def unpack_optimizer(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put together a ``state_dict`` again.

    Args:
        checkpoint: with what :func:`pack_optimizer` returned.
        optimizer: that will take it.

    Raises:
        DoesNotFit: other parameters, options, names, shapes or dtypes than the optimiser's own, a tensor missing, a
            negative second moment or step, or anything that is not finite.
    """
    groups = _groups(checkpoint.state.get("optimizer"), optimizer.state_dict()["param_groups"])
    got = {key: (array.shape, str(array.dtype)) for key, array in checkpoint.optimizer.items()}
    stepped = bool(got) or checkpoint.state.get("counters", {}).get("_n_updates", 0) > 0
    wanted = {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in expected_state(optimizer).items()
        if stepped and (ContiguousAdam.can_take(optimizer) or _begins_alike(got, key))
    }
    for key in sorted(got.keys() | wanted.keys()):
        if got.get(key) != wanted.get(key):
            raise DoesNotFit(
                f"the optimiser's state does not fit: {key!r} is {got.get(key, 'missing')} in the checkpoint, "
                f"{wanted.get(key, 'unknown')} in this agent; settings differ, or the file is forged"
            )
    state: dict[int, dict[str, Tensor]] = {}
    for key, array in checkpoint.optimizer.items():
        index, name = key.split(".", 1)
        _refuse_impossible(key, name, array)
        state.setdefault(int(index), {})[name] = torch.from_numpy(array)
    return {"state": state, "param_groups": groups}


def _begins_alike(keys: Iterable[str], key: str) -> bool:
    """Whether a parameter has any state: most optimisers have none where there never was a gradient."""
    return any(other.split(".", 1)[0] == key.split(".", 1)[0] for other in keys)


def expected_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state that an optimiser has after its first step, ``"<parameter index>.<name>"``: names, shapes and dtypes.

    Found by letting a second optimiser of the same class step over zeros.
    """
    copies = [
        {**group, "params": [torch.zeros_like(p, requires_grad=True) for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    takes = inspect.signature(type(optimizer)).parameters
    twin: torch.optim.Optimizer = type(optimizer)(
        copies, **{name: value for name, value in optimizer.defaults.items() if name in takes}
    )
    for group in copies:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    twin.step()
    state = twin.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def _groups(saved: object, current: list[dict[str, object]]) -> list[dict[str, object]]:
    """The parameter groups of the optimiser, with what a run changes out of the file."""
    groups = saved.get("param_groups") if isinstance(saved, Mapping) else None
    if not isinstance(groups, list) or len(groups) != len(current) or not all(isinstance(g, dict) for g in groups):
        raise DoesNotFit("the optimiser's parameter groups are not those of this agent")
    return [_group(group, own) for group, own in zip(groups, current, strict=True)]


def _group(group: dict[str, Any], own: dict[str, object]) -> dict[str, object]:
    if sorted(group) != sorted(own):
        raise DoesNotFit(f"the optimiser has the options {sorted(own)}, the checkpoint {sorted(group)}")
    changed = {}
    for name, value in group.items():
        if name in CHANGING:
            if type(value) not in (int, float) or not 0 <= value < float("inf"):
                raise DoesNotFit(f"the optimiser's {name} is {value!r} in the checkpoint; expected a positive number")
            changed[name] = value
        elif name not in IMPLEMENTATION and _plain(value) != _plain(own[name]):
            raise DoesNotFit(f"the optimiser's {name} is {own[name]!r} in this agent, {value!r} in the checkpoint")
    return own | changed


def _plain(value: object) -> object:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _refuse_impossible(key: str, name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DoesNotFit(f"the optimiser's {key!r} holds NaN or inf")
    if name in NEVER_NEGATIVE and (array < 0).any():
        raise DoesNotFit(f"the optimiser's {key!r} is negative: a sum of squares and a count of steps never are")
    if name == "step" and ((array != np.floor(array)) | (array > 1 << 24)).any():
        raise DoesNotFit(f"the optimiser's {key!r} is {array}; expected a whole number")
