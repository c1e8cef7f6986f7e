"""A run that was killed and resumed must be the run that was not."""

import errno
import json
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.callbacks import ConvertCallback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attn_rl import AttentionCallback, load, make_vec_env
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training import train
from attn_rl.training.run import checkpoint
from attn_rl.training.run.checkpoint import list_checkpoints, read_checkpoint
from attn_rl.training.run.interrupts import InterruptRequest
from attn_rl.training.run.save_callback import DiskTrouble
from attn_rl.training.run.written_files import event_sizes

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
SMALL = [
    "--normalize-reward",
    "--n-envs",
    "7",
    "--n-steps",
    "11",
    "--batch-size",
    "31",
    "--n-epochs",
    "2",
    "--eval-episodes",
    "0",
]
SHORT = [*SMALL, "--total-timesteps", "460", "--save-every", "2", "--record-every", "3"]  # 6 rollouts


class Killed(Exception):
    pass


class Unwatched(ConvertCallback):
    """In place of AttentionCallback, which takes longer than these runs."""

    def __init__(self, *args, **kwargs):
        super().__init__(None)


@pytest.fixture(scope="module", autouse=True)
def _unwatched():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "AttentionCallback", Unwatched)
        yield


def run(runs: Path, name: str, *more: str) -> Path:
    return train.run(train.parse(["--runs-dir", str(runs), "--run-name", name, *SHORT, *more]))


def resume(folder: Path, *more: str) -> Path:
    return train.run(train.parse(["--resume", str(folder), *more]))


def killed(update: int, begin: Callable[[], Path], owner=EntityPPO, name: str = "train") -> None:
    """Begin a run and let the given update fail half-way: all that is left is what is on disk."""
    real, calls = getattr(owner, name), []

    def fail(*args, **kwargs):
        calls.append(args)
        if len(calls) == update:
            event_sizes(args[0], Path())  # nothing waits in a thread that, unlike one of a killed process, lives on
            raise Killed
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(Killed):
            begin()


def curve(folder: Path) -> dict[str, list]:
    """Every point of every scalar, every picture and every text of a run, by step.

    TensorBoard reads event files in the order of their names, which are second, process and number: begun in one second
    by one process, as only tests do, number 10 comes before 9.
    """
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()
    scalars = {tag: sorted((e.step, e.value) for e in events.Scalars(tag)) for tag in events.Tags()["scalars"]}
    scalars["time/fps"] = [(step, 0.0) for step, _ in scalars["time/fps"]]  # the clock's, not the run's
    images = {tag: events.Images(tag) for tag in events.Tags()["images"]}
    pictures = {tag: sorted((e.step, e.encoded_image_string) for e in found) for tag, found in images.items()}
    texts = {tag: sorted(e.step for e in events.Tensors(tag)) for tag in events.Tags()["tensors"]}
    return scalars | pictures | texts


def final(folder: Path):
    return read_checkpoint(list_checkpoints(folder)[0])


def assert_same_run(one: Path, other: Path) -> None:
    first, second = final(one), final(other)
    for part in ("model", "optimizer", "environment"):
        arrays, again = getattr(first, part), getattr(second, part)
        assert arrays.keys() == again.keys()
        assert [name for name in arrays if not np.array_equal(arrays[name], again[name])] == []
    for name in ("counters", "generators", "successes", "rollouts", "logger", "rewards"):
        assert first.state[name] == second.state[name], name
    points, expected = curve(one), curve(other)
    assert points.keys() == expected.keys()
    assert [tag for tag in points if points[tag] != expected[tag]] == []


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("runs"), "whole")


@pytest.mark.parametrize("update", [1, 3, 4, 6])
def test_killed_and_resumed_is_bit_equal(update: int, uninterrupted: Path, tmp_path: Path):
    killed(update, lambda: run(tmp_path, "killed"))
    assert not (tmp_path / "killed" / "model.zip").exists()
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "killed", uninterrupted)


def test_resumed_on_more_threads_is_bit_equal(uninterrupted: Path, tmp_path: Path):
    killed(3, lambda: run(tmp_path, "threads"))
    assert_same_run(uninterrupted, resume(tmp_path / "threads", "--threads", "2"))


def test_killed_twice_and_resumed_is_bit_equal(uninterrupted: Path, tmp_path: Path):
    killed(3, lambda: run(tmp_path, "killed"))
    killed(2, lambda: resume(tmp_path / "killed"))
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "killed", uninterrupted)


def test_words_and_cells_resume_too(tmp_path: Path):
    """Categories, an environment of others, and an observation of several types of entities."""
    pytest.importorskip("minigrid")
    small = [
        "--env",
        "minigrid:MiniGrid-GoToDoor-5x5-v0",
        "--n-envs",
        "2",
        "--n-layers",
        "2",
        "--total-timesteps",
        "60",
    ]
    whole = run(tmp_path, "whole", *small)
    killed(2, lambda: run(tmp_path, "killed", *small))
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "killed", whole)
    agent = load(whole)
    assert agent.policy.features_extractor.spec.categories["cells"]["colour"][:2] == ("none", "red")


def test_inspection_resumes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "AttentionCallback", partial(AttentionCallback, n_scenes=5, n_pictures=1))
    killed(5, lambda: run(tmp_path, "killed"))
    resume(tmp_path / "killed")
    run(tmp_path, "whole")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    records = [sorted(path.name for path in (tmp_path / name / "attention").iterdir()) for name in ("killed", "whole")]
    assert records[0] == records[1]
    assert len(records[0]) == 3


