"""A card says what was measured, and the folder is data that can be loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from attn_rl import load, make_agent, make_vec_env
from attn_rl.training.share.card import mean, share, span, table, wilson
from attn_rl.training.share.publish import publish
from tests.training.share.runs import MATCH, make_run

SUFFIXES = {".json", ".safetensors", ".md", ".png"}


def test_wilsons_interval_by_hand():
    low, high = wilson(0.9, 10)  # Wilson 1927: (0.9 + 0.192) / 1.384 +- ...
    assert (low, high) == (pytest.approx(0.5958, abs=2e-3), pytest.approx(0.9821, abs=2e-3))
    assert wilson(1.0, 1000) == (pytest.approx(0.9962, abs=1e-4), 1.0)
    assert wilson(0.0, 1000)[0] == 0.0


def test_rows_hold_what_is_known():
    row = {"min_entities": 3, "max_entities": 8, "episodes": 100, "success_rate": None, "top1_relevant": None}
    row |= {"mean_return": 2.0, "std_return": 1.0}
    assert share(row) == "-"
    assert mean(row) == "2.000 [1.804, 2.196]"
    assert table([row]).splitlines()[-1] == "| 3 to 8 (as trained) | 100 | - | 2.000 [1.804, 2.196] | - |"
    assert span({"food": 2, "walls": 1}, {"food": 4, "walls": 1}) == "food 2 to 4, walls 1"
    assert "| as trained |" in table([{**row, "min_entities": None}])


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("share")
    run = make_run(folder / "run")
    return run, publish(run, folder / "card", episodes=100, source="hf:someone/match")


def test_the_folder_holds_data_alone_and_nothing_of_the_machine(published):
    run, card = published
    files = [path for path in card.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == SUFFIXES
    assert sum(path.stat().st_size for path in files) < 200_000
    for path in files:
        assert str(run.parent).encode() not in path.read_bytes()


def test_it_acts_as_the_run_does_and_can_be_trained_on(published):
    run, card = published
    env = make_vec_env(MATCH, 50, seed=7)
    theirs, ours = load(run, env=env), load(card, env=env)
    observation = env.reset()
    for deterministic in (True, False):
        actions = []
        for agent in (theirs, ours):
            torch.manual_seed(1)
            actions.append(agent.predict(observation, deterministic=deterministic)[0])
        assert np.array_equal(*actions)
    assert ours.num_timesteps == theirs.num_timesteps
    ours.learn(64)


def test_the_card_says_what_it_is_and_how_to_load_it(published):
    _, card = published
    text = (card / "README.md").read_text()
    assert "# attention on AttnRL/Match-v0" in text
    assert 'load("hf:someone/match", env=make_vec_env("AttnRL/Match-v0", 1))' in text
    assert "![" in text
    assert (card / "map.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((card / "evaluation.json").read_text())["results"]
    assert [row["min_entities"] for row in results] == [5, 16, 32]
    assert share(results[0]) in text
    yaml = pytest.importorskip("yaml")
    header = yaml.safe_load(text.split("---")[1])
    assert header["library_name"] == "attn_rl"
    assert header["model-index"][0]["results"][0]["metrics"][0]["type"] == "mean_reward"


def test_nothing_is_overwritten(published):
    run, card = published
    with pytest.raises(ValueError, match="exists already; choose another --out"):
        publish(run, card)


def test_weights_that_share_memory_are_written_once():
    from attn_rl.training.run.agent_state import to_arrays, with_shared, without_shared

    weights = make_agent(make_vec_env(MATCH, 2), seed=1).policy.state_dict()
    arrays = to_arrays(weights)
    once = without_shared(arrays, weights)
    assert sum(array.nbytes for array in once.values()) < 0.6 * sum(array.nbytes for array in arrays.values())
    again = with_shared(once, weights)
    assert again.keys() == arrays.keys()
    assert all(np.array_equal(again[name], arrays[name]) for name in arrays)
    missing = {name: array for name, array in once.items() if "action_net" not in name}
    assert "action_net.weight" not in with_shared(missing, weights)
