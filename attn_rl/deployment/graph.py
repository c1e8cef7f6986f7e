"""PyTorch's own exporters: torch.export, and ONNX by way of it. Batch and numbers of slots stay free."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from attn_rl.deployment.description import KEY, describe, input_shapes
from attn_rl.deployment.exportable import ExportablePolicy
from attn_rl.regular_files import refuse_to_replace

ONNX_PACKAGES = ("onnx", "onnxscript")
SMALLEST_FREE_SIZE = 2
"""The smallest size that PyTorch's exporter does not take for a constant."""


def write_torch(exportable: ExportablePolicy, path: Path) -> None:
    """Write what ``torch.export.load(path).module()`` runs.

    Args:
        exportable: the policy.
        path: of the file, ``policy.pt2``.

    Raises:
        IrregularFile: ``path`` is a link, a folder or a device.
    """
    refuse_to_replace(path)
    blocks, shapes = _arguments(exportable)
    with _quiet(), torch.no_grad():
        program = torch.export.export(
            exportable,
            blocks,
            dynamic_shapes=shapes,
            # what it cannot prove of a size, e.g. min(n, n * n) == n, is left to the program: torch.onnx.export does so
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        torch.export.save(program, path, extra_files={f"{KEY}.json": json.dumps(describe(exportable))})


def write_onnx(exportable: ExportablePolicy, path: Path) -> None:
    """Write an ONNX model, with its description in the metadata.

    Args:
        exportable: the policy.
        path: of the file, ``policy.onnx``.

    Raises:
        ValueError: the packages of the extra ``onnx`` are not installed.
        IrregularFile: ``path`` is a link, a folder or a device.
    """
    if lacking := [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(f"ONNX files need {' and '.join(lacking)}: pip install 'attn_rl[onnx]'")
    refuse_to_replace(path)
    blocks, shapes = _arguments(exportable)
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            exportable,
            blocks,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(exportable.inputs),
            output_names=list(exportable.outputs),
            verbose=False,
        )
    program.model.metadata_props[KEY] = json.dumps(describe(exportable))
    program.save(str(path))


def _arguments(exportable: ExportablePolicy) -> tuple[tuple[torch.Tensor, ...], tuple[tuple[dict[int, Any], ...]]]:
    """An observation batch to trace with, and which of its sizes are free."""
    slots = (
        {name: n + SMALLEST_FREE_SIZE for name, n in exportable.spec.capacities.items()}
        if exportable.resizable
        else None
    )
    arrays = exportable.example(batch=3, slots=slots)
    sizes: dict[str, Any] = {}
    shapes = tuple(
        {axis: _dim(size, sizes) for axis, size in enumerate(shape) if isinstance(size, str)}
        for shape in input_shapes(exportable).values()
    )
    return tuple(map(torch.as_tensor, arrays.values())), (shapes,)


def _dim(name: str, known: dict[str, Any]) -> Any:
    """The free size of a name, or of ``"name + number"``."""
    name, _, more = name.partition(" + ")
    dim = known.setdefault(name, Dim(name))
    return dim + int(more) if more else dim


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporter says of packages and operators that no policy has."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
