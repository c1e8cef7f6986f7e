"""The commands of ``attn-rl`` on runs whose environment is the user's own."""

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attn_rl import cli, load
from attn_rl.training import train
from attn_rl.training.run.checkpoint import list_checkpoints
from attn_rl.training.share.sources import trained

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


@pytest.fixture(scope="module")
def seek_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train.run(train.parse(["--runs-dir", str(tmp_path_factory.mktemp("seek")), *SHORT]))


@pytest.fixture(scope="module")
def their_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in an environment of a module of the user's, which lies two folders above it."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "their_module.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        run = train.run(train.parse(["--env", ID, "--runs-dir", str(folder / "runs"), *SHORT]))
        patch.delitem(sys.modules, "their_module")
    return run


@pytest.fixture
def run_folder(their_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That run, where this process does not know the module any more, but could import it."""
    monkeypatch.syspath_prepend(their_run.parent.parent)
    sys.modules.pop("their_module", None)  # of a test before: the module must register its id anew
    return their_run


@pytest.mark.parametrize(("command", "name"), [("record", "--out"), ("inspect", "--html")], ids=["record", "inspect"])
def test_no_folder_is_made_for_a_file_unasked(
    command: str, name: str, seek_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = ["--n-scenes", "2"] if command == "record" else []
    monkeypatch.setattr(
        sys, "argv", ["attn-rl", command, str(seek_run), *own, name, str(tmp_path / "new" / "deep" / "file")]
    )
    with pytest.raises(SystemExit, match=r"new/deep: no such folder; make it first: mkdir -p .*/new/deep"):
        cli.main()
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(sys, "argv", ["attn-rl", command, str(seek_run), *own, name, str(tmp_path / "file")])
    cli.main()
    assert (tmp_path / "file").is_file()


READERS = ["evaluate", "solve", "record", "export", "card"]
"""Commands that read a trained agent."""


def options(command: str, out: Path) -> list[str]:
    """What makes a command quick, and where it writes."""
    return {
        "evaluate": ["--episodes", "3"],
        "solve": ["--samples", "2", "--instances", "3"],
        "record": ["--n-scenes", "2", "--out", str(out)],
        "export": ["--cpp", str(out)],
        "card": ["--episodes", "3", "--out", str(out)],
    }[command]


@pytest.mark.parametrize("command", ["inspect", *READERS])
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


@pytest.mark.parametrize("command", READERS)
def test_a_module_named_in_a_run_folder_is_imported_only_where_the_user_names_it_too(
    command: str, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "new"
    argv = ["attn-rl", command, str(run_folder), *options(command, out)]
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
    if command == "evaluate":
        assert json.loads(said)["episodes"] == 100
    elif command == "solve":
        assert json.loads(said).keys() == {"greedy", "best"}
    else:
        assert f"wrote {out}" in said
        assert (out).exists()
    if command == "card":
        assert "# attention on Mine-v0" in (out / "README.md").read_text()
        assert list_checkpoints(out)


@pytest.mark.parametrize("command", READERS)
def test_commands_take_the_addresses_that_load_takes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    checkpoint = str(list_checkpoints(trained("Tiles"))[0])
    monkeypatch.setitem(
        sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=lambda *_, **__: trained("Tiles"))
    )
    said = []
    for name, address in {"zoo": "zoo:Tiles", "hub": "hf:someone/tiles@v2", "checkpoint": checkpoint}.items():
        monkeypatch.setattr(sys, "argv", ["attn-rl", command, address, *options(command, tmp_path / name)])
        cli.main()
        said.append(capsys.readouterr().out)
        assert command in ("evaluate", "solve") or (tmp_path / name).exists()
    if command in ("evaluate", "solve"):
        texts = [re.sub(r'"seconds": .*', "", text) for text in said]
        assert texts[0] == texts[1] == texts[2]
    monkeypatch.setattr(sys, "argv", ["attn-rl", command, "zoo:Tyles", *options(command, tmp_path / "none")])
    with pytest.raises(SystemExit, match="zoo:Tyles is none of the trained agents; did you mean 'Tiles'"):
        cli.main()


def test_a_training_begins_with_the_weights_of_an_agent_of_the_package(tmp_path: Path):
    argv = [
        "--env",
        "AttnRL/Tiles-v0",
        "--runs-dir",
        str(tmp_path),
        "--load",
        "zoo:Tiles",
        "--learning-rate",
        "0",
        *SHORT,
    ]
    run = train.run(train.parse([*argv, *SHORT, "--seed", "1"]))
    weights = {name: value for name, value in load("zoo:Tiles").policy.state_dict().items() if "normalizer" not in name}
    learned = load(run).policy.state_dict()
    assert all(torch.equal(value, learned[name]) for name, value in weights.items())


@pytest.mark.parametrize("command", READERS)
def test_arguments_of_the_environment_can_be_changed_and_repeated(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = shutil.copytree(trained("Tiles"), tmp_path / "run")
    args = json.loads((run / "args.json").read_text())
    (run / "args.json").write_text(json.dumps(args | {"env_kwargs": {"capacity": "os:system"}}))
    argv = ["attn-rl", command, str(run), *options(command, tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit, match=r"the argument capacity='os:system': .* repeat it: --env-kwargs capacity"):
        cli.main()
    monkeypatch.setattr(sys, "argv", [*argv, "--env-kwargs", "capacity", "11", "colour", "3"])
    with pytest.raises(SystemExit, match="takes no argument 'colour'"):
        cli.main()
    monkeypatch.setattr(sys, "argv", [*argv, "--env-kwargs", "capacity", "11"])
    cli.main()
    if command == "card":
        text = (tmp_path / "out" / "README.md").read_text()
        assert "make_vec_env(\"AttnRL/Tiles-v0\", 1, env_kwargs={'capacity': 11})" in text
        assert "(changed)" in text
        assert "(as trained)" not in text
