"""docs/observations.md does what it says."""

from tests.docs.snippets import run, snippets

PAGE = "docs/observations.md"


def test_the_snippets_run():
    assert len(snippets(PAGE)) >= 7
    run(PAGE)
