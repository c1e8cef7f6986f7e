"""export: write a trained policy into a file that runs without Python, or without this package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attn_rl.deployment.cpp import write_cpp
from attn_rl.deployment.exportable import ExportablePolicy, exportable_copy
from attn_rl.deployment.graph import write_onnx, write_torch
from attn_rl.deployment.html import write_html


def export(
    model: Any,
    *,
    onnx: str | Path | None = None,
    torch: str | Path | None = None,
    cpp: str | Path | None = None,
    html: str | Path | None = None,
    maps: bool = False,
) -> list[Path]:
    """Write a policy into files, one of each form that is named.

    All answer observations as the environment gives them, with a leading batch dimension and any number of slots, by
    the deterministic action, its distribution and the value. See ``docs/deployment.md``.

    Args:
        model: an SB3 algorithm (PPO, A2C, TRPO) or its policy, with one of our extractors; it stays as it is.
        onnx: an ONNX model, ``policy.onnx``; needs the extra ``onnx``.
        torch: a program of ``torch.export``, ``policy.pt2``.
        cpp: a folder with the weights, a C++17 header that runs them, and an example.
        html: a page that plays the agent, offline; of Seek and Boxes.
        maps: ONNX models and programs also return the attention patterns.

    Returns:
        What was written.

    Raises:
        NotExportable: a policy that has a part of which the form knows nothing; the message names it.
        ValueError: no form is named, or the packages of an extra are missing.
        IrregularFile: a link, a folder or a device would be replaced.
    """
    write_page = partial(write_html, model=model)
    wanted: dict[Callable[[ExportablePolicy, Path], object], str | Path | None] = {
        write_onnx: onnx,
        write_torch: torch,
        write_cpp: cpp,
        write_page: html,
    }
    if not any(wanted.values()):
        raise ValueError(
            "nothing to write; name a file: onnx='policy.onnx', torch='policy.pt2', cpp='folder', html='page.html'"
        )
    exportable = exportable_copy(getattr(model, "policy", model), maps=maps)
    for write, path in wanted.items():
        if path is not None:
            write(exportable, Path(path))
    return [Path(path) for path in wanted.values() if path is not None]
