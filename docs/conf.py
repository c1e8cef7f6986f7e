"""How Sphinx builds the site: ``pip install -c constraints.txt -e ".[docs]" && sphinx-build -W docs docs/_build``.

The pages are plain Markdown that reads the same on a Git host: what Sphinx needs besides is added while it reads them.
"""

import re
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parent.parent

project = "attn_rl"
author = "the attn_rl contributors"
release = re.search(r'^__version__ = "(.+)"', (ROOT / "attn_rl/__init__.py").read_text(), re.MULTILINE)[1]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # the anchors that Git hosts give to headings
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
html_theme = "furo"
html_title = f"attn_rl {release}"
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_math_renderer = "mathml"  # drawn by the browser: no script, nothing fetched from a network
pygments_style = "tango"

OUTSIDE = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
"""Pages of the site that stand for a file of the top level: links to the file become links to the page."""

BARRED = re.compile(r"<munderover>\s*(<mi>\w</mi>)\s*(<mi>\w</mi>)\s*<mo[^>]*>ˉ</mo>\s*</munderover>")
r"""What docutils makes of \bar w_i, with the index below the letter."""


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the top level's files in the place of the pages that only name them; add the contents to the first page."""
    if docname in ("changelog", "contributing"):
        source[0] = (ROOT / OUTSIDE[docname]).read_text().replace("](docs/", "](")
    for page, file in OUTSIDE.items():
        source[0] = re.sub(rf"\]\((?:\.\./)?{file}", f"]({page}.md", source[0])
    if docname == "index":
        source[0] += contents(source[0])
    if "/" in docname:
        source[0] = "---\norphan: true\n---\n" + source[0]  # in no list: another page links to it


def contents(text: str) -> str:
    """A table of contents from the first page's own lists: one part per heading, one entry per link; then the rest.

    Entries are called what the link is called: titles of pages say more than fits there.
    """
    parts = re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", text, re.MULTILINE)
    listed = [(caption, re.findall(r"^- \[(.+?)\]\(([\w-]+)\.md\)", body, re.MULTILINE)) for caption, body in parts]
    known = {"index", *(page for _, links in listed for _, page in links)}
    others = {page.stem for page in Path(__file__).parent.glob("*.md")} - known
    listed.append(("More", [(page.capitalize(), page) for page in sorted(others)]))
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n"
        + "\n".join(f"{title} <{page}>" for title, page in links)
        + "\n```\n"
        for caption, links in listed
        if links
    )


def mathml(translator, node) -> None:
    """Write a formula as MathML."""
    try:
        formula = tex2mathml(node.astext(), as_block=node.tagname == "math_block")
    except SyntaxError as error:
        raise ExtensionError(f"no MathML for {node.astext()!r}: {error}") from error
    translator.body.append(BARRED.sub(r"<msub><mover>\1<mo>‾</mo></mover>\2</msub>", formula))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the two additions."""
    app.connect("source-read", read)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
