"""export: write a trained policy into a file that runs without Python, or without this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attn_rl.deployment.acting import acting_copy
from attn_rl.deployment.graph import write_onnx, write_torch


def export(
    model: Any,
    *,
    onnx: str | Path | None = None,
    torch: str | Path | None = None,
    maps: bool = False,
) -> list[Path]:
    """Write a policy into files, one of each form that is named.

    All answer observations as the environment gives them, with a leading batch dimension and any number of slots, by
    the deterministic action, its distribution and the value. See ``docs/deployment.md``.

    Args:
        model: an SB3 algorithm (PPO, A2C, TRPO) or its policy, with one of our extractors; it stays as it is.
        onnx: an ONNX model, ``policy.onnx``; needs the extra ``onnx``.
        torch: a program of ``torch.export``, ``policy.pt2``.
        maps: ONNX models and programs also return the attention patterns.

    Returns:
        What was written.

    Raises:
        NotExportable: a policy that has a part of which the form knows nothing; the message names it.
        ValueError: no form is named.
        ImportError: the packages of an extra are missing.
        IrregularFile: a link, a folder or a device would be replaced.
    """
    wanted = {write_onnx: onnx, write_torch: torch}
    if not any(wanted.values()):
        raise ValueError("nothing to write; name a file: onnx='policy.onnx', torch='policy.pt2'")
    acting = acting_copy(getattr(model, "policy", model), maps=maps)
    for write, path in wanted.items():
        if path is not None:
            write(acting, Path(path))
    return [Path(path) for path in wanted.values() if path is not None]
