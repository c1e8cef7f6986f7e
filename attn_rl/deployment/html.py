"""One HTML file in which an agent plays, with its attention drawn; nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

import attn_rl
from attn_rl.deployment.exportable import ExportablePolicy, NotExportable
from attn_rl.deployment.weights import write_weights
from attn_rl.nn.network import AttentionNetwork
from attn_rl.regular_files import refuse_to_replace

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("random.js", "seek.js", "boxes.js", "runtime.js", "page.js")
RULES = {
    "Seek": ("min_entities", "max_entities", "capacity", "penalty", "shaping"),
    "Boxes": ("min_depth", "max_depth", "min_branches", "max_branches", "branch_length", "capacity", "shaping"),
}
"""Environments whose rules the page knows, and the settings that they go by."""
NAMESPACE = "AttnRL/"
BLOCKS = ("ego", "items", "items_present")
"""The blocks of their observations."""


def write_html(exportable: ExportablePolicy, path: Path, model: Any) -> None:
    """Write the page.

    Args:
        exportable: the policy.
        path: of the file, ``page.html``.
        model: the SB3 algorithm that it is of, with its environment.

    Raises:
        NotExportable: an environment whose rules the page does not know, or a part that the runtime cannot compute.
        IrregularFile: ``path`` is a link, a folder or a device.
    """
    refuse_to_replace(path)
    name, env = _environment(model, exportable)
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "policy.safetensors"
        write_weights(exportable, weights)
        config = {
            "environment": name,
            "settings": {setting: env.get_attr(setting)[0] for setting in RULES[name]},
            "n_lead": _n_lead(exportable),
            "steps": int(model.num_timesteps),
            "version": attn_rl.__version__,
            "weights": _base64(weights),
            "wasm": _base64(PAGE / "attn_rl.wasm"),
        }
    parts = {
        "title": f"{name}: a policy of attn_rl",
        "css": (PAGE / "page.css").read_text(encoding="utf-8"),
        "scripts": "\n".join((PAGE / script).read_text(encoding="utf-8") for script in SCRIPTS),
        "config": json.dumps(config).replace("<", "\\u003c"),
    }
    path.write_text(_fill((PAGE / "page.html").read_text(encoding="utf-8"), parts), encoding="utf-8")


def _fill(template: str, parts: Mapping[str, str]) -> str:
    for name, text in parts.items():
        template = template.replace("{{" + name + "}}", text, 1)
    return template


def _environment(model: Any, exportable: ExportablePolicy) -> tuple[str, Any]:
    """The name of the environment that the page plays, and the vector environment."""
    env = model.get_env() if isinstance(model, BaseAlgorithm) else None
    if env is None:
        raise NotExportable("html= needs the environment too: give the algorithm (not its policy), with an environment")
    spec = env.get_attr("spec")[0]
    name = "an environment without an id" if spec is None else spec.id
    ours = NAMESPACE + (short := name.removeprefix(NAMESPACE).removesuffix("-v0")) + "-v0"
    if short not in RULES or name != ours or exportable.inputs != BLOCKS:
        raise NotExportable(
            f"the page knows the rules of {' and '.join(RULES)}, as they are; this is {name}, which shows "
            f"{', '.join(exportable.inputs)}. Export to ONNX or C++ instead"
        )
    return short, env


def _n_lead(exportable: ExportablePolicy) -> int:
    network = exportable.policy.pi_features_extractor.network
    return network.n_lead if isinstance(network, AttentionNetwork) else 0


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
