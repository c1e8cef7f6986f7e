"""The command line, in a temporary folder."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attn_rl import load, make_vec_env
from attn_rl.training import train
from attn_rl.training.evaluation import Row, evaluate
from attn_rl.training.report import print_table, table_notes

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["--total-timesteps", "4000", "--n-envs", "16", "--eval-episodes", "100"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    return train.run(train.parse(["--env", "AttnRL/Match-v0", "--runs-dir", str(runs), *SHORT]))


def test_a_run_leaves_its_files_one_level_below_the_runs_folder(run_folder: Path):
    name, policy, seed, _ = run_folder.name.split("__")
    assert (name, policy, seed) == ("Match-v0", "attention", "0")
    assert {"args.json", "model.zip", "evaluation.json", "probe.npz"} <= {path.name for path in run_folder.iterdir()}
    args = json.loads((run_folder / "args.json").read_text())
    assert args["settings"]["learning_rate"] == 5e-3  # the preset's
    assert args["versions"]["torch"]


def test_evaluation_json_has_the_trained_row_first_and_then_the_transfer(run_folder: Path):
    evaluation = json.loads((run_folder / "evaluation.json").read_text())
    assert [(row["min_entities"], row["max_entities"]) for row in evaluation["results"]] == [(5, 9), (16, 16), (32, 32)]
    assert all(row["episodes"] == 100 and 0 <= row["top1_relevant"] <= 1 for row in evaluation["results"])
    assert evaluation["total_timesteps"] == 4096
    assert evaluation["parameters"] > 1000


def test_the_table_says_what_was_played(capsys: pytest.CaptureFixture[str]):
    config = {"policy": "attention", "env": "Mine-v0", "eval_episodes": 20}
    print_table([Row(None, None, 100, mean_return=1.0), Row(16, 16, 100), Row(5, 9)], config)
    said = capsys.readouterr().out
    assert "100 episodes a row" in said
    assert "16 (zero-shot)" in said
    assert "5-9 (zero-shot)" in said
    assert "trained" in said
    assert "None" not in said


def test_notes_say_why_a_column_is_empty_and_what_a_pointer_makes_of_the_map():
    told, untold = Row(None, None, 9, success_rate=0.9, top1_relevant=0.1), Row(None, None, 9)
    assert table_notes([told], pointer=None) == []
    assert table_notes([], pointer="foes") == []
    assert table_notes([untold, Row(5, 9)], pointer="foes") == [
        'No success: the environment does not tell info["is_success"] when an episode ends.'
    ]
    (note,) = table_notes([told], pointer="foes")
    assert "points at foes" in note


def test_no_episodes_are_no_evaluation(run_folder: Path):
    with pytest.raises(ValueError, match="episodes=0, expected at least 1"):
        evaluate(load(run_folder), "AttnRL/Match-v0", episodes=0)


def test_scalars_can_be_read_back_from_the_run_folder_itself(run_folder: Path):
    events = EventAccumulator(str(run_folder)).Reload()
    assert "rollout/success_rate" in events.Tags()["scalars"]


def test_the_zip_loads_with_plain_ppo_and_the_folder_with_load(run_folder: Path):
    env = make_vec_env("AttnRL/Match-v0", 7, seed=3)
    obs = env.reset()
    plain, ours = PPO.load(run_folder / "model.zip"), load(run_folder)
    actions, _ = plain.predict(obs, deterministic=True)  # type: ignore[arg-type]
    assert np.array_equal(actions, ours.predict(obs, deterministic=True)[0])  # type: ignore[arg-type]
    assert ours.num_timesteps == plain.num_timesteps


def test_presence_is_a_name_or_an_index():
    given = {text: train.parse(["--presence", text]).settings.presence for text in ("0", "there")}
    assert given == {"0": 0, "there": "there"}


def test_training_can_start_from_a_run_with_fewer_slots(run_folder: Path, tmp_path: Path):
    more = ["--env-kwargs", "max_entities", "12", "capacity", "20", "--load", str(run_folder)]
    args = train.parse(["--env", "AttnRL/Match-v0", "--runs-dir", str(tmp_path), *SHORT, *more])
    assert args.env_kwargs == {"max_entities": 12, "capacity": 20}
    assert (train.run(args) / "model.zip").is_file()


def test_a_flat_policy_writes_null_where_it_cannot_take_more_entities(tmp_path: Path):
    argv = ["--env", "AttnRL/Match-v0", "--policy", "flat", "--runs-dir", str(tmp_path), *SHORT]
    folder = train.run(train.parse(argv))
    rows = json.loads((folder / "evaluation.json").read_text())["results"]
    assert rows[0]["success_rate"] is not None
    assert rows[0]["top1_relevant"] is None
    assert [row["success_rate"] for row in rows[1:]] == [None, None]


def test_a_mistake_is_one_line_and_leaves_nothing_behind(tmp_path: Path):
    command = [sys.executable, "train.py", "--n-heads", "5", "--runs-dir", str(tmp_path), *SHORT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: d_model=32 is not divisible by n_heads=5; try d_model=30 or 35")
    assert not list(tmp_path.iterdir())


def test_the_defaults_shown_by_help_are_the_presets(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        train.parse(["--env", "AttnRL/Match-v0", "--help"])
    assert "default: 50000" in " ".join(capsys.readouterr().out.split())
