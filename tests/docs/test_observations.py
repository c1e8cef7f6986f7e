"""docs/observations.md does what it says."""

import pytest

from tests.docs.snippets import run, snippets

PAGE = "docs/observations.md"


def test_the_snippets_run():
    assert len(snippets(PAGE)) >= 7
    run(PAGE)


@pytest.mark.parametrize(("package", "extra"), [("highway_env", "highway"), ("minigrid", "minigrid")])
def test_the_snippets_of_an_extra_run(package, extra):
    pytest.importorskip(package, reason=f"needs an extra: pip install 'attn_rl[{extra}]'")
    assert package in {snippet.requires for snippet in snippets(PAGE)}
    run(PAGE, requires=package)
