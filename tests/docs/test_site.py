"""The site builds without a warning, shows every page and every public name, and fetches nothing from a network."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

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


class Page(HTMLParser):
    """What a page of the site links to, and the names under which its parts can be linked."""

    def __init__(self, text: str):
        super().__init__()
        self.targets: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.targets.add(value)


def dead_links(folder: Path) -> list[str]:
    """``page -> target`` of every link that leads to no file of the folder, or to no part of a page.

    Links to the outside are only looked at: https, a host with a dot, and nothing around it that belongs to the text.
    """
    pages = {path: Page(path.read_text()) for path in folder.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for target in sorted(page.targets):
            parts = urlsplit(target)
            if parts.scheme in ("http", "https"):
                good = re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/[\w./#?=&%~-]*)?(?<![.?&])", target)
            elif parts.scheme or parts.netloc:
                good = parts.scheme == "data"
            else:
                file = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
                anchors = pages[file].ids | {""} if file in pages else {""}
                good = file.exists() and unquote(parts.fragment) in anchors
            if not good:
                dead.append(f"{path.name} -> {target}")
    return dead


def test_every_link_of_the_site_leads_somewhere(site: Path):
    assert dead_links(site.resolve()) == []


def test_dead_links_are_noticed(tmp_path: Path):
    links = ["b.html", "b.html#there", "#here", "nowhere.html", "b.html#nowhere", "#nowhere", "https://a.org/b#c"]
    links += ["http://a.org", "https://a.org/b).", "https://localhost/b", "//a.org/b", "ftp://a.org", "data:,x"]
    (tmp_path / "a.html").write_text("<p id=here>" + "".join(f'<a href="{link}">' for link in links))
    (tmp_path / "b.html").write_text("<p id=there>")
    expected = ["#nowhere", "//a.org/b", "b.html#nowhere", "ftp://a.org", "http://a.org", "https://a.org/b)."]
    expected += ["https://localhost/b", "nowhere.html"]
    assert dead_links(tmp_path.resolve()) == [f"a.html -> {link}" for link in expected]
