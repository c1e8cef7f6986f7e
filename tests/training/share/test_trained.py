"""The agents that come with the package: each loads, is small, and scores what its card says."""

import json
from pathlib import Path

import numpy as np
import pytest

from attn_rl import load, make_vec_env
from attn_rl.training.evaluation import evaluate
from attn_rl.training.share.card import table
from attn_rl.training.share.sources import TRAINED, trained, trained_names

NAMES = trained_names()


def test_there_are_some():
    assert {"Seek", "Match", "Boxes", "Dodge"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_its_card_shows_its_figures(name):
    files = [path for path in trained(name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md", ".png"}
    evaluation = json.loads((TRAINED / name / "evaluation.json").read_text())
    card = (TRAINED / name / "README.md").read_text()
    assert table(evaluation["results"]) in card
    assert f'load("zoo:{name}"' in card


@pytest.mark.parametrize("name", NAMES)
def test_it_scores_what_its_card_says(name):
    said = json.loads((TRAINED / name / "evaluation.json").read_text())
    row = said["results"][0]
    if name == "Route":
        pytest.importorskip("fast_tsp")
    agent = load(f"zoo:{name}", env=make_vec_env(said["env"], 1))
    found = evaluate(agent, said["env"], episodes=60, n_envs=20)
    spread = 4 / np.sqrt(found.episodes)
    assert abs(found.mean_return - row["mean_return"]) <= spread * row["std_return"] + 0.02
    if row["success_rate"] is not None:
        assert abs(found.success_rate - row["success_rate"]) <= spread * 0.5


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(ValueError, match="zoo:Seak is none of the trained agents; did you mean 'Seek'"):
        load("zoo:Seak")


def test_the_page_shows_their_figures():
    page = (Path(__file__).parents[3] / "docs" / "sharing.md").read_text()
    for name in NAMES:
        said = json.loads((TRAINED / name / "evaluation.json").read_text())
        row = said["results"][0]
        figures = f"{row['success_rate']:.3f} | {row['mean_return']:.3f} | {said['total_timesteps']:,}"
        assert f"| `zoo:{name}` | {figures} |" in page
