"""Compiled libraries: private, whole, and compiled anew wherever there is doubt."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attn_rl.backends.kernels import build, cache, folder
from attn_rl.backends.kernels.cache import compiled, find_compiler, load
from attn_rl.backends.kernels.folder import LibraryUnavailable, cache_folder
from attn_rl.backends.kernels.switch import is_on

FLAGS = ("-O0", "-shared", "-fPIC")
pytestmark = pytest.mark.skipif(
    os.name != "posix" or not any(map(shutil.which, cache.COMPILERS)), reason="no C++ compiler, or no POSIX"
)
is_root = pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give files away")
PRELUDE = """
import os, sys
from pathlib import Path
from attn_rl.backends.kernels.cache import compiled, load
source, home = Path(sys.argv[1]), Path(sys.argv[2])
os.environ["XDG_CACHE_HOME"] = str(home)
flags = ("-O0", "-shared", "-fPIC")
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and temporary folders below the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CXX", raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(folder.tempfile, "tempdir", str(tmp_path / "tmp"))
    folder.temporary_folder.cache_clear()
    yield tmp_path / "home"
    folder.temporary_folder.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "small.cpp"
    path.write_text('extern "C" int answer() { return 42; }\n')
    return path


def answer(source: Path) -> int:
    return load(compiled([source], FLAGS), ["answer"]).answer()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def in_another_process(code: str, source: Path, home: Path, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", PRELUDE + code, str(source), str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def slow_compiler(tmp_path: Path, seconds: float) -> Path:
    """A compiler that takes its time, but not to say what its macros are."""
    script = tmp_path / "slow c++"
    compiler = shlex.quote(shutil.which("c++") or shutil.which("g++") or "clang++")
    script.write_text(f'#!/bin/sh\ncase "$*" in *-dM*) ;; *) sleep {seconds};; esac\nexec {compiler} "$@"\n')
    script.chmod(0o700)
    return script


def wait_for(condition) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_it_is_compiled_once_and_again_where_anything_differs(source: Path, home: Path):
    first = compiled([source], FLAGS)
    changed = first.stat().st_mtime_ns
    assert answer(source) == 42
    assert first.stat().st_mtime_ns == changed
    assert list(first.parent.iterdir()) == [first]
    assert first.parent == home / "attn_rl"
    assert compiled([source], (*FLAGS, "-DOTHER")) != first
    header = source.with_suffix(".h")
    header.write_text("// one")
    with_header = compiled([source, header], FLAGS)
    header.write_text("// two")
    assert compiled([source, header], FLAGS) != with_header != first


def test_generated_headers_are_found_and_count(source: Path):
    source.write_text('#include "generated.h"\nextern "C" int answer() { return ANSWER; }\n')
    for number in (2, 3):
        path = compiled([source], FLAGS, generated={"generated.h": f"#define ANSWER {number}\n"})
        assert load(path).answer() == number


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_folder_and_library_are_private_whatever_the_umask(source: Path, home: Path, umask: int):
    before = os.umask(umask)
    try:
        path = compiled([source], FLAGS)
    finally:
        os.umask(before)
    assert [mode(each) for each in (path, path.parent)] == [0o600, 0o700]
    assert mode(home) & 0o077 == 0
    assert load(path).answer() == 42


def test_what_lies_in_a_folder_that_others_can_write_is_compiled_anew(source: Path):
    path = compiled([source], FLAGS)
    (path.parent / "planted.so").write_bytes(path.read_bytes())
    path.parent.chmod(0o777)
    with pytest.raises(LibraryUnavailable, match=r"can be written by others \(mode 777\)"):
        load(path)
    with pytest.warns(UserWarning, match="could be written by others: it is private now"):
        assert answer(source) == 42
    assert mode(path.parent) == 0o700
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o620, 0o602])
def test_a_library_that_others_can_write_is_compiled_anew(source: Path, mask: int):
    path = compiled([source], FLAGS)
    path.chmod(mask)
    with pytest.raises(LibraryUnavailable, match="can be written by others"):
        load(path)
    with pytest.warns(UserWarning, match="can be written by others.*compiled anew"):
        assert answer(source) == 42
    assert mode(path) == 0o600