def test_a_run_killed_during_its_evaluation_does_not_train_again(uninterrupted: Path, tmp_path: Path, monkeypatch):
    killed(1, lambda: run(tmp_path, "killed"), train, "report")
    monkeypatch.setattr(EntityPPO, "learn", lambda *args, **kwargs: pytest.fail("it learns again"))
    resume(tmp_path / "killed")
    assert (tmp_path / "killed" / "evaluation.json").is_file()
    assert_same_run(tmp_path / "killed", uninterrupted)


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_resumed(uninterrupted: Path, tmp_path: Path, capsys):
    killed(6, lambda: run(tmp_path, "killed"))
    newest, older = list_checkpoints(tmp_path / "killed")[:2]
    assert older < newest
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    resume(tmp_path / "killed")
    assert "model.safetensors is damaged" in capsys.readouterr().err
    assert newest.with_name(f"{newest.name}.damaged").is_dir()
    assert_same_run(tmp_path / "killed", uninterrupted)


def test_only_the_last_checkpoints_are_kept(uninterrupted: Path):
    steps = [path.name for path in list_checkpoints(uninterrupted)]
    assert steps == ["step-000000000462", "step-000000000308", "step-000000000154"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("update", [3, 6])
def test_a_signal_finishes_the_rollout_saves_and_leaves(number, code, update, uninterrupted, tmp_path, capsys):
    real, calls = EntityPPO.train, []

    def signalled(self):
        calls.append(self)
        if len(calls) == update:
            signal.raise_signal(number)
        real(self)

    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EntityPPO, "train", signalled)
        with pytest.raises(SystemExit) as left:
            run(tmp_path, "stopped")
    assert left.value.code == code
    assert signal.getsignal(number) is before
    assert f"attn-rl train --resume {tmp_path / 'stopped'}" in capsys.readouterr().err
    assert final(tmp_path / "stopped").state["counters"]["num_timesteps"] == update * 77
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", uninterrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_after_training_leaves_at_once_and_the_rest_can_be_made_up(
    number, code, uninterrupted, tmp_path, capsys
):
    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "report", lambda *args: signal.raise_signal(number))
        with pytest.raises(SystemExit) as left:
            run(tmp_path, "stopped")
    assert left.value.code == code
    assert signal.getsignal(number) is before
    assert f"Go on with: attn-rl train --resume {tmp_path / 'stopped'}" in capsys.readouterr().err
    resume(tmp_path / "stopped")
    assert (tmp_path / "stopped" / "evaluation.json").is_file()
    assert_same_run(tmp_path / "stopped", uninterrupted)


@pytest.mark.parametrize(("owner", "name", "fits"), [(checkpoint, "_write_synced", 9), (EntityPPO, "save", 0)])
def test_a_full_disk_is_told_in_plain_words_and_the_run_goes_on_later(owner, name, fits, uninterrupted, tmp_path):
    real, calls = getattr(owner, name), []

    def write(*args, **kwargs):
        calls.append(args)
        if len(calls) > fits:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, write)
        with pytest.raises(
            DiskTrouble, match=f"No space left .*make room, then: attn-rl train --resume {tmp_path}/full"
        ):
            run(tmp_path, "full")
    resume(tmp_path / "full")
    assert_same_run(tmp_path / "full", uninterrupted)


def test_a_second_signal_ends_the_process_at_once(capfd: pytest.CaptureFixture[str]):
    child = os.fork()
    if child == 0:
        with InterruptRequest():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM  # a shell says 143
    assert "once more quits at once" in capfd.readouterr().err


def test_only_harmless_arguments_may_change(uninterrupted: Path):
    args = train.parse(["--resume", str(uninterrupted), "--total-timesteps", "1000"])
    assert args.total_timesteps == 1000
    with pytest.raises(ValueError, match="--resume goes on with seed=0, got 5"):
        train.parse(["--resume", str(uninterrupted), "--seed", "5"])
    with pytest.raises(ValueError, match=r"goes on with learning_rate=0.*, got 0\.5; leave it out"):
        train.parse(["--resume", str(uninterrupted), "--learning-rate", "0.5"])


def test_resuming_nothing_says_so(tmp_path: Path):
    with pytest.raises(ValueError, match="is no run folder"):
        train.parse(["--resume", str(tmp_path)])


def test_a_killed_run_and_a_single_checkpoint_can_be_loaded(uninterrupted: Path, tmp_path: Path):
    obs = make_vec_env("AttnRL/Seek-v0", 5, seed=1).reset()
    whole = load(uninterrupted).predict(obs, deterministic=True)[0]
    assert np.array_equal(load(list_checkpoints(uninterrupted)[0]).predict(obs, deterministic=True)[0], whole)
    zipped = load(uninterrupted / "model.zip", trust=True)
    assert np.array_equal(zipped.predict(obs, deterministic=True)[0], whole)
    assert load(list_checkpoints(uninterrupted)[-1]).num_timesteps == 154


def test_the_arguments_of_the_run_are_kept(uninterrupted: Path, tmp_path: Path):
    stored = json.loads((uninterrupted / "args.json").read_text())
    assert stored["settings"]["n_steps"] == 11
    assert stored["resume"] is None
    again = train.parse(["--resume", str(uninterrupted)])
    assert again.settings.n_steps == 11
    assert again.runs_dir == uninterrupted.parent


def test_nothing_listens_and_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("bind", "connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, lambda *args: pytest.fail("train.py uses the network"))
    monkeypatch.setattr(train, "AttentionCallback", partial(AttentionCallback, n_scenes=5, n_pictures=1))
    run(tmp_path, "alone", "--total-timesteps", "77")
