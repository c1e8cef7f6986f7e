"""Compiled rules: compiled once, by this user, where nobody else can write; else a reason in words."""

from pathlib import Path

import pytest
from attn_rl.envs.core import compiler
from attn_rl.envs.core.compiler import NotCompiled, load

TWICE = 'extern "C" double twice(double x) { return FACTOR * x; }'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(compiler.SWITCH, raising=False)
    (tmp_path / "twice.cpp").write_text(TWICE)
    return tmp_path


def libraries(folder: Path) -> list[Path]:
    return sorted((folder / "cache/attn_rl").glob("*"))


@pytest.fixture
def needs_compiler() -> None:
    try:
        compiler.find_compiler()
    except NotCompiled as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("needs_compiler")
def test_a_source_is_compiled_once_and_anew_where_it_or_the_library_changed(folder: Path):
    load(folder, "twice.cpp", "#define FACTOR 2")
    (first,) = libraries(folder)
    load(folder, "twice.cpp", "#define FACTOR 2")
    assert libraries(folder) == [first]
    assert first.stat().st_mode & 0o077 == 0
    load(folder, "twice.cpp", "#define FACTOR 3")
    (folder / "a.h").write_text("// part of what is compiled")
    load(folder, "twice.cpp", "#define FACTOR 2")
    assert len(libraries(folder)) == 3
    damaged = first.with_name("copy")
    damaged.write_bytes(first.read_bytes()[:-1])
    damaged.chmod(0o600)
    damaged.replace(first)
    (folder / "a.h").unlink()
    load(folder, "twice.cpp", "#define FACTOR 2")
    assert len(libraries(folder)) == 3
    assert first.stem.endswith(compiler.digest(first))


@pytest.mark.usefixtures("needs_compiler")
def test_what_cannot_be_compiled_says_why(folder: Path):
    with pytest.raises(NotCompiled, match=r"(?s)failed: .*FACTOR"):
        load(folder, "twice.cpp")
    assert libraries(folder) == []


@pytest.mark.usefixtures("needs_compiler")
def test_nothing_is_loaded_from_where_others_can_write(folder: Path):
    (folder / "cache/attn_rl").mkdir(parents=True)
    (folder / "cache/attn_rl").chmod(0o777)
    with pytest.raises(NotCompiled, match=r"others can write .*; `chmod go-w` it, or set XDG_CACHE_HOME"):
        load(folder, "twice.cpp", "#define FACTOR 2")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (compiler.SWITCH, "0", "ATTN_RL_FUSED switches compiled code off"),
        ("CXX", "no-such-compiler -O2", "no-such-compiler"),
        ("PATH", "", r"there is no C\+\+ compiler; install g\+\+"),
    ],
)
def test_without_a_compiler_there_is_a_reason(folder: Path, monkeypatch: pytest.MonkeyPatch, variable, value, message):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(NotCompiled, match=message):
        load(folder, "twice.cpp", "#define FACTOR 2")
