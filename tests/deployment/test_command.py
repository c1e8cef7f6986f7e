"""``attn-rl export``: from a trained agent to files."""

import sys

import pytest

from attn_rl import cli


def test_an_agent_is_exported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["attn-rl", "export", "zoo:Tiles", "--cpp", str(tmp_path / "policy")])
    cli.main()
    assert f"wrote {tmp_path / 'policy'}" in capsys.readouterr().out
    written = {"policy.safetensors", "attn_rl.hpp", "example.cpp", "README.md"}
    assert {path.name for path in (tmp_path / "policy").iterdir()} == written


def test_without_a_file_to_write_the_command_says_what_to_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["attn-rl", "export", "zoo:Tiles"])
    with pytest.raises(SystemExit, match="nothing to write; name a file"):
        cli.main()


def test_without_the_packages_of_an_extra_the_command_names_it_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    argv = ["attn-rl", "export", "zoo:Tiles", "--onnx", str(tmp_path / "policy.onnx")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit, match=r"error: ONNX files need onnx and onnxscript: pip install 'attn_rl\[onnx\]'"):
        cli.main()
