"""The commands of ``attn-rl`` on runs whose environment is the user's own."""

import json
import sys
from pathlib import Path

import pytest

from attn_rl import cli
from attn_rl.training import train

MODULE = """
import gymnasium as gym
from tests.toys import Toy

class Mine(Toy):
    def __init__(self, render_mode=None):
        super().__init__()

gym.register("Mine-v0", Mine)
"""
ID = "their_module:Mine-v0"


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in an environment whose module this process does not know any more."""
    (tmp_path / "their_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    short = ["--total-timesteps", "32", "--n-envs", "4", "--n-steps", "8", "--eval-episodes", "0"]
    folder = train.run(train.parse(["--env", ID, "--runs-dir", str(tmp_path / "runs"), *short]))
    monkeypatch.delitem(sys.modules, "their_module")
    return folder


@pytest.mark.parametrize("command", ["evaluate", "record"])
def test_a_module_named_in_a_run_folder_is_imported_only_where_the_user_names_it_too(
    command: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    own = ["--episodes", "3"] if command == "evaluate" else ["--n-scenes", "2", "--out", str(run_folder / "new.npz")]
    argv = ["attn-rl", command, str(run_folder), *own]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit, match=f"that module's code.*on the command line, repeat --env {ID}"):
        cli.main()
    assert "their_module" not in sys.modules
    monkeypatch.setattr(sys, "argv", [*argv, "--env", "AttnRL/Seek-v0"])
    with pytest.raises(SystemExit, match=f"the run's is {ID}; only --env-kwargs may differ"):
        cli.main()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [*argv, "--env", ID])
    cli.main()
    said = capsys.readouterr().out
    assert json.loads(said)["episodes"] == 100 if command == "evaluate" else (run_folder / "new.npz").is_file()