@is_root
def test_a_library_of_another_user_is_compiled_anew(source: Path):
    path = compiled([source], FLAGS)
    os.chown(path, 12345, 12345)
    with pytest.raises(LibraryUnavailable, match=r"belongs to another user \(uid 12345\)"):
        load(path)
    with pytest.warns(UserWarning, match="belongs to another user.*compiled anew"):
        assert answer(source) == 42
    assert path.stat().st_uid == 0


@is_root
@pytest.mark.parametrize("folder_mode", [0o700, 0o777])
def test_a_folder_of_another_user_is_left_alone(source: Path, home: Path, tmp_path: Path, folder_mode: int):
    path = compiled([source], FLAGS)
    os.chown(path.parent, 12345, 12345)
    path.parent.chmod(folder_mode)
    with pytest.warns(UserWarning, match=r"belongs to another user \(uid 12345\); set XDG_CACHE_HOME"):
        other = compiled([source], FLAGS)
    assert other.is_relative_to(tmp_path / "tmp")
    assert mode(other.parent) == 0o700
    assert load(other).answer() == 42
    with pytest.raises(LibraryUnavailable, match="belongs to another user"):
        load(path)


def test_a_link_is_not_followed(source: Path, tmp_path: Path):
    path = compiled([source], FLAGS)
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    with pytest.raises(LibraryUnavailable, match="is no plain file"):
        load(path)
    with pytest.warns(UserWarning, match="is no plain file: it is compiled anew"):
        assert answer(source) == 42
    assert not path.is_symlink()


@pytest.mark.parametrize(
    "damage",
    [
        "os.truncate(path, 4096)",  # loading such a one ends the process with SIGBUS
        "os.truncate(path, 0)",
        "path.write_bytes(b'garbage' * 1000)",
        "data = bytearray(path.read_bytes()); data[len(data) // 2] ^= 1; path.write_bytes(data)",
    ],
)
def test_a_damaged_library_is_noticed_and_compiled_anew(source: Path, home: Path, damage: str):
    code = f"""
path = compiled([source], flags)
{damage}
try:
    load(path)
except OSError as error:
    print(error)
print(load(compiled([source], flags)).answer())
"""
    process = in_another_process(code, source, home)
    said, warned = process.communicate(timeout=60)
    assert process.returncode == 0, warned
    assert "is not loaded" in said.splitlines()[0]
    assert "SHA-256" in said.splitlines()[0]
    assert said.splitlines()[1] == "42"
    assert "is damaged (its SHA-256 is not that of what was compiled): it is compiled anew" in warned
    assert "install" not in warned


def test_a_missing_function_is_named(source: Path):
    with pytest.raises(LibraryUnavailable, match="has no function 'question'"):
        load(compiled([source], FLAGS), ["answer", "question"])


def test_without_a_home_libraries_are_kept_for_this_process(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
):
    def no_name() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(folder.Path, "home", no_name)
    first, second = compiled([source], FLAGS), compiled([source], FLAGS)
    assert first == second
    assert first.is_relative_to(tmp_path / "tmp")
    assert load(first).answer() == 42
    (warning,) = recwarn
    assert "since this user has no home folder; set XDG_CACHE_HOME" in str(warning.message)


def test_a_temporary_folder_ends_with_its_process(source: Path, tmp_path: Path):
    (tmp_path / "file").write_text("where the cache should be")
    code = "path = compiled([source], flags); print(load(path).answer(), path)"
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    said, warned = in_another_process(code, source, tmp_path / "file", env=environment).communicate(timeout=60)
    number, path = said.split()
    assert number == "42"
    assert not Path(path).parent.exists()
    assert "are kept until this process ends only" in warned
    assert "Not a directory" in warned


