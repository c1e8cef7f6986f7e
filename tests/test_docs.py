"""What the README and the pages in docs/ say is true: snippets run, links lead somewhere, names and files exist.

Snippets run in the order in which their page shows them. One that needs an extra says so: its fence opens with
``python requires=PACKAGE``. One that is a file of the reader's says ``python file=NAME.py``: the others may import it.
Trainings are cut short: they must run, not succeed.
"""

import importlib
import re
from pathlib import Path

import pytest
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from attn_rl.adapters.families import FAMILIES

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
WRITTEN_BY_A_SCRIPT = re.compile(r"^<!-- ([\w-]+) -->\n.*?^<!-- /\1 -->", re.MULTILINE | re.DOTALL)
COMMANDS = (  # continuous integration copies them out of the README
    "python -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e . && python train.py",
    'python -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e ".[test]" && pytest',
)
EXTRAS = {"supersuit": "agents", "onnxruntime": "onnx", "huggingface_hub": "hub", "rl_zoo3": "zoo"}
EXTRAS |= {"wandb": "wandb", "mlflow": "mlflow"}
EXTRAS |= {name: family.extra for name, family in FAMILIES.items()}
"""Package that a snippet may require -> the extra of ours that installs it, where that has another name."""
SNIPPET = re.compile(r"^```python(?: requires=(\w+)| file=([\w.]+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


LONGEST = 1024
"""Steps of a snippet's training, rounded up to a whole rollout."""


@pytest.fixture
def short_trainings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    learn = OnPolicyAlgorithm.learn

    def shortened(self, total_timesteps: int, **others):
        return learn(self, min(total_timesteps, LONGEST), **others)

    monkeypatch.setattr(OnPolicyAlgorithm, "learn", shortened)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def needs(page: Path) -> set[str]:
    """What the snippets of a page require: packages, "" for nothing but ours."""
    return {package for package, _, _ in SNIPPET.findall(page.read_text())}


def run(page: Path, requires: str = "") -> None:
    """Run the snippets that need no extra, and those of one extra."""
    text = page.read_text()
    names: dict = {}
    for snippet in SNIPPET.finditer(text):
        if snippet[2]:
            Path(snippet[2]).write_text(snippet[3])
        elif snippet[1] in (None, requires):
            blank = "\n" * text.count("\n", 0, snippet.start(3))  # so that a traceback tells the line of the page
            exec(compile(blank + snippet[3], str(page), "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if "" in needs(page)], ids=lambda p: p.name)
@pytest.mark.usefixtures("short_trainings")
def test_the_snippets_of_a_page_run(page: Path):
    run(page)


@pytest.mark.parametrize(
    ("page", "package"),
    [pytest.param(p, package, id=f"{p.name}-{package}") for p in PAGES for package in sorted(needs(p) - {""})],
)
@pytest.mark.usefixtures("short_trainings")
def test_the_snippets_of_an_extra_run(page: Path, package: str):
    pytest.importorskip(package, reason=f"needs an extra: pip install 'attn_rl[{EXTRAS.get(package, package)}]'")
    run(page, requires=package)


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.name)
def test_links_inside_the_project_lead_somewhere(page: Path):
    assert broken_links(page, page.read_text()) == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.name)
def test_lines_fit_into_120_characters(page: Path):
    assert long_lines(page.read_text()) == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.name)
def test_the_files_and_names_that_a_page_mentions_exist(page: Path):
    assert missing(page.read_text()) == []


def test_the_checks_themselves_can_fail():
    page = ROOT / "docs" / "attention.md"
    text = "[a](nowhere.md), [b](relations.md#nowhere), [c](#nowhere), [d](#sources), [e](../README.md)"
    assert broken_links(page, text) == ["nowhere.md", "relations.md#nowhere", "#nowhere"]
    row, line = "|" + 120 * "x", 121 * "y"
    assert long_lines("\n".join((row, line, "<!-- a -->", line, "<!-- /a -->", row))) == [2]
    named = "`attn_rl/nn/flat.py` `attn_rl/nn/attention.py` attn_rl.nn.attention.attend attn_rl.load attn_rl.nn.flat"
    assert missing(named) == ["attn_rl.nn.flat", "attn_rl/nn/flat.py"]


def test_the_readme_shows_the_commands_that_continuous_integration_runs():
    assert [command for command in COMMANDS if f"```bash\n{command}\n```" not in (ROOT / "README.md").read_text()] == []


@pytest.mark.parametrize("page", ["README.zh-CN.md", "docs/index.md"])
def test_the_snippet_of_the_readme_is_the_same_elsewhere(page: str):
    """It is marked ``py`` there, not ``python``: it trains for a while, and once is enough."""

    def code(page: str, fence: str) -> list[str]:
        snippet = re.search(rf"^```{fence}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
        return [line.partition("  #")[0] for line in snippet[1].splitlines()]

    assert code(page, "py") == code("README.md", "python")


def test_the_readme_has_a_row_for_every_folder_of_the_package():
    rooms = {path.parent.name for path in (ROOT / "attn_rl").glob("*/__init__.py")} - {"envs"}  # that is ROOT / "envs"
    assert [room for room in sorted(rooms) if f"| `attn_rl/{room}` |" not in (ROOT / "README.md").read_text()] == []


def test_every_page_is_within_reach_of_the_readme():
    """No page that a reader could only find by listing the folder."""
    found, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        found.add(page)
        linked = {(page.parent / target).resolve() for target, _ in links(page.read_text())}
        new |= {path for path in linked if path.suffix == ".md"} - found
    assert set(TEXTS) - found == set()


def links(text: str) -> list[tuple[str, str]]:
    """File (empty: the page itself) and heading of every link that stays in the project."""
    return re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text)


def broken_links(page: Path, text: str) -> list[str]:
    """Links whose file does not exist, or whose page has no such heading."""
    broken = []
    for target, anchor in links(text):
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            broken.append(f"{target}#{anchor}" if anchor else target)
    return broken


def anchors(text: str) -> set[str]:
    """The names under which a page's headings can be linked: lower case, words joined by hyphens."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def long_lines(text: str) -> list[int]:
    """Numbers of the lines that are longer than 120 characters.

    Two things may be: a row of a table, which Markdown cannot break, and what a script writes between two comments.
    """
    kept = WRITTEN_BY_A_SCRIPT.sub(lambda block: "\n" * block[0].count("\n"), text)
    lines = enumerate(kept.splitlines(), 1)
    return [number for number, line in lines if len(line) > 120 and not line.startswith("|")]


def missing(text: str) -> list[str]:
    """Files and dotted names of the project that the text mentions and that do not exist."""
    files = set(re.findall(r"\b(?:attn_rl|envs|benchmarks|tests)/[\w/]+\.(?:py|cpp|h|js)\b", text))
    names = set(re.findall(r"(?<![\w:./])(?:attn_rl|envs|benchmarks)(?:\.(?!hpp|json)[A-Za-z_]\w*)+", text))
    return sorted([file for file in files if not (ROOT / file).exists()] + [name for name in names if not exists(name)])


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] not in ("attn_rl", "envs", "benchmarks", "train"):
            return True  # it is there and needs an extra
        return bool(module) and "." in name and has(module, attribute)
    return True


def has(module: str, attribute: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return False
