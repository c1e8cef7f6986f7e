"""The oldest versions that pyproject.toml promises are those that ``.ci/lowest`` tests, or a check stands for them."""

import ast
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # the same package under its older name: pytest requires it before Python 3.11

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEWEST_ONLY = (*("agents", "compiler", "docs", "hub", "mlflow", "onnx", "ray", "scheduling", "tune", "wandb", "zoo"),)
"""Extras tried with the newest versions only: their packages leave no room for the oldest of the others."""
REQUIREMENT = re.compile(r"([\w-]+)(>=|==)([\d.]+)")


def promised() -> dict[str, str]:
    extras = [each for name, each in PROJECT["project"]["optional-dependencies"].items() if name not in NEWEST_ONLY]
    return dict(
        lowest(each) for each in [*PROJECT["project"]["dependencies"], *(each for extra in extras for each in extra)]
    )


def lowest(requirement: str) -> tuple[str, str]:
    """``name>=1.2`` -> (name, "1.2")."""
    found = REQUIREMENT.match(requirement)
    assert found, f"{requirement!r} has no lower bound"
    return found[1], re.sub(r"(\.0)+$", "", found[3])


def tested() -> dict[str, str]:
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    return dict(lowest(line) for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("name", sorted(promised()))
def test_the_lowest_version_promised_is_the_one_tested(name):
    assert tested().get(name) == promised()[name], f"{name}: change pyproject.toml and constraints-lowest.txt together"


def test_python_has_one_lowest_version():
    minimum = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {minimum}" in PROJECT["project"]["classifiers"]
    assert PROJECT["tool"]["mypy"]["python_version"] == "3.11"  # NumPy's annotations cannot be read as an older one's
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + minimum.replace(".", "")


def newer_classes(source: str) -> list[str]:
    """Classes that Python 3.10 refuses when their module is imported: named tuples and typed dicts with more bases."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return [
        each.name
        for each in classes
        if len(each.bases) > 1 and {ast.unparse(base) for base in each.bases} & {"NamedTuple", "TypedDict"}
    ]


def test_no_class_needs_a_newer_python():
    files = [path for folder in ("attn_rl", "envs") for path in (ROOT / folder).rglob("*.py")]
    assert {str(path.relative_to(ROOT)): found for path in files if (found := newer_classes(path.read_text()))} == {}
    assert newer_classes("class A(NamedTuple, Generic[T]): ...\nclass B(NamedTuple): ...") == ["A"]
