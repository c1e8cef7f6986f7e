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
SHORT = ["--total-timesteps", "32", "--n-envs", "4", "--n-steps", "8", "--eval-episodes", "0"]


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in an environment whose module this process does not know any more."""
    (tmp_path / "their_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("their_module", None)  # of a test before: the module must register its id anew
    folder = train.run(train.parse(["--env", ID, "--runs-dir", str(tmp_path / "runs"), *SHORT]))
    monkeypatch.delitem(sys.modules, "their_module")
    return folder


@pytest.mark.parametrize(("command", "name"), [("record", "--out"), ("inspect", "--html")], ids=["record", "inspect"])
def test_no_folder_is_made_for_a_file_unasked(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = train.run(train.parse(["--runs-dir", str(tmp_path / "runs"), *SHORT]))
    own = ["--n-scenes", "2"] if command == "record" else []
    monkeypatch.setattr(
        sys, "argv", ["attn-rl", command, str(run), *own, name, str(tmp_path / "new" / "deep" / "file")]
    )
    with pytest.raises(SystemExit, match=r"new/deep: no such folder; make it first: mkdir -p .*/new/deep"):
        cli.main()
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(sys, "argv", ["attn-rl", command, str(run), *own, name, str(tmp_path / "file")])
    cli.main()
    assert (tmp_path / "file").is_file()


@pytest.mark.parametrize("command", ["inspect", "evaluate", "record"])
@pytest.mark.parametrize("where", ["link", "checkpoints/link", "attention/000000000007.npz"])
def test_every_command_refuses_links_wherever_in_a_run_folder_they_are(
    command: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "runs" / "Seek-v0__attention__0__x"
    for folder in ("checkpoints", "attention"):
        (run / folder).mkdir(parents=True)
    (run / "args.json").write_text('{"env": "AttnRL/Seek-v0", "env_kwargs": {}, "policy": "attention"}')
    (run / where).symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["attn-rl", command, str(run)])
    with pytest.raises(SystemExit, match=f"{where} is a link; expected a regular file"):
        cli.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


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
    with pytest.raises(SystemExit, match=f"the run's is {ID}; repeat that one, or leave --env out"):
        cli.main()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [*argv, "--env", ID])
    cli.main()
    said = capsys.readouterr().out
    assert json.loads(said)["episodes"] == 100 if command == "evaluate" else (run_folder / "new.npz").is_file()
