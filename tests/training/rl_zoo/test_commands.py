"""RL Zoo's own commands, as docs/rl-zoo.md has them: train, enjoy, search."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rl_zoo3", reason="needs an extra: pip install 'attn_rl[zoo]'")
pytest.importorskip("requests", reason="needs an extra: pip install 'attn_rl[zoo]'")
ROOT = Path(__file__).resolve().parents[3]
MATCH = ["--algo", "ppo", "--env", "AttnRL/Match-v0", "--gym-packages", "attn_rl"]
PRESETS = ["--conf-file", "attn_rl.training.rl_zoo.hyperparameters"]
pytestmark = pytest.mark.slow


def zoo(folder: Path, module: str, *args: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", module, *MATCH, *args]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return run.stdout + run.stderr


def test_it_trains_the_preset_and_plays_it(tmp_path):
    zoo(tmp_path, "rl_zoo3.train", *PRESETS, "--n-timesteps", "24576", "--eval-freq", "-1", "--seed", "0")
    played = zoo(tmp_path, "rl_zoo3.enjoy", "-f", "logs", "--no-render", "--n-timesteps", "300", "--exp-id", "1")
    rate = float(played.partition("Success rate: ")[2].partition("%")[0])
    assert rate >= 90


def test_it_searches_for_the_size_of_the_network_and_trains_what_was_found(tmp_path):
    study = ["--storage", "search.log", "--study-name", "match"]
    short = ["--n-timesteps", "4096", "--seed", "0"]
    search = ["-optimize", "--n-trials", "2", "--n-evaluations", "1", "--n-eval-envs", "5", "--no-optim-plots"]
    found = zoo(tmp_path, "attn_rl.training.rl_zoo", *study, *short, *search)
    assert "'d_model': " in found
    assert "'n_layers': " in found
    trained = zoo(tmp_path, "attn_rl.training.rl_zoo", *study, *short, "--eval-freq", "-1", "--trial-id", "1")
    assert "Saving to logs" in trained
    config = (tmp_path / "logs/ppo/AttnRL-Match-v0_2/AttnRL-Match-v0/config.yml").read_text()
    assert "cue_r" in config  # what the preset says of the entities is still there
