"""The package as it is installed: what is in the wheel, and that it works away from the repository."""

import re
import zipfile
from pathlib import Path

import pytest

import attn_rl
from attn_rl.training.share.sources import trained_names
from benchmarks import from_the_wheel

ROOT = Path(__file__).resolve().parent.parent


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == attn_rl.__version__


@pytest.mark.slow  # builds sdist and wheel, makes an environment, trains, starts TensorBoard
def test_a_user_gets_from_the_wheel_to_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from_the_wheel.main(["--folder", str(tmp_path / "user"), "--steps", "20000"])
    said = capsys.readouterr().out
    assert "It fits" in said
    assert all(f"AttnRL/{name}-v0" in said for name in attn_rl.envs.NAMES)
    assert "killed with exit code -9" in said
    assert "tab 'Attention' enabled: True" in said
    assert '"min_entities": 20' in said
    assert f"they load and act: {' '.join(trained_names())}" in said
    assert "wrote seek.html" in said
    assert said.endswith("All of it works.\n")
    (wheel,) = (tmp_path / "user" / "dist").glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in files}
    assert tops == {"attn_rl", f"attn_rl-{attn_rl.__version__}.dist-info"}  # no envs, no train, no tests
    here = [path for folder in ("attn_rl", "envs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    here = [path for path in here if "__pycache__" not in path.parts]
    names = {path.relative_to(ROOT).as_posix() for path in here}
    assert {f"attn_rl/{name}" if name.startswith("envs/") else name for name in names} - set(files) == set()
