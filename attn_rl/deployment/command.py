"""attn-rl export: a run's policy into files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Export:
    """Write a run's policy into files that run elsewhere: ONNX, torch.export, C++, a page that plays."""

    run: Positional[Path]
    """Run folder."""
    onnx: Path | None = None
    """ONNX model to write; needs the extra: pip install 'attn_rl[onnx]'."""
    torch: Path | None = None
    """Program of torch.export to write."""
    cpp: Path | None = None
    """Folder to write for C++: the weights, a header that runs them, an example."""
    html: Path | None = None
    """Page to write that plays the agent, offline; of Seek and Boxes."""
    maps: bool = False
    """Let ONNX models and programs also return the attention patterns."""
    env: str | None = None
    """The run's own --env, repeated: needed where it imports a module of yours."""
    policy: str | None = None
    """The run's own --policy with its module, my_module:mine: needed where it is one of yours."""


def run_export(command: Export) -> None:
    """Write the files and say which."""
    from attn_rl.deployment.export import export
    from attn_rl.training.loading import load
    from attn_rl.training.run.repeated import read_repeated_args

    read_repeated_args(command.run, command.env, command.policy)
    model = load(command.run)
    files = {name: getattr(command, name) for name in ("onnx", "torch", "cpp", "html")}
    for path in export(model, **files, maps=command.maps):
        print(f"wrote {path}")
