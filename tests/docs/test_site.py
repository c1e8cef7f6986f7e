"""The site builds without a warning, shows every page and every public name, and fetches nothing from a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import attn_rl

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(package, reason="needs an extra: pip install 'attn_rl[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", folder / "doctrees", DOCS, folder]
    built = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(DOCS.parent)})
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_on_the_site_and_in_its_table_of_contents(site: Path):
    pages = {page.stem for page in DOCS.glob("*.md")}
    assert [page for page in pages if not (site / f"{page}.html").exists()] == []
    listed = set(re.findall(r'href="([\w-]+)\.html"', (site / "index.html").read_text()))
    assert pages - {"index"} <= listed


def test_the_api_page_has_every_public_name(site: Path):
    documented = set(re.findall(r'id="attn_rl\.(\w+)"', (site / "api.html").read_text()))
    assert set(attn_rl.__all__) - documented == set()


def test_the_site_shows_the_changelog_and_fetches_nothing(site: Path):
    assert "0.1.0" in (site / "changelog.html").read_text()
    for page in site.glob("*.html"):
        text = page.read_text()
        assert re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(?:https?:)?//[^"]*', text) == []
        assert re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="(?:https?:)?//[^"]*', text) == []


def test_formulas_are_drawn_by_the_browser(site: Path):
    assert "<math" in (site / "attention.html").read_text()
    text = (site / "tensorboard.html").read_text()
    assert "<msub><mover><mi>w</mi><mo>‾</mo></mover><mi>i</mi></msub>" in text  # a letter with a bar and an index
    assert "munderover" not in text
