"""Settings that follow from the number of environments: what nobody chose, and nothing else."""

import json
from dataclasses import asdict
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

import attn_rl
from attn_rl import make_agent, make_vec_env
from attn_rl.training.adaptive import EPOCHS, FEW_ENVIRONMENTS, MANY_EPOCHS
from attn_rl.training.arguments import parse
from attn_rl.training.presets import Preset, find_preset
from attn_rl.training.run.resume import read_args
from tests.toys import Toy

FEW, MANY = FEW_ENVIRONMENTS, FEW_ENVIRONMENTS + 1
MATCH, UNTUNED = "AttnRL/Match-v0", "Untuned-v0"


@pytest.fixture(autouse=True)
def untuned(monkeypatch):
    monkeypatch.setitem(gym.registry, UNTUNED, EnvSpec(UNTUNED, entry_point=Toy))


@pytest.mark.parametrize(("n_envs", "n_epochs"), [(1, MANY_EPOCHS), (FEW, MANY_EPOCHS), (MANY, EPOCHS), (128, EPOCHS)])
def test_few_environments_learn_more_from_each_step(n_envs: int, n_epochs: int):
    assert Preset().settings("attention", n_envs).n_epochs == n_epochs
    assert make_agent(make_vec_env(UNTUNED, n_envs, seed=0)).n_epochs == n_epochs
    assert parse(["--env", UNTUNED, "--n-envs", str(n_envs)]).settings.n_epochs == n_epochs
    assert Preset(n_envs=n_envs).settings("attention").n_epochs == n_epochs  # as many as the preset's


@pytest.mark.parametrize("n_epochs", [EPOCHS, MANY_EPOCHS, 3])
def test_what_was_chosen_by_hand_wins_whatever_the_rule_says(n_epochs: int):
    for n_envs in (FEW, MANY):
        assert make_agent(make_vec_env(UNTUNED, n_envs, seed=0), n_epochs=n_epochs).n_epochs == n_epochs
        argv = ["--env", UNTUNED, "--n-envs", str(n_envs), "--n-epochs", str(n_epochs)]
        assert parse(argv).settings.n_epochs == n_epochs


def test_a_preset_is_taken_as_it_is():
    assert make_agent(make_vec_env(MATCH, FEW, seed=0)).n_epochs == EPOCHS
    assert parse(["--env", MATCH, "--n-envs", str(FEW)]).settings.n_epochs == EPOCHS
    assert Preset(all_policies={"gamma": 0.5}).settings("attention", FEW).n_epochs == EPOCHS
    assert Preset(policies={"flat": {"n_epochs": 3}}).settings("flat", FEW).n_epochs == 3
    assert Preset(policies={"flat": {"n_epochs": 3}}).settings("deepsets", FEW).n_epochs == MANY_EPOCHS


def test_nothing_but_what_a_rule_names_depends_on_the_number_of_environments():
    few, many = (asdict(find_preset(UNTUNED).settings("attention", n_envs)) for n_envs in (1, 128))
    assert {name for name in few if few[name] != many[name]} == {"n_epochs"}


def test_processes_are_few_environments_unless_told_otherwise():
    assert parse(["--env", UNTUNED, "--processes"]).settings.n_epochs == MANY_EPOCHS
    assert parse(["--env", UNTUNED, "--processes", "--n-envs", "16"]).settings.n_epochs == EPOCHS


def test_a_number_of_environments_that_is_none_is_named():
    for argv in (["--n-envs", "-1"], ["--n-envs", "100000"]):
        with pytest.raises(ValueError, match=r"n_envs=.*expected a whole number from 1"):
            parse(["--env", UNTUNED, *argv])
    with pytest.raises(ValueError, match="n_envs=0, expected"):
        attn_rl.train(UNTUNED, n_envs=0)


def test_a_run_says_so_stores_it_and_is_resumed_with_it(tmp_path: Path, monkeypatch):
    short = {"n_steps": 8, "eval_episodes": 0, "total_timesteps": 64, "runs_dir": tmp_path, "save_every": 1}
    folder = attn_rl.train(UNTUNED, n_envs=4, **short)
    plan = json.loads((folder / "args.json").read_text())["plan"]
    line = "10 epochs instead of 4: with 4 environments (8 or fewer) steps are dear, so each is learned from more."
    assert line in plan
    assert "but for n_steps." in plan[-1]
    assert read_args(folder)["settings"].n_epochs == MANY_EPOCHS
    monkeypatch.setattr("attn_rl.training.adaptive.FEW_ENVIRONMENTS", 1)  # another rule in another version
    attn_rl.train(resume=folder, total_timesteps=96)
    assert read_args(folder)["settings"].n_epochs == MANY_EPOCHS
    by_hand = attn_rl.train(UNTUNED, n_envs=4, n_epochs=2, **short)
    assert not any("dear" in line for line in json.loads((by_hand / "args.json").read_text())["plan"])
