"""Weights & Biases and MLflow get what TensorBoard gets; nothing of them is imported unless asked for."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest
from stable_baselines3.common.logger import configure

from attn_rl import AttentionCallback
from attn_rl.inspection.trackers import MlflowCallback, WandbCallback
from tests.inspection.conftest import make_ppo, single_env

SEEK = "AttnRL/Seek-v0"
ROOT = Path(__file__).resolve().parents[2]
PICTURES = {"attention/scenes", "attention/episode_film"}


class Run:
    """A stand-in for a run of Weights & Biases."""

    def __init__(self):
        self.logged = []

    def log(self, content, step):
        self.logged.append((step, content))


def learn(tmp_path, *trackers, first=False):
    model = make_ppo(SEEK)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    attention = AttentionCallback(single_env(SEEK), n_scenes=3, n_pictures=1, views=["scenes", "episode_film"])
    model.learn(70, callback=[*trackers, attention] if first else [attention, *trackers])


def in_tensorboard(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, list[int]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()
    tags = events.Tags()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]}
    return scalars, {tag: [event.step for event in events.Images(tag)] for tag in tags["images"]}


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package: media that remember the file's first bytes."""
    module = types.ModuleType("wandb")
    module.Image = lambda path: ("image", Path(path).read_bytes()[:4])
    module.Video = lambda path, format: ("video", Path(path).read_bytes()[:4])
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.mark.parametrize("first", [False, True])
def test_wandb_gets_what_tensorboard_gets(wandb, tmp_path, first):
    run = Run()
    learn(tmp_path, WandbCallback(run), first=first)
    scalars, images = in_tensorboard(tmp_path)
    assert {"attention/replay_error", "rollout/ep_rew_mean"} <= set(scalars)
    assert set(images) >= PICTURES
    numbers, media = {}, {}
    for step, content in run.logged:
        for tag, value in content.items():
            (numbers if isinstance(value, float) else media).setdefault(tag, []).append((step, value))
    for tag, values in scalars.items():
        if tag != "time/fps":
            assert numbers[tag] == [(step, pytest.approx(value, nan_ok=True)) for step, value in values], tag
    for tag in PICTURES:
        assert [step for step, _ in media[tag]] == images[tag]
    assert media["attention/scenes"][0][1] == ("image", b"\x89PNG")
    assert media["attention/episode_film"][0][1] == ("video", b"GIF8")
    steps = [step for step, _ in run.logged]
    assert steps == sorted(steps)  # wandb drops what lies before


class Mlflow(types.ModuleType):
    """A stand-in for the package."""

    def __init__(self, active=None):
        super().__init__("mlflow")
        self.active, self.metrics, self.artifacts = active, [], []

    def active_run(self):
        return self.active

    def MlflowClient(self):
        return self

    def log_metrics(self, metrics, step, run_id):
        self.metrics.append((run_id, step, metrics))

    def log_artifact(self, run_id, local_path, artifact_path):
        self.artifacts.append((run_id, f"{artifact_path}/{Path(local_path).name}", Path(local_path).read_bytes()[:4]))


def test_mlflow_gets_what_tensorboard_gets(monkeypatch, tmp_path):
    active = types.SimpleNamespace(info=types.SimpleNamespace(run_id="abc"))
    monkeypatch.setitem(sys.modules, "mlflow", stand_in := Mlflow(active))
    learn(tmp_path, MlflowCallback())
    scalars, images = in_tensorboard(tmp_path)
    found = {(tag, step) for run_id, step, metrics in stand_in.metrics for tag in metrics if run_id == "abc"}
    assert {(tag, step) for tag, values in scalars.items() for step, _ in values} <= found
    names = {name: start for _, name, start in stand_in.artifacts}
    assert names[f"attention/scenes-{images['attention/scenes'][-1]:012d}.png"] == b"\x89PNG"
    assert any(name.endswith(".gif") and start == b"GIF8" for name, start in names.items())


def test_wrong_uses_are_refused_in_words(monkeypatch):
    with pytest.raises(TypeError, match=r"run is a str; expected what wandb.init\(project=...\) returns"):
        WandbCallback("my-project")
    monkeypatch.setitem(sys.modules, "mlflow", Mlflow())
    with pytest.raises(ValueError, match="no run of MLflow is active; expected a run_id"):
        MlflowCallback()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ValueError, match=r"MLflow is an extra: pip install 'attn_rl\[mlflow\]'"):
        MlflowCallback("abc")


def test_nothing_is_imported_unless_asked():
    code = (
        "import sys, attn_rl.inspection.trackers, attn_rl.inspection.tensorboard.callback as c; c.AttentionCallback;"
        "print([m for m in ('wandb', 'mlflow', 'huggingface_hub', 'rl_zoo3') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_the_real_wandb_takes_it_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(project="entities", mode="offline", dir=str(tmp_path)) as run:
        learn(tmp_path / "tb", WandbCallback(run))
        assert "attention/replay_error" in dict(run.summary)
    media = [path.suffix for path in tmp_path.rglob("media/**/*") if path.is_file()]
    assert {".png", ".gif"} <= set(media)


def test_the_real_mlflow_takes_it_in_a_file_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with mlflow.start_run() as run:
        learn(tmp_path / "tb", MlflowCallback())
    client = mlflow.MlflowClient()
    assert client.get_metric_history(run.info.run_id, "attention/replay_error")
    names = [artifact.path for artifact in client.list_artifacts(run.info.run_id, "attention")]
    assert any(name.endswith(".png") for name in names)
    assert any(name.endswith(".gif") for name in names)
