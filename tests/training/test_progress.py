"""The progress line: whole fields at any width, plain lines where there is no terminal."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from attn_rl import make_agent, make_vec_env
from attn_rl.training.progress import ProgressCallback, fit
from attn_rl.training.report import print_where_to_look

FIELDS = ["success 0.95", "return 0.93", "0:01:07 left", "12,345 steps/s", "123,904/200,000"]
LEAD = [" 62%", "━" * 12 + "─" * 8]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (120, "  ".join([*LEAD, *FIELDS])),
        (80, " 62%  success 0.95  return 0.93  0:01:07 left  12,345 steps/s  123,904/200,000"),
        (60, " 62%  success 0.95  return 0.93  0:01:07 left"),
        (20, " 62%  success 0.95"),
        (5, " 62%"),
    ],
)
def test_a_line_holds_whole_fields_and_leaves_the_last_column_free(width: int, line: str):
    assert fit(FIELDS, LEAD, width) == line
    assert len(line) < width


def lines_of(console: Console | None) -> None:
    env = make_vec_env("AttnRL/Match-v0", 4, seed=0)
    progress = ProgressCallback(console)
    agent = make_agent(env, seed=0, n_steps=8, batch_size=32, n_epochs=1, d_model=8, n_heads=2)
    agent.learn(32 * 20, callback=progress)
    progress.close()


@pytest.mark.parametrize("width", [80, 60, 20])
def test_a_terminal_shows_one_line_that_is_never_cut(width: int):
    screen = io.StringIO()
    lines_of(Console(file=screen, force_terminal=True, width=width, color_system=None))
    shown = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").split("\n")
    assert max(len(line.rstrip()) for line in shown) < width
    assert "…" not in screen.getvalue()
    assert re.fullmatch(r"100%  .*success \d\.\d\d.*", next(line for line in reversed(shown) if line.strip()))


def test_a_file_gets_a_plain_line_for_every_tenth(capsys: pytest.CaptureFixture[str]):
    lines_of(None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    form = r"training  success \d\.\d\d  return -?\d\.\d\d  0:00:\d\d left  [\d,]+ steps/s  \d+/640"
    assert all(re.fullmatch(form, line) for line in lines)
    assert lines[-1].endswith("640/640")


def test_the_last_lines_name_folders_as_they_are(capsys: pytest.CaptureFixture[str]):
    folder = Path("x" * 90) / "Match[rule=odd]"
    print_where_to_look(folder)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Saved in {folder}/"
    assert lines[1] == f"Look at it:  tensorboard --logdir {folder.parent}"
