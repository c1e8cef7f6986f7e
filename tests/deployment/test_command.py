"""``attn-rl export``: from a run folder to files."""

import sys

import pytest

from attn_rl import cli
from tests.test_cli import ID, run_folder  # noqa: F401 (a fixture)


def test_a_run_is_exported_and_its_module_imported_only_where_the_user_names_it(
    run_folder,  # noqa: F811
    tmp_path,
    monkeypatch,
    capsys,
):
    argv = ["attn-rl", "export", str(run_folder), "--cpp", str(tmp_path / "policy")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit, match=f"that module's code.*on the command line, repeat --env {ID}"):
        cli.main()
    assert "their_module" not in sys.modules
    monkeypatch.setattr(sys, "argv", [*argv, "--env", "AttnRL/Seek-v0"])
    with pytest.raises(SystemExit, match=f"the run's is {ID}; repeat that one, or leave --env out"):
        cli.main()
    monkeypatch.setattr(sys, "argv", [*argv, "--env", ID])
    cli.main()
    assert f"wrote {tmp_path / 'policy'}" in capsys.readouterr().out
    written = {"policy.safetensors", "attn_rl.hpp", "example.cpp", "README.md"}
    assert {path.name for path in (tmp_path / "policy").iterdir()} == written


def test_without_a_file_to_write_the_command_says_what_to_name(run_folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sys, "argv", ["attn-rl", "export", str(run_folder), "--env", ID])
    with pytest.raises(SystemExit, match="nothing to write; name a file"):
        cli.main()


def test_without_the_packages_of_an_extra_the_command_names_it_in_one_line(run_folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    argv = ["attn-rl", "export", str(run_folder), "--env", ID, "--onnx", str(tmp_path / "policy.onnx")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit, match=r"error: ONNX files need onnx and onnxscript: pip install 'attn_rl\[onnx\]'"):
        cli.main()
