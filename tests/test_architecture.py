"""The direction of imports, read off the source, and the cleanliness of importing the package."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"attn_rl", "envs", "train", "benchmarks", "tests"}
FORBIDDEN = {  # part of the source -> what it must never import, nearest prefix counts
    "envs": {"torch", "stable_baselines3", "sb3_contrib", "matplotlib", "attn_rl", "train"},
    "attn_rl/nn": {
        *("stable_baselines3", "sb3_contrib", "gymnasium", "matplotlib", "PIL", "envs", "train"),
        *("attn_rl.entities", "attn_rl.sb3", "attn_rl.inspection", "attn_rl.training", "attn_rl.cli"),
        "attn_rl.backends",  # nn says what is computed, backends say how
    },
    "attn_rl/backends": {
        *("stable_baselines3", "sb3_contrib", "gymnasium", "matplotlib", "PIL", "envs", "train"),
        *("attn_rl.entities", "attn_rl.sb3", "attn_rl.inspection", "attn_rl.training", "attn_rl.cli"),
    },
    "attn_rl/compat.py": {
        *("stable_baselines3", "sb3_contrib", "gymnasium", "matplotlib", "PIL", "envs", "train"),
        *("attn_rl.nn", "attn_rl.backends", "attn_rl.entities", "attn_rl.sb3", "attn_rl.inspection"),
    },
    "attn_rl/entities.py": {
        *("stable_baselines3", "sb3_contrib", "matplotlib", "PIL", "envs", "train"),
        *("attn_rl.nn", "attn_rl.sb3", "attn_rl.inspection", "attn_rl.training", "attn_rl.cli"),
    },
    **{
        f"attn_rl/{room}": {
            *("torch", "stable_baselines3", "sb3_contrib", "matplotlib", "PIL", "envs", "train", "attn_rl.entities"),
            *("attn_rl.nn", "attn_rl.sb3", "attn_rl.inspection", "attn_rl.training", "attn_rl.cli"),
        }
        for room in ("wrappers", "adapters")
    },
    **{
        f"attn_rl/{room}": {
            *("matplotlib", "PIL", "envs", "train", "attn_rl.inspection", "attn_rl.training", "attn_rl.cli"),
        }
        for room in ("sb3", "vec_envs")
    },
    "attn_rl/inspection": {"envs", "train", "attn_rl.training", "attn_rl.cli"},
    **{
        f"attn_rl/inspection/{name}.py": {"envs", "train", "attn_rl.training", "attn_rl.cli", "matplotlib", "PIL"}
        for name in ("record/recorder", "measure/metrics", "tensorboard/callback")
    },
    "attn_rl/deployment": {"envs", "train", "attn_rl.cli", "attn_rl.inspection"},
    "attn_rl/training": {"envs", "train", "attn_rl.cli", "attn_rl.ray"},
    "attn_rl/ray": {"envs", "train", "attn_rl.cli"},
    "attn_rl": {"envs", "train", "benchmarks", "tests"},
    "attn_rl/__init__.py": {"envs", "train", "benchmarks", "tests"},  # registers attn_rl.envs
}
ONLY_THERE = {  # heavy or optional package -> the only places that may import it
    "matplotlib": ("attn_rl/inspection", "benchmarks"),
    "PIL": ("attn_rl/inspection", "envs", "benchmarks"),
    "highway_env": ("attn_rl/adapters/highway.py", "benchmarks"),
    "minatar": ("attn_rl/adapters/minatar.py", "attn_rl/adapters/minatar_batch.py", "benchmarks"),
    "wandb": ("attn_rl/inspection/trackers.py",),
    "mlflow": ("attn_rl/inspection/trackers.py",),
    "huggingface_hub": ("attn_rl/training/share/hub.py",),
    **dict.fromkeys(("rl_zoo3", "yaml"), ("attn_rl/training/rl_zoo",)),
    "optuna": ("attn_rl/training/rl_zoo", "attn_rl/training/tune"),
    "ray": ("attn_rl/ray", "attn_rl/training/tune", "benchmarks"),
    "minigrid": ("attn_rl/adapters/minigrid.py", "attn_rl/adapters/minigrid_views.py", "benchmarks"),
    "onnxruntime": ("benchmarks",),  # whoever runs a model; PyTorch writes it
    "sb3_contrib": ("attn_rl/sb3/maskable.py", "attn_rl/training", "attn_rl/cli.py", "benchmarks", "train.py"),
}


def sources() -> list[str]:
    folders = ("attn_rl", "envs", "benchmarks")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in [*found, *ROOT.glob("train.py")])


def imports(tree: ast.AST, path: str) -> set[str]:
    """Every dotted name that the source imports, inside functions too; relative imports resolved."""
    package = path.removesuffix(".py").split("/")[:-1]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def reaches(name: str, target: str) -> bool:
    return name == target or name.startswith(target + ".")


def violations(path: str, names: set[str]) -> list[str]:
    parts = [part for part in FORBIDDEN if path == part or path.startswith(part + "/")]
    forbidden = FORBIDDEN[max(parts, key=len)] if parts else set()
    if "envs" in forbidden and path != "attn_rl/__init__.py":
        forbidden = forbidden | {"attn_rl.envs"}  # the same folder, as it is called in an installed package
    broken = [f"{path} imports {name}" for name in names for target in forbidden if reaches(name, target)]
    for target, places in ONLY_THERE.items():
        if not any(path == place or path.startswith(place + "/") for place in places):
            broken += [f"{path} imports {name}" for name in names if reaches(name, target)]
    return broken


@pytest.mark.parametrize("path", sources())
def test_imports_point_the_right_way(path):
    assert violations(path, imports(ast.parse((ROOT / path).read_text()), path)) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("envs/seek.py", "import torch"),
        ("envs/seek.py", "def f():\n    from attn_rl import attend"),
        ("attn_rl/nn/attention.py", "from gymnasium import spaces"),
        ("attn_rl/nn/encoder.py", "from ..sb3 import extractor"),
        ("attn_rl/nn/network.py", "from attn_rl.backends.choose import encode"),
        ("attn_rl/backends/choose.py", "from attn_rl.sb3.policy import EntityAttentionPolicy"),
        ("attn_rl/compat.py", "from attn_rl.nn import stages"),
        ("attn_rl/nn/encoder.py", "from attn_rl import entities"),
        ("attn_rl/entities.py", "from .sb3.policy import EntityAttentionPolicy"),
        ("attn_rl/wrappers/block.py", "import torch"),
        ("attn_rl/adapters/families.py", "import highway_env"),
        ("attn_rl/sb3/policy.py", "from attn_rl.inspection import recorder"),
        ("attn_rl/inspection/measure/metrics.py", "import attn_rl.training.run.checkpoint"),
        ("attn_rl/inspection/tensorboard/callback.py", "import envs.seek"),
        ("attn_rl/inspection/record/recorder.py", "from PIL import Image"),
        ("attn_rl/training/guarded_ppo.py", "from envs import batched"),
        ("attn_rl/training/guarded_ppo.py", "from attn_rl.envs import batched"),
        ("attn_rl/training/guarded_ppo.py", "import matplotlib.pyplot as plt"),
    ],
)
def test_the_check_itself_can_fail(path, source):
    assert violations(path, imports(ast.parse(source), path))


def test_each_source_file_stays_readable():
    """A file over 300 lines is asking to be two."""
    long = {path: n for path in sources() if (n := len((ROOT / path).read_text().splitlines())) > 300}
    assert long == {}


def test_no_drawer_for_everything():
    assert [path for path in sources() if Path(path).stem in {"utils", "common", "helpers", "misc"}] == []


STATE = """
import json, random, signal, sys, warnings, logging, os, threading
import numpy, torch, gymnasium, stable_baselines3, tensorboard
def state():
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads(), threading.active_count()),
        "torch": torch.get_rng_state().tolist(), "numpy": repr(numpy.random.get_state()),
        "python": repr(random.getstate()), "warnings": repr(warnings.filters), "dtype": str(torch.get_default_dtype()),
        "grad": torch.is_grad_enabled(), "deterministic": torch.are_deterministic_algorithms_enabled(),
        "errors": repr(numpy.geterr()), "environ": dict(os.environ), "path": sys.path,
        "signals": [repr(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)],
        "logging": (logging.root.level, len(logging.root.handlers)),
    }
before = state()
import attn_rl
after = state()
print(json.dumps({key: (str(before[key])[:300], str(after[key])[:300]) for key in before if before[key] != after[key]}))
"""


def test_importing_changes_no_global_state():
    run = subprocess.run([sys.executable, "-c", STATE], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(run.stdout.splitlines()[-1]) == {}
    assert run.stderr == ""


def test_the_version_is_told_once_and_without_torch():
    code = "import sys, attn_rl; print(attn_rl.__version__, 'torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    version, torch = run.stdout.split()
    assert torch == "False"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", version)
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    assert 'version = { attr = "attn_rl.__version__" }' in (ROOT / "pyproject.toml").read_text()
