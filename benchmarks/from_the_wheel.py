"""What a user does with the package, in an empty folder beside an ``envs.py`` of the user's own::

    python -m benchmarks.from_the_wheel                    # some two minutes
    python -m benchmarks.from_the_wheel --folder somewhere # the folder is kept

Builds the sdist, of it the wheel, and installs that into a fresh virtual environment, whose other packages are those of
the Python that runs this. Then: own environment -> attn-rl check -> attn-rl train -> kill -9 -> resume -> TensorBoard's
tab answers -> attn-rl evaluate among more entities -> the agents that come with the package load, one gets a card and a
page that plays -> attn-rl export -> onnxruntime answers as the policy does. Prints every command and what it said; the
exit code is 1 at the first that fails. The last two need onnx, onnxscript and onnxruntime, and are left out, in words,
without them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ("attn_rl", "envs", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md")
MORE_SOURCE = ("train.py", "CITATION.cff")
CLASH = 'raise RuntimeError("this is a module of the user, which nobody asked for")\n'
ENV = ("--env", "my_env:My-v0")
MORE = ("--env-kwargs", "min_entities", "20", "max_entities", "20", "capacity", "20")
ONNX = ("onnx", "onnxscript", "onnxruntime")
TRAINED = '''
"""The agents that come with the package: which load, and where one of them lies."""
from attn_rl import load, make_vec_env
from attn_rl.training.share.sources import trained, trained_names

for name in trained_names():
    env = make_vec_env(f"AttnRL/{name}-v0", 4)
    load(f"zoo:{name}", env=env).predict(env.reset())
print("they load and act:", *trained_names())
print(trained("Seek"))
'''
ANSWERS = '''
"""Does onnxruntime answer as the policy does, among numbers of entities that neither has seen?"""
import json, sys
import numpy as np, onnxruntime, torch
import attn_rl

session = onnxruntime.InferenceSession("policy.onnx")
inputs = json.loads(session.get_modelmeta().custom_metadata_map["attn_rl"])["inputs"]
names = [output.name for output in session.get_outputs()]
answers, equal, apart = 0, True, 0.0
for n in (1, 5, 20):
    kwargs = {"min_entities": 1, "max_entities": n, "capacity": n}
    env = attn_rl.make_vec_env("my_env:My-v0", 64, seed=n, env_kwargs=kwargs)
    model = attn_rl.load(sys.argv[1], env=env)
    obs = env.reset()
    for _ in range(20):
        actions, _ = model.predict(obs, deterministic=True)
        arrays = {part["name"]: obs[part["name"]].astype(part["dtype"]) for part in inputs}
        found = dict(zip(names, session.run(None, arrays)))
        with torch.no_grad():
            values = model.policy.predict_values(model.policy.obs_to_tensor(obs)[0]).numpy().squeeze(-1)
        equal = equal and np.array_equal(found["action"], actions)
        apart = max(apart, abs(found["value"] - values).max())
        obs, *_ = env.step(actions)
        answers += len(actions)
print(f"{answers} answers among 1, 5 and 20 slots: actions equal: {equal}, values at most {apart:.1e} apart")
sys.exit(0 if equal and apart <= 1e-5 else 1)
'''


def main(argv: list[str] | None = None) -> None:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="an empty one; default: a temporary one")
    parser.add_argument("--steps", type=int, default=120_000, help="of training")
    args = parser.parse_args(argv)
    with TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        user = User(install(folder), folder / "empty")
        user.bring_environment()
        run = train_killed_and_resumed(user, args.steps)
        look_at_tensorboard(user, run)
        user.run("attn-rl", "evaluate", run, *ENV, *MORE, "--episodes", "200")
        hand_on(user)
        answer_in_onnxruntime(user, run)
    print("All of it works.")


def install(folder: Path) -> Path:
    """Build sdist and wheel, install the wheel; returns the ``bin`` folder of the new environment."""
    source, dist = folder / "source", folder / "dist"
    source.mkdir()
    for name in (*SOURCE, *MORE_SOURCE):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        if (ROOT / name).exists() or name in SOURCE:
            copy(ROOT / name, source / name)
    build = f"import setuptools.build_meta as build; build.build_sdist({str(dist)!r})"
    say([sys.executable, "-c", build], cwd=source, quiet=True)
    pip = [sys.executable, "-m", "pip"]
    (sdist,) = dist.glob("*.tar.gz")
    say([*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(dist), str(sdist)], quiet=True)
    (wheel,) = dist.glob("*.whl")
    say([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")])
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages")) or "onnx" in path]
    (packages / "packages_of_another.pth").write_text("\n".join(others) + "\n")
    say([*pip, "--quiet", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)])
    return python.parent


def say(command: list[str], cwd: Path | None = None, quiet: bool = False) -> str:
    """Run a command; print it and, unless quiet, what it says. The program ends where it fails."""
    print("$", " ".join(Path(command[0]).name if i == 0 else part for i, part in enumerate(command)), flush=True)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not quiet:
        print(done.stdout, done.stderr, sep="", flush=True)
    if done.returncode != 0:
        sys.exit(f"failed with exit code {done.returncode}")
    return done.stdout


class User:
    """Somebody with the package installed, in a folder.

    Args:
        programs: folder of the installed programs.
        folder: to work in.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder

    def bring_environment(self) -> None:
        """Write an environment and the clash into the empty folder; does the environment fit?"""
        self.folder.mkdir()
        shutil.copy(ROOT / "benchmarks" / "my_env.py", self.folder)
        (self.folder / "envs.py").write_text(CLASH)
        self.run("attn-rl", "check", "my_env:My-v0")
        every = "import attn_rl, gymnasium as gym\nfor i in gym.registry:\n  if i.startswith('AttnRL/'): "
        self.run("python", "-c", every + "gym.make(i).reset(); print(i, end=' ')")

    def command(self, program: str, *argv: str) -> list[str]:
        """The command line of an installed program."""
        return [str(self.programs / program), *argv]

    def run(self, program: str, *argv: str) -> str:
        """Run an installed program in the folder."""
        return say(self.command(program, *argv), cwd=self.folder)


