"""``attn_rl.train``: in Python what ``attn-rl train`` does."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from attn_rl.envs.route import RouteVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

import attn_rl
from attn_rl import make_vec_env
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.arguments import parse, to_json
from attn_rl.training.run.checkpoint import list_checkpoints
from attn_rl.training.run.save_callback import resume_command
from attn_rl.training.train import switch_off_what_only_evaluation_needs
from tests.toys import Toy

SHORT: dict[str, Any] = {"n_envs": 4, "n_steps": 8, "batch_size": 32, "eval_episodes": 0}


def stored(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "args.json").read_text())


def test_it_trains_in_a_run_folder_and_goes_on_there(tmp_path: Path):
    folder = attn_rl.train(
        "AttnRL/Match-v0", "deepsets", runs_dir=tmp_path, env_kwargs={"capacity": 11}, total_timesteps=32, **SHORT
    )
    assert attn_rl.load(folder).num_timesteps == 32
    assert stored(folder)["env_kwargs"] == {"capacity": 11}
    assert stored(folder)["settings"]["learning_rate"] == 8e-3  # the preset's
    assert attn_rl.train(resume=folder, total_timesteps=64) == folder
    assert attn_rl.load(folder).num_timesteps == 64
    assert len(list_checkpoints(folder)) == 3


def test_keywords_are_the_command_line(tmp_path: Path):
    folder = attn_rl.train(runs_dir=str(tmp_path), total_timesteps=32, d_model=16, seed=5, run_name="mine", **SHORT)
    argv = "--total-timesteps 32 --d-model 16 --seed 5 --run-name mine --n-envs 4 --n-steps 8 --batch-size 32"
    typed = parse([*argv.split(), "--eval-episodes", "0", "--runs-dir", str(tmp_path)])
    assert stored(folder).items() >= to_json(typed).items()
    assert not {"seeds", "jobs"} & set(stored(folder))


def test_tours_are_solved_for_the_table_and_not_while_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In training nothing asks for the gap, and exact solutions would cost far more than the steps."""
    counts = []
    solved, learn = RouteVectorEnv._shortest, EntityPPO.learn

    def learning(*args: Any, **kwargs: Any) -> EntityPPO:
        counts.clear()
        agent = learn(*args, **kwargs)
        counts.append("learned")
        return agent

    monkeypatch.setattr(RouteVectorEnv, "_shortest", lambda *args: (counts.append("solved"), solved(*args))[1])
    monkeypatch.setattr(EntityPPO, "learn", learning)
    settings = SHORT | {"eval_episodes": 8}
    kwargs = {"report_gap": True, "min_entities": 3, "max_entities": 4}
    folder = attn_rl.train("AttnRL/Route-v0", runs_dir=tmp_path, env_kwargs=kwargs, total_timesteps=64, **settings)
    assert counts[0] == "learned"
    assert "solved" in counts
    rows = json.loads((folder / "evaluation.json").read_text())["results"]
    assert [row["gap"] >= 0 for row in rows] == [True, True]


@pytest.mark.parametrize("make", [make_vec_env, partial(make_vec_env, vec_env_cls=DummyVecEnv), gym.make])
def test_what_only_evaluation_needs_is_switched_off_through_all_wrappers(make):
    kwargs = {"report_gap": True}
    env = make("AttnRL/Route-v0", **kwargs) if make is gym.make else make("AttnRL/Route-v0", 2, env_kwargs=kwargs)
    switch_off_what_only_evaluation_needs(env)
    rules = env.envs[0].unwrapped if isinstance(env, DummyVecEnv) else getattr(env, "env", env).unwrapped
    assert getattr(rules, "batch", rules).report_gap is False


def test_torch_keeps_its_threads(tmp_path: Path):
    torch.set_num_threads(2)
    attn_rl.train(runs_dir=tmp_path, total_timesteps=32, threads=1, **SHORT)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_layer": 2}, ValueError, r"train\(\) takes no argument 'n_layer'; did you mean 'n_layers'"),
        ({"seeds": "0-4"}, ValueError, r"train\(\) takes no argument 'seeds'; did you mean 'seed'"),
        ({"gamma": 2}, ValueError, "gamma=2, expected a number from 0 to 1"),
        ({"env": "AttnRL/Sek-v0"}, ValueError, "did you mean AttnRL/Seek-v0"),
        ({"env": Toy}, TypeError, "env is a type; expected an id: gymnasium.register"),
        ({"resume": "nowhere"}, ValueError, "nowhere is no run folder"),
    ],
)
def test_a_mistake_is_explained_and_leaves_nothing_behind(changes, error, message, tmp_path: Path):
    with pytest.raises(error, match=message):
        attn_rl.train(runs_dir=tmp_path, **{**SHORT, **changes})
    assert not list(tmp_path.iterdir())


def test_environments_may_have_a_process_each(tmp_path: Path):
    gym.register("TestProcess-v0", Toy, disable_env_checker=True)
    few = SHORT | {"n_envs": 2}
    folders = [
        attn_rl.train("TestProcess-v0", processes=p, run_name=f"p{p}", runs_dir=tmp_path, total_timesteps=64, **few)
        for p in (False, True)
    ]
    assert [stored(folder)["processes"] for folder in folders] == [False, True]
    alone, apart = (attn_rl.load(folder, env=attn_rl.make_vec_env("TestProcess-v0", 1)) for folder in folders)
    for one, other in zip(alone.policy.parameters(), apart.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_processes_are_few_unless_asked_for_more():
    assert parse(["--env", "AttnRL/Seek-v0", "--processes"]).n_envs == 8
    assert parse(["--env", "AttnRL/Seek-v0", "--processes", "--n-envs", "3"]).n_envs == 3
    assert parse(["--env", "AttnRL/Seek-v0"]).n_envs > 8


@pytest.mark.parametrize(
    ("env_id", "more"),
    [("my_env:My-v0", " --env my_env:My-v0"), ("AttnRL/Seek-v0", ""), ("highway_env:highway-v0", "")],
)
def test_what_to_type_to_go_on_repeats_a_module_that_only_the_user_may_name(env_id: str, more: str):
    assert resume_command(Path("runs/a b"), env_id).endswith(f" --resume 'runs/a b'{more}")
