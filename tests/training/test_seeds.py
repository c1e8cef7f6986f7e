"""Runs over several seeds, and what there is to say about them."""

import subprocess
import sys
from pathlib import Path

import pytest

from attn_rl.training.seeds import over_seeds, print_seeds, read_seeds
from attn_rl.training.train import main

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--total-timesteps", "32", "--n-envs", "4", "--n-steps", "8", "--batch-size", "32", "--eval-episodes", "100"]


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("7", [7]), ("3,0,5-6", [3, 0, 5, 6]), ("1,0-2", [1, 0, 2])]
)
def test_seeds_are_ranges_and_lists(text: str, seeds: list[int]):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "4-0", "a", "1,", "-1", "0-99999", "0-999,1000", "1 2"])
def test_other_texts_and_too_many_are_refused(text: str):
    with pytest.raises(ValueError, match="expected numbers such as 0-4 or 0,2,7"):
        read_seeds(text)


def test_figures_over_seeds_are_the_mean_and_the_interquartile_mean_in_its_interval():
    assert over_seeds([0.0, 0.5, 0.7, 1.0]) == "mean 0.550\nIQM 0.600 [0.000, 1.000]"  # of the middle two
    assert over_seeds([0.5, 0.5, None]) == "mean 0.500\nIQM 0.500 [0.500, 0.500]"
    assert over_seeds([None, None]) == "-"


def test_the_table_has_a_row_for_each_number_of_entities(capsys: pytest.CaptureFixture[str]):
    row = {"min_entities": 16, "max_entities": 16, "success_rate": None, "mean_return": 2.0}
    results = [{"min_entities": 4, "max_entities": 8, "success_rate": 1.0, "mean_return": 3.0}, row]
    print_seeds([{"env": "E-v0", "policy": "attention", "seed": seed, "results": results} for seed in (3, 5)])
    said = capsys.readouterr().out
    assert "attention on E-v0, seeds 3, 5" in said
    assert "4-8 (trained)" in said
    assert "16 (zero-shot)" in said
    assert "1.000 [1.000, 1.000]" in said


def attn_rl(*argv: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attn_rl", *argv], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_seeds_run_beside_each_other_and_end_with_a_table(tmp_path: Path):
    done = attn_rl("train", "--seeds", "0,3", "--jobs", "2", "--runs-dir", str(tmp_path), *SHORT)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name.split("__")[2] for path in tmp_path.iterdir()) == ["0", "3"]
    assert "attention on AttnRL/Seek-v0, seeds 0, 3" in done.stdout
    assert "seed 3: " in done.stdout


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_told(tmp_path: Path):
    script = (  # the second seed's folder is there already
        "import sys; from attn_rl.training import seeds\n"
        "seeds.compose_name = lambda env, policy, seed: f'run{seed}'\n"
        "from attn_rl.training.train import main; main(sys.argv[1:])"
    )
    (tmp_path / "run1").mkdir()
    argv = ["--seeds", "0-1", "--runs-dir", str(tmp_path), *SHORT]
    done = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "1 of 2 runs failed, seeds 1; see above" in done.stderr
    assert "seeds 0" in done.stdout


@pytest.mark.parametrize("more", [["--run-name", "mine"], ["--seeds", "x"]])
def test_what_several_runs_cannot_have_is_one_line(more: list[str], tmp_path: Path):
    with pytest.raises(SystemExit, match=r"^error: .*seeds"):
        main(["--seeds", "0-1", "--runs-dir", str(tmp_path), *SHORT, *more])
    assert not list(tmp_path.iterdir())