def train_killed_and_resumed(user: User, steps: int) -> str:
    """Train, kill -9 once two checkpoints are there, resume to the end; returns the run folder."""
    argv = ["train", *ENV, "--total-timesteps", str(steps), "--save-every", "2", "--eval-episodes", "500"]
    print("$ attn-rl", *argv, "&", flush=True)
    with (user.folder / "train.log").open("w") as log:
        process = subprocess.Popen(
            user.command("attn-rl", *argv), cwd=user.folder, stdout=log, stderr=log, start_new_session=True
        )
        while process.poll() is None and len(list(user.folder.glob("runs/*/checkpoints/*"))) < 3:
            time.sleep(0.05)
    if process.poll() is not None:
        sys.exit(f"the training ended before it could be killed:\n{(user.folder / 'train.log').read_text()}")
    print("$ kill -9", process.pid)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (run,) = (str(path.relative_to(user.folder)) for path in user.folder.glob("runs/*"))
    saved = sorted(path.name for path in (user.folder / run).glob("checkpoints/*"))
    print(f"killed with exit code {process.returncode}; checkpoints: {', '.join(saved)}")
    user.run("attn-rl", "train", "--resume", run, *ENV)
    done = json.loads((user.folder / run / "evaluation.json").read_text())["total_timesteps"]
    if done < steps:
        sys.exit(f"the resumed run ended after {done} of {steps} steps")
    return run


def look_at_tensorboard(user: User, run: str) -> None:
    """Start TensorBoard and ask its Attention tab for its script, its runs, a record and a picture."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = ["-m", "tensorboard.main", "--logdir", "runs", "--port", str(port)]
    print("$ tensorboard", *argv[2:], flush=True)
    with subprocess.Popen(
        user.command("python", *argv), cwd=user.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            address = f"http://127.0.0.1:{port}/data"
            plugin = json.loads(fetch(f"{address}/plugins_listing", patience=60))["attention"]
            name, steps = next(iter(json.loads(fetch(f"{address}/plugin/attention/runs"))["runs"].items()))
            record = fetch(f"{address}/plugin/attention/record?run={name}&step={steps[-1]}")
            script = fetch(f"{address}/plugin/attention/index.js")
        finally:
            server.terminate()
    print(f"tab {plugin['tab_name']!r} enabled: {plugin['enabled']}; script of {len(script):,} bytes")
    print(f"run {name} recorded at steps {steps}; the last record has {len(record):,} bytes")
    if not plugin["enabled"] or "error" in json.loads(record) or not run.endswith(name):
        sys.exit("the tab does not show the run")


def fetch(address: str, patience: float = 0.0) -> str:
    """What a local server answers; it may need some seconds to start."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(address) as answer:
            return answer.read().decode()
        time.sleep(0.2)
    with urllib.request.urlopen(address) as answer:
        return answer.read().decode()


def hand_on(user: User) -> None:
    """Load the agents of the package; make of one a card, and a page that plays."""
    (user.folder / "trained.py").write_text(TRAINED)
    seek = user.run("python", "trained.py").splitlines()[-1]
    user.run("attn-rl", "card", seek, "--out", "card", "--episodes", "100")
    user.run("attn-rl", "export", "card", "--html", "seek.html")
    missing = [name for name in ("card/README.md", "card/map.png", "seek.html") if not (user.folder / name).is_file()]
    if missing:
        sys.exit(f"not written: {', '.join(missing)}")


def answer_in_onnxruntime(user: User, run: str) -> None:
    """Export, and compare the answers; where that cannot be, say why."""
    lacking = [name for name in ONNX if importlib.util.find_spec(name) is None]
    if importlib.util.find_spec("attn_rl.deployment") is None or lacking:
        print(f"ONNX left out: {', '.join(lacking) or 'attn-rl export'} is not there.")
        return
    user.run("attn-rl", "export", run, *ENV, "--onnx", "policy.onnx")
    (user.folder / "answers.py").write_text(ANSWERS)
    user.run("python", "answers.py", run)


if __name__ == "__main__":
    main()
