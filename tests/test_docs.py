"""Every Python snippet in the README and in docs/ runs, in the order in which the page shows them.

A snippet that needs an extra says so: the fence opens with ``python requires=PACKAGE``.
"""

import re
from pathlib import Path

import pytest

from attn_rl.adapters.families import FAMILIES

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SNIPPET = re.compile(r"^```python(?: requires=(\w+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def needs(page: Path) -> set[str]:
    """What the snippets of a page require: packages, "" for nothing but ours."""
    return {package for package, _ in SNIPPET.findall(page.read_text())}


def run(page: Path, requires: str = "") -> None:
    """Run the snippets that need no extra, and those of one extra."""
    text = page.read_text()
    names: dict = {}
    for snippet in SNIPPET.finditer(text):
        if snippet[1] in (None, requires):
            blank = "\n" * text.count("\n", 0, snippet.start(2))  # so that a traceback tells the line of the page
            exec(compile(blank + snippet[2], str(page), "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if "" in needs(page)], ids=lambda p: p.name)
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run(page)


@pytest.mark.parametrize(
    ("page", "package"),
    [pytest.param(p, package, id=f"{p.name}-{package}") for p in PAGES for package in sorted(needs(p) - {""})],
)
def test_the_snippets_of_an_extra_run(page: Path, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip(package, reason=f"needs an extra: pip install 'attn_rl[{FAMILIES[package].extra}]'")
    monkeypatch.chdir(tmp_path)
    run(page, requires=package)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_inside_the_project_lead_somewhere(page: Path):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []
