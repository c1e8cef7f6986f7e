"""What a user may type wrong, and the one line that ``train.py`` and ``attn-rl`` answer with."""

import errno
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from attn_rl import cli
from attn_rl.console import Output, explain_error, one_line_errors
from attn_rl.training import train
from tests.toys import Toy

SHORT = ["--total-timesteps", "64", "--n-envs", "4", "--n-steps", "8", "--eval-episodes", "0"]
SEEK, MATCH = "AttnRL/Seek-v0", "AttnRL/Match-v0"


class TupleActions(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Tuple([gym.spaces.Discrete(2)])


class UnboundedActions(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Box(-np.inf, np.inf, (2,))


@pytest.fixture(autouse=True, scope="module")
def _toys() -> Iterator[None]:
    gym.register("Tuple-v0", TupleActions)
    gym.register("Unbounded-v0", UnboundedActions)
    yield
    del gym.registry["Tuple-v0"], gym.registry["Unbounded-v0"]


def one_line(argv: list[str], program=train.main) -> str:
    """The message that a program ends with, exit code 1."""
    with pytest.raises(SystemExit) as left:
        program(argv)
    assert isinstance(left.value.code, str)  # Python prints it to stderr and exits with 1
    assert left.value.code.startswith("error: ")
    assert "\n" not in left.value.code
    return left.value.code.removeprefix("error: ")


MISTAKES = [
    # the environment
    (
        ["--env", "AttnRL/Sek-v0"],
        "there is no environment 'AttnRL/Sek-v0'; did you mean AttnRL/Seek-v0?",
    ),
    (["--env", "AttnRL/Seek-v9"], "did you mean AttnRL/Seek-v0?"),
    (
        ["--env", "Quest-v0"],
        "nothing like it; the module that registers one goes in front, as in my_module:My-v0",
    ),
    (["--env", "evns:AttnRL/Seek-v0"], "there is no module 'evns'; did you mean 'AttnRL/Seek-v0'?"),
    (["--env", "nowhere:X-v0"], "there is no module 'nowhere'; install it, or start in the folder that holds it"),
    (["--env", "evns:AttnRL/Sek-v0"], "there is no module 'evns'; install it, or start in the folder that holds it"),
    (["--env", "envs:AttnRL/Sek-v0"], "did you mean AttnRL/Seek-v0?"),
    (["--env", "attn_rl:AttnRL/Sek-v0"], "did you mean AttnRL/Seek-v0?"),
    (["--env", "attn_rl.nothing:X-v0"], "there is no module 'attn_rl.nothing'"),
    (["--env", ":X-v0"], "':X-v0': '' is no name of a module; expected module:name"),
    (["--env", "../x:X-v0"], "'../x' is no name of a module"),
    (["--env", "json:Quest-v0"], "there is no environment 'json:Quest-v0'; importing json registers nothing like it"),
    (["--env", "what is this"], "there is no environment 'what is this'"),
    (["--env", "CartPole-v1"], "cannot find entities"),
    (["--env", "Tuple-v0"], "expected a Discrete, MultiDiscrete, MultiBinary or bounded Box"),
    (["--env", "Unbounded-v0"], "expected finite bounds"),
    # its arguments
    (["--env", MATCH, "--env-kwargs", "rul", "odd"], f"{MATCH} takes no argument 'rul'; did you mean 'rule'?"),
    (["--env", MATCH, "--env-kwargs", "rule", "od"], 'rule=\'od\'; expected "cue" or "odd"'),
    (["--env-kwargs", "max_entities", "many"], f"{SEEK}: max_entities is 'many'; expected int"),
    (["--env-kwargs", "capacity", "many"], f"{SEEK}: capacity is 'many'; expected int | None"),
    (["--env-kwargs", "max_entities", "1"], "min_entities=4 exceeds max_entities=1"),
    (["--env-kwargs", "capacity", "9.5"], f"{SEEK}: capacity is 9.5; expected int | None"),
    (["--env-kwargs", "capacity", "100000000"], "capacity=100,000,000; expected at most 1,048,576"),
    (["--env-kwargs", "max_entities", "100000000"], "max_entities=100,000,000; expected at most 1,048,576"),
    (["--env-kwargs", "max_entities", "{[1]: 2}"], f"{SEEK}: max_entities is '{{[1]: 2}}'; expected int"),
    (["--env-kwargs", "max_entities", "{(1, 2): 2}"], "--env-kwargs max_entities: {(1, 2): 2} has no form in JSON"),
    (["--env-kwargs", "render_mode", "human"], "--env-kwargs render_mode: it is set for you; leave it out"),
    (["--env-kwargs", "num_envs", "3"], "--env-kwargs num_envs: it is set for you"),
    # numbers
    (["--batch-size", "0"], "batch_size=0, expected a whole number from 1 to 16,777,216"),
    (["--batch-size", "1"], "batch_size=1 of n_steps=8 x n_envs=4 samples"),
    (["--threads", "0"], "threads=0, expected a whole number from 1 to 1,024"),
    (["--gamma", "2"], "gamma=2.0, expected a number from 0 to 1"),
    (["--total-timesteps", "-5"], "total_timesteps=-5, expected a whole number from 1 to 1,000,000,000,000"),
    (["--n-envs", "100000000"], "n_envs=100000000, expected a whole number from 1 to 65,536"),
    (["--n-heads", "-1"], "n_heads=-1, expected a whole number from 1 to 1,024"),
    (["--n-heads", "5"], "d_model=32 is not divisible by n_heads=5; try d_model=30 or 35"),
    (["--learning-rate", "1e9"], "learning_rate=1000000000.0, expected a number from 0 to 1"),
    (["--learning-rate", "nan"], "learning_rate=nan, expected a number from 0 to 1"),
    (["--record-every", "0"], "record_every=0, expected a whole number of 1 or more"),
    (["--save-every", "0"], "save_every=0, expected a whole number of 1 or more"),
    (["--keep", "0"], "keep=0, expected a whole number of 1 or more"),
    (["--eval-episodes", "-1"], "eval_episodes=-1, expected a whole number from 0 to 10,000,000"),
    (["--seed", "-1"], "seed=-1, expected a whole number from 0 to 4,294,967,295"),
    (["--max-abs-reward", "0"], "max_abs_reward=0.0, expected a number above 0"),
    (["--net-arch", "0"], "net_arch=(0,), expected at most 16 widths of hidden layers"),
    # names
    (["--device", "cuda:99"], "device='cuda:99' is not there; choose one of cpu"),
    (["--device", "gpu"], "device='gpu' is not there; choose one of cpu"),
    (["--policy", "atention"], "(on the command line: --policy module:name), or did you mean 'attention'?"),
    (["--pointer", "itms"], "pointer='itms' is no entity type; choose one of ['items']"),
    (["--sort-by", "foo"], "sort_by='foo': policy 'attention' takes no sort_by; leave it out, or policy='flat' does"),
    (["--policy", "deepsets", "--n-heads", "2"], "n_heads=2: policy 'deepsets' takes no n_heads; leave it out, or"),
    (["--policy", "flat", "--pointer", "items"], "pointer='items': policy 'flat' takes no pointer"),
    (["--run-name", "../outside"], "run name '../outside' would not be one plain folder"),
    # folders
    (["--load", "nowhere"], "nowhere"),
    (["--resume", "nowhere"], "nowhere is no run folder: it has no args.json; give runs/<name>"),
    (["--runs-dir", "/proc/nothing"], "/proc/nothing: "),
]


@pytest.mark.parametrize(("argv", "message"), MISTAKES, ids=[" ".join(argv) for argv, _ in MISTAKES])
def test_train_answers_a_mistake_with_one_line(argv: list[str], message: str, tmp_path: Path):
    given = [] if "--runs-dir" in argv else ["--runs-dir", str(tmp_path)]
    assert message in one_line([*SHORT, *given, *argv])
    assert not list(tmp_path.iterdir())


def test_a_file_where_runs_should_go_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file" in one_line([*SHORT, "--runs-dir", str(tmp_path / "file")])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["evaluate", "nowhere"], "nowhere is no run folder: it has no args.json; give runs/<name>"),
        (["evaluate", "nowhere", "--episodes", "0"], "episodes=0, expected a whole number from 1 to"),
        (["record", "nowhere"], "nowhere is no run folder"),
        (["record", "nowhere", "--n-scenes", "0"], "n_scenes=0, expected a whole number from 1 to"),
        (["inspect", "nowhere"], "nowhere holds no attention records"),
        (["presets", "AttnRL/Sek-v0"], "did you mean AttnRL/Seek-v0?"),
        (["presets", MATCH, "--env-kwargs", "rul", "odd"], "takes no argument 'rul'; did you mean 'rule'?"),
        (["presets", MATCH, "--env-kwargs", "capacity", "100000000"], "capacity=100,000,000; expected at most"),
        (["presets", "nowhere:X-v0"], "there is no module 'nowhere'"),
    ],
)
def test_attn_rl_answers_a_mistake_with_one_line(argv: list[str], message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["attn-rl", *argv])
    assert message in one_line([], lambda _: cli.main())


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "runs/x"), "runs/x: Read-only file system"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), "a -> b: Invalid cross-device link"),
        (MemoryError(), "not enough memory (none is left); fewer or smaller: n_envs, n_steps, d_model, entities"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory (DefaultCPUAllocator"),
        (ValueError("two\n  lines"), "two lines"),
        (RuntimeError("a fault of ours"), None),
        (TypeError("a fault of ours"), None),
    ],
)
def test_what_a_user_can_do_something_about_is_one_line_and_nothing_else_is(error: Exception, line: str | None):
    said = explain_error(error)
    assert said == line if line is None else said.startswith(line)
    with pytest.raises(type(error) if line is None else SystemExit), one_line_errors():
        raise error


class Gone(io.StringIO):
    """A stream whose reader is gone, or whose disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error, self.tries = error, 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.ENOSPC, "No space left")])
def test_training_goes_on_without_a_reader_and_says_so_once(error, tmp_path, monkeypatch, capsys):
    stream = Gone(error)
    monkeypatch.setattr(sys, "stdout", stream)
    train.main([*SHORT, "--runs-dir", str(tmp_path)])
    assert (next(tmp_path.iterdir()) / "model.zip").is_file()
    assert stream.tries == 1
    said = capsys.readouterr().err
    assert said.count(f"standard output: {error.strerror}; training goes on") == 1
    assert str(tmp_path) not in said


def test_without_training_a_full_output_is_an_error_and_a_closed_one_the_end():
    with pytest.raises(SystemExit, match="error: standard output: No space left"):
        Output(Gone(OSError(errno.ENOSPC, "No space left")), "standard output").write("x")
    with pytest.raises(SystemExit) as left:
        Output(Gone(BrokenPipeError(errno.EPIPE, "Broken pipe")), "standard output").write("x")
    assert left.value.code == 141


@pytest.mark.parametrize(
    ("redirect", "code", "said"),
    [("> /dev/full", 1, "error: standard output: No space left on device\n"), ("| true", 0, "")],
)
def test_help_into_nowhere_makes_no_noise(redirect: str, code: int, said: str):
    command = f"sleep 0; {sys.executable} -m attn_rl --help {redirect}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)


def test_closed_standard_streams_are_none_to_python_and_no_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with one_line_errors():
        print("nobody reads this")
    assert sys.stdout is None