def test_a_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / "own" / ".cache" / "attn_rl"


class TestCompilers:
    def test_cxx_may_hold_arguments(self, source: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("CXX", f"{find_compiler()[0]} -pthread '-DWORDS=two words'")
        assert find_compiler()[1:] == ["-pthread", "-DWORDS=two words"]
        assert answer(source) == 42

    def test_cxx_may_be_a_path_with_spaces(self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("CXX", str(slow_compiler(tmp_path, 0)))
        assert answer(source) == 42

    def test_an_empty_cxx_is_none(self, monkeypatch: pytest.MonkeyPatch):
        found = find_compiler()
        monkeypatch.setenv("CXX", "  ")
        assert find_compiler() == found

    @pytest.mark.parametrize(
        ("cxx", "said"),
        [
            ("/nowhere/c++", "the compiler '/nowhere/c[+][+]' cannot be run .*; install a C[+][+] compiler"),
            ("g++ 'unfinished", "is no command .No closing quotation.; set it to a C[+][+] compiler"),
            ("false", "`false .* failed .exit code 1.; install a C[+][+] compiler"),
            ("true", "`true` compiles .*small.cpp and writes no library; install a C[+][+] compiler"),
        ],
    )
    def test_a_compiler_that_fails_is_named(self, source: Path, monkeypatch: pytest.MonkeyPatch, cxx: str, said: str):
        monkeypatch.setenv("CXX", cxx)
        with pytest.raises(LibraryUnavailable, match=said):
            compiled([source], FLAGS)

    def test_ziglang_serves_where_there_is_no_other(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        package = tmp_path / "ziglang"
        package.mkdir()
        compiler = shutil.which(cache.find_compiler()[0])
        (package / "__main__.py").write_text(
            f"import subprocess, sys\nassert sys.argv[1] == 'c++'\n"
            f"sys.exit(subprocess.call([{compiler!r}, *sys.argv[2:]], env={dict(os.environ)!r}))\n"
        )
        (package / "__init__.py").touch()
        monkeypatch.setenv("PATH", "")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.syspath_prepend(tmp_path)
        assert find_compiler() == [sys.executable, "-m", "ziglang", "c++"]
        assert answer(source) == 42

    def test_no_compiler_at_all(self, source: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(cache, "find_spec", lambda name: None)
        with pytest.raises(LibraryUnavailable, match=r"there is no C[+][+] compiler; install"):
            compiled([source], FLAGS)

    def test_what_the_compiler_says_about_the_source_is_passed_on(self, source: Path):
        source.write_text("int answer( {")
        with pytest.raises(LibraryUnavailable, match=r"(?s)small.cpp.*error"):
            compiled([source], FLAGS)

    def test_a_library_of_another_machine_is_not_blamed_on_a_missing_compiler(self, source: Path):
        with pytest.raises(LibraryUnavailable, match="cannot be loaded") as caught:
            load(compiled([source], ("-c",)))  # an object file
        assert "install" not in str(caught.value)
        assert "check that CXX compiles for this machine" in str(caught.value)

    def test_a_full_disk_is_not_blamed_on_the_compiler(self, source: Path, tmp_path: Path):
        script = tmp_path / "c++"
        script.write_text(
            '#!/bin/sh\ncase "$*" in *-dM*) ;; *) echo "as: No space left on device" >&2; exit 1;; esac\n'
        )
        script.chmod(0o700)
        with pytest.warns(UserWarning, match="No space left"), pytest.raises(OSError, match="No space left") as caught:
            compiled([source], FLAGS, [str(script)])
        assert "install" not in str(caught.value)


class TestBuilds:
    def test_what_a_killed_build_leaves_is_removed_by_the_next(self, source: Path, home: Path, tmp_path: Path):
        code = f"compiled([source], flags, [{str(slow_compiler(tmp_path, 30))!r}])"
        process = in_another_process(code, source, home, start_new_session=True)
        wait_for(lambda: list(home.glob("attn_rl/.build-*/lock")))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert list(home.glob("attn_rl/.build-*"))
        path = compiled([source], FLAGS)
        assert list(path.parent.iterdir()) == [path]

    def test_a_build_that_is_going_on_is_left_alone(self, source: Path, home: Path, tmp_path: Path):
        code = f"print(load(compiled([source], flags, [{str(slow_compiler(tmp_path, 1))!r}])).answer())"
        process = in_another_process(code, source, home)
        wait_for(lambda: list(home.glob("attn_rl/.build-*/lock")))
        assert answer(source) == 42
        assert process.poll() is None
        assert list(home.glob("attn_rl/.build-*"))
        said, warned = process.communicate(timeout=60)
        assert said == "42\n", warned
        assert not list(home.glob("attn_rl/.build-*"))

    def test_several_at_once(self, source: Path, home: Path):
        code = "print(load(compiled([source], flags)).answer())"
        processes = [in_another_process(code, source, home) for _ in range(5)]
        assert [process.communicate(timeout=60) for process in processes] == [("42\n", "")] * 5
        assert len(list((home / "attn_rl").iterdir())) == 1

    def test_a_build_taken_for_abandoned_before_its_lock_begins_again(
        self, source: Path, monkeypatch: pytest.MonkeyPatch
    ):
        make, made = cache.tempfile.mkdtemp, []

        def taken(**options) -> str:
            made.append(make(**options))
            if len(made) == 1:
                shutil.rmtree(made[0])
            return made[-1]

        monkeypatch.setattr(cache.tempfile, "mkdtemp", taken)
        assert answer(source) == 42
        assert len(made) == 2


class TestSwitch:
    @pytest.mark.parametrize("value", ["0", "false", "off", "no", "False", "OFF", " no "])
    def test_off(self, value: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("ATTN_RL_FUSED", value)
        assert not is_on("ATTN_RL_FUSED")

    @pytest.mark.parametrize("value", [None, "", "1", "true", "on", "yes"])
    def test_on(self, value: str | None, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("ATTN_RL_FUSED", raising=False)
        if value is not None:
            monkeypatch.setenv("ATTN_RL_FUSED", value)
        assert is_on("ATTN_RL_FUSED")

    def test_anything_else_is_an_error(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("ATTN_RL_FUSED", "never")
        with pytest.raises(ValueError, match="ATTN_RL_FUSED='never' is unknown; 0, false, off, no switch off"):
            is_on("ATTN_RL_FUSED")


class TestKernels:
    @pytest.fixture(autouse=True)
    def fresh(self) -> Iterator[None]:
        build._loaded.cache_clear()
        yield
        build._loaded.cache_clear()

    def test_the_switch_leaves_them_out(self, home: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(build.SWITCH, "off")
        assert build.why_not() == "ATTN_RL_FUSED switches the kernels off"
        assert not home.exists()

    @pytest.mark.parametrize("compiler", ["", "/nowhere/c++", "false"])
    def test_without_a_compiler_it_is_said_once(
        self, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, compiler: str
    ):
        monkeypatch.setenv("CXX", compiler)
        if not compiler:
            monkeypatch.setenv("PATH", "")
        assert build.why_not() == build.why_not()
        (warning,) = recwarn
        assert str(warning.message).startswith("the kernels are left out, since ")
        assert "install a C++ compiler" in str(warning.message)
        assert str(warning.message).endswith("; ATTN_RL_FUSED=0 silences this")

    def test_a_missing_function_leaves_them_out(self, source: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(build, "SOURCE", source)
        monkeypatch.setattr(build, "HEADERS", [])
        monkeypatch.setattr(build, "FLAGS", FLAGS)
        with pytest.warns(UserWarning, match="left out, since .* has no function .*reinstall it"):
            assert "has no function" in (build.why_not() or "")
