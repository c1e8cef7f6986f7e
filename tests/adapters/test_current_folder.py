"""Modules beside the user: found where they are named, and only then."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attn_rl.adapters.current_folder import allow_current_folder

ROOT = Path(__file__).resolve().parents[2]
MINE = """
import gymnasium as gym
gym.register("Mine-v0", "attn_rl.envs.seek:SeekEnv")
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mine:Mine-v0", True),
        ("mine.part:Mine-v0", True),
        ("package:Mine-v0", True),
        ("other:Mine-v0", False),
        ("mine", False),
        ("AttnRL/Seek-v0", False),
        (":Mine-v0", False),
        ("..:Mine-v0", False),
        ("package/../mine:Mine-v0", False),
        (None, False),
    ],
)
def test_a_folder_is_looked_into_for_a_module_that_it_holds(
    name: str | None, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mine.py").touch()
    (tmp_path / "package").mkdir()
    monkeypatch.chdir(tmp_path)
    before = [path for path in sys.path if path not in ("", str(tmp_path))]
    monkeypatch.setattr(sys, "path", [*before])
    allow_current_folder(None, name)
    allow_current_folder(name)
    assert sys.path == [*before, str(tmp_path)] if found else sys.path == before  # after all others, and once


def attn_rl(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As the installed command, which does not look into the current folder by itself."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "attn_rl", *argv]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environ, check=False)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH is younger")
def test_the_installed_command_finds_what_the_user_names_and_no_more(tmp_path: Path):
    (tmp_path / "mine.py").write_text(MINE)
    for name in ("gymnasium", "torch", "numpy", "envs"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file that nobody named')")
    done = attn_rl("check", "mine:Mine-v0", "--steps", "50", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "It fits" in done.stdout
    assert "there is no module 'yours'" in attn_rl("check", "yours:Mine-v0", cwd=tmp_path).stderr
