"""attn-rl export: a trained policy into files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attn_rl.training.share.trained_agent import TrainedAgent, opened


@dataclass(frozen=True)
class Export(TrainedAgent):
    """Write a trained policy into files that run elsewhere: ONNX, torch.export, C++, a page that plays."""

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


def run_export(command: Export) -> None:
    """Write the files and say which."""
    from attn_rl.deployment.export import export
    from attn_rl.training.loading import load
    from attn_rl.vec_envs.adapter import make_vec_env

    with opened(command) as (folder, env_id, env_kwargs):
        model = load(folder, env=make_vec_env(env_id, 1, env_kwargs=env_kwargs))
    files = {name: getattr(command, name) for name in ("onnx", "torch", "cpp", "html")}
    for path in export(model, **files, maps=command.maps):
        print(f"wrote {path}")
