"""Presets as files, as ``attn-rl tune`` writes them and ``--preset`` takes them."""

import json
from pathlib import Path

import pytest

from attn_rl.training.arguments import parse, to_json
from attn_rl.training.plan import origin
from attn_rl.training.preset_file import preset_for, write_preset_file
from attn_rl.training.presets import find_preset
from attn_rl.training.tune.command import Tune, run_tune, tuned_preset
from attn_rl.training.tune.space import SPACE, search_space
from attn_rl.training.tune.trial import Stopped, Sweep, run_trial

FOUND = {"learning_rate": 0.00123, "d_model": 16}


def written(folder: Path) -> Path:
    path = folder / "preset.json"
    write_preset_file(path, tuned_preset(Sweep("AttnRL/Seek-v0", total_timesteps=640), FOUND))
    return path


def test_what_was_found_is_what_a_run_trains_with(tmp_path: Path):
    path = written(tmp_path)
    args = parse(["--env", "AttnRL/Seek-v0", "--preset", str(path), "--gamma", "0.5"])
    expected = vars(find_preset("AttnRL/Seek-v0").settings("attention")) | FOUND | {"gamma": 0.5}
    assert vars(args.settings) == expected
    assert args.total_timesteps == 640
    assert "preset" not in to_json(args)  # it has become settings
    assert origin(args) == f"Settings are the preset of {path}, but for gamma."


def test_another_policy_keeps_its_own_preset(tmp_path: Path):
    found = preset_for(written(tmp_path), "AttnRL/Seek-v0", {}).settings("deepsets")
    assert found == find_preset("AttnRL/Seek-v0").settings("deepsets")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1]", "expected an object"),
        ("{", "is not JSON"),
        ('{"gamma": 0.9}', "write 'settings'"),
        ('{"settings": {"gama": 0.9}}', "did you mean 'gamma'"),
        ('{"settings": {"gamma": 9}}', "gamma=9"),
    ],
)
def test_a_file_that_is_no_preset_is_refused_in_words(tmp_path: Path, content: str, says: str):
    path = tmp_path / "preset.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=says):
        preset_for(path, "AttnRL/Seek-v0", {})


def test_a_missing_file_says_who_writes_one(tmp_path: Path):
    with pytest.raises(ValueError, match="attn-rl tune ENV writes one"):
        preset_for(tmp_path / "none.json", "AttnRL/Seek-v0", {})


def test_lists_of_json_are_tuples_again(tmp_path: Path):
    path = tmp_path / "preset.json"
    path.write_text(json.dumps({"settings": {"net_arch": [8, 8]}}))
    assert preset_for(path, "AttnRL/Seek-v0", {}).settings("attention").net_arch == (8, 8)


def test_what_can_be_searched_are_settings_that_the_policy_takes():
    assert list(search_space(["gamma", "n_heads"], "attention")) == ["gamma", "n_heads"]
    assert set(SPACE) <= set(vars(find_preset("AttnRL/Seek-v0").settings("attention")))
    for names, policy, says in ((["n_heads"], "deepsets", "takes no n_heads"), (["gama"], "attention", "'gamma'")):
        with pytest.raises(ValueError, match=says):
            search_space(names, policy)


def test_a_trial_tells_how_it_goes_and_ends_where_it_is_told_to():
    sweep = Sweep("AttnRL/Match-v0", total_timesteps=64 * 18, eval_episodes=100)
    short = {"n_steps": 1, "batch_size": 64, "n_epochs": 1}
    told: list[int] = []
    score = run_trial(sweep, short, 0, lambda rung, score: not told.append(rung))
    assert told == sorted(set(told))
    assert told[-1] == 9
    assert 0 <= score <= 1
    with pytest.raises(Stopped):
        run_trial(sweep, short, 0, lambda rung, score: False)


def test_a_sweep_that_nothing_is_installed_for_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'attn_rl\[tune\]'"):
        run_tune(Tune("AttnRL/Match-v0", folder=tmp_path))
