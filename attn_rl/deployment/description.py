"""What a file says of itself: names, dtypes and shapes of inputs and outputs, the entities, versions. Plain data."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

import attn_rl
from attn_rl.deployment.exportable import ExportablePolicy
from attn_rl.entities import ACTION_MASK

FORMAT = 1
"""Of the description; another number where its keys mean something else."""
KEY = "attn_rl"
"""Under which the description, as JSON, stands in a file's metadata."""
BATCH = "batch"

Size = int | str
"""Of a dimension: a number, or the name of one that is free."""


def describe(exportable: ExportablePolicy) -> dict[str, Any]:
    """What ``exportable`` takes and returns, as plain data for a file."""
    dtypes = {name: str(array.dtype) for name, array in exportable.example().items()}
    shapes = input_shapes(exportable)
    return {
        "format": FORMAT,
        "inputs": [{"name": name, "dtype": dtypes[name], "shape": shapes[name]} for name in exportable.inputs],
        "outputs": list(exportable.outputs),
        "actions": describe_actions(exportable.actions),
        "entities": exportable.spec.as_dict(),
        "versions": {"attn_rl": attn_rl.__version__, "torch": str(torch.__version__)},
    }


def describe_actions(space: Any) -> dict[str, Any]:
    """An action space, as plain data."""
    found: dict[str, Any] = {"space": type(space).__name__}
    for name in ("n", "nvec", "low", "high", "start"):
        if hasattr(space, name):
            found[name] = np.asarray(getattr(space, name)).tolist()
    return found


def input_shapes(exportable: ExportablePolicy) -> dict[str, list[Size]]:
    """The shape of every input, with names for the sizes that are free."""
    free = slot_names(exportable) if exportable.resizable else {}
    flags = {t.presence_key: t.name for t in exportable.spec.types}
    pointer = exportable.policy.pi_features_extractor.pointer
    found: dict[str, list[Size]] = {}
    for name, array in exportable.example().items():
        shape: list[Size] = [BATCH, *array.shape[1:]]
        if (owner := flags.get(name, name)) in free:
            shape[1] = free[owner]
        if name == ACTION_MASK and pointer in free:
            more = array.shape[1] - exportable.spec.capacities[pointer]
            shape[1] = f"{free[pointer]} + {more}" if more else free[pointer]
        found[name] = shape
    return found


def slot_names(exportable: ExportablePolicy) -> dict[str, str]:
    """What the number of slots of every type is called."""
    return {t.name: "n_" + re.sub(r"\W", "_", t.name) for t in exportable.spec.types}
