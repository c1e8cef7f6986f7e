"""Run tests against deliberately broken sources: ``python -m tests.mutation`` reads jobs from stdin, answers on stdout.

A job is a mutant (or none) and the tests to run against it. The process imports the heavy packages once and forks for
every job; the child imports the source with one piece of text replaced and runs pytest in-process, under none of the
options of the session that asked. Nothing in the repository changes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Mutant:
    """A mistake somebody could make.

    Attributes:
        name: what is wrong.
        path: source file, relative to the repository.
        old: text in it, which must occur exactly once.
        new: what stands there instead.
        killer: the test that must notice, ``path::test``.
    """

    name: str
    path: str
    old: str
    new: str
    killer: str


def mutated(mutant: Mutant) -> str:
    """The source with the mistake in it.

    Raises:
        ValueError: the source has changed and the mutant no longer says what to replace.
    """
    source = (ROOT / mutant.path).read_text()
    if (found := source.count(mutant.old)) != 1:
        raise ValueError(
            f"mutant {mutant.name!r}: {mutant.old!r} occurs {found} times in {mutant.path}, expected once; the source "
            "has changed: adapt the mutant to it"
        )
    return source.replace(mutant.old, mutant.new)


def run_jobs(jobs: list[tuple[Mutant | None, list[str]]]) -> list[list[str] | None]:
    """Run every job in a process of its own.

    Returns:
        Per job the tests that failed; None where pytest did not get to run them (a killer that does not exist, a
        mutant that cannot even be imported).
    """
    content = json.dumps([(None if mutant is None else asdict(mutant), tests) for mutant, tests in jobs])
    command = [sys.executable, "-m", "tests.mutation"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, input=content, capture_output=True, text=True, cwd=ROOT, env=environ, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class _MutatedLoader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self.source = source

    def get_code(self, fullname: str):
        return compile(self.source, self.path, "exec")


class _MutatedFinder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        module = mutant.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        self.module = f"attn_rl.{module}" if module.startswith("envs.") else module
        self.path, self.source = str(ROOT / mutant.path), mutated(mutant)

    def find_spec(self, fullname: str, path, target=None):
        if fullname != self.module:
            return None
        return importlib.util.spec_from_loader(fullname, _MutatedLoader(fullname, self.path, self.source))


class _Failures:
    """A pytest plugin that notes which tests failed in their own body, not while collecting or setting up."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed and report.when == "call":
            self.failed.append(report.nodeid)


def _run(mutant: Mutant | None, tests: list[str]) -> list[str] | None:
    import pytest

    if mutant is not None:
        sys.meta_path.insert(0, _MutatedFinder(mutant))
    failures = _Failures()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        options = ["--tb=no", "-p", "no:cacheprovider", "-o", "addopts="]
        options += ["--maxfail=1"] if len(tests) == 1 else []  # one of its cases has noticed: that is enough
        code = pytest.main([*options, *tests], plugins=[failures])
    return failures.failed if code in (0, 1) else None


def _run_in_child(mutant: Mutant | None, tests: list[str]) -> list[str] | None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writer, "w") as answer:
                answer.write(json.dumps(_run(mutant, tests)))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


def _warm_up(bytecode: str) -> None:
    """Import what the source stands on, but not the source: every child imports that anew."""
    import pytest  # noqa: F401
    import sb3_contrib  # noqa: F401
    import torch

    import train  # noqa: F401

    torch.set_num_threads(1)
    torch.testing.assert_close(torch.zeros(1), torch.zeros(1))  # imports half of torch at its first call
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the other half
    for name in [name for name in sys.modules if name.partition(".")[0] in ("attn_rl", "envs", "train")]:
        del sys.modules[name]
    sys.pycache_prefix, sys.dont_write_bytecode = bytecode, False  # what one child compiles, the next need not
    gc.collect()
    gc.freeze()  # collections in the children pass over all of this


def main() -> None:
    """Answer the jobs on stdin."""
    jobs = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as bytecode:
        _warm_up(bytecode)
        print(json.dumps([_run_in_child(mutant and Mutant(**mutant), tests) for mutant, tests in jobs]))


if __name__ == "__main__":
    main()
