"""Every rule recognises a training that was given its fault, and a sound training is told nothing."""

from typing import Any

import pytest
from stable_baselines3.common.logger import Logger

from attn_rl import AttentionCallback, make_agent, make_vec_env
from attn_rl.adapters import make_env
from attn_rl.training import diagnosis
from attn_rl.training.curves import Curves, CurvesCallback
from attn_rl.training.diagnosis import diagnose
from attn_rl.training.presets import Settings, find_preset
from tests.training.faults import Pick

SMALL: dict[str, Any] = {
    "normalize_reward": False,
    "normalize_advantage": True,
    "n_steps": 16,
    "batch_size": 64,
    "d_model": 16,
    "n_heads": 2,
    "pointer": "items",
}


def trained(env_kwargs: dict[str, Any], rollouts: int = 16, watch: bool = False, **changes: Any) -> Curves:
    env = make_vec_env(Pick, 16, seed=0, env_kwargs=env_kwargs)
    agent = make_agent(env, seed=0, **{**SMALL, **changes})
    agent.set_logger(Logger(None, []))
    curves = CurvesCallback()
    attention = [AttentionCallback(Pick(**env_kwargs), n_scenes=8, n_pictures=1)] if watch else []
    agent.learn(16 * 16 * rollouts, callback=[curves, *attention])
    return curves.curves


def said(curves: Curves, **changes: Any) -> list[str]:
    plain = {name: value for name, value in changes.items() if not callable(value)}
    return diagnose(curves, vars(Settings(**{**SMALL, **plain})))


FAULTS = {
    "no_episode_ended": ({"length": None}, {}, "No episode ended"),
    "no_signal": ({"rule": "nothing"}, {}, "same return (0)"),
    "fell_back": ({}, {"learning_rate": lambda left: 5e-3 if left > 0.4 else 1.0, "rollouts": 30}, "fell back to"),
    "steps_too_large": ({}, {"learning_rate": 0.02, "n_epochs": 30}, "Updates are too large"),
    "hardly_moves": ({}, {"learning_rate": 1e-7}, "hardly moved"),
    "sure_too_early": (
        {"rule": "moved"},
        {"learning_rate": 0.02, "normalize_advantage": False, "ent_coef": 0.0, "n_epochs": 8},
        "sure of itself before",
    ),
    "stays_random": ({}, {"ent_coef": 10.0}, "stays random"),
    "few_gradient_steps": ({}, {"batch_size": 256, "n_epochs": 1, "rollouts": 10}, "gradient steps were taken"),
    "values_too_large": ({"reward": 1000.0}, {}, "Rewards are large"),
    "explains_nothing": ({"rule": "chance"}, {}, "explains nothing"),
    "map_not_used": ({"rule": "ego"}, {"pointer": None, "watch": True, "rollouts": 30}, "map is not used"),
    "idle_relations": ({"noise": True}, {"watch": True, "rollouts": 40}, "unlearned"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_recognised(name: str):
    env_kwargs, changes, message = FAULTS[name]
    curves = trained(env_kwargs, **changes)
    settings = {k: v for k, v in changes.items() if k not in ("watch", "rollouts")}
    assert any(message in sentence for sentence in said(curves, **settings))


def test_every_rule_is_given_its_fault():
    assert sorted(rule.__name__ for rule in (*diagnosis.CAUSES, *diagnosis.SYMPTOMS)) == sorted(FAULTS)


def test_the_same_task_without_a_fault_is_told_nothing():
    assert said(trained({}, watch=True)) == []


def rows(**curves: list[float]) -> Curves:
    return Curves([dict(zip(curves, values, strict=True)) for values in zip(*curves.values(), strict=True)])


def test_nothing_is_said_of_a_solved_task_nor_of_a_short_training():
    sick = {"episode_return": [0.0] * 8, "episode_return_std": [0.0] * 8}
    assert len(said(rows(**sick))) == 1
    assert said(rows(**sick, success_rate=[0.95] * 8)) == []
    assert said(rows(**{name: values[:3] for name, values in sick.items()})) == []


def test_at_most_three_sentences_and_the_gravest_first():
    curves = rows(
        **{"episode_return": [0, 9, 9, 9, 9, 9, 9, 9, 9, 0], "episode_return_std": [1.0] * 10},
        **{"approx_kl": [0.5] * 10, "clip_fraction": [0.5] * 10, "returns_std": [99.0] * 10},
        **{"entropy_loss": [-1.0] + [-0.01] * 9, "explained_variance": [0.0] * 10},
    )
    found = said(curves)
    assert len(found) == diagnosis.MOST_SENTENCES
    assert found[0].startswith("The return rose to 9 and fell back to 0")


def test_one_epoch_of_one_minibatch_is_no_policy_that_hardly_moves():
    still = rows(episode_return=[0.0] * 8, episode_return_std=[1.0] * 8, approx_kl=[0.0] * 8)
    assert "hardly moved" in said(still)[0]
    assert said(still, n_epochs=1) == []


TASKS = ("Match", "Tiles", "Seek", "Dodge", "Triage", "Boxes", "Forage", "CherryPick")


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("task", TASKS)
def test_a_sound_training_is_told_nothing(task: str, seed: int):
    env_id = f"AttnRL/{task}-v0"
    preset = find_preset(env_id)
    env = make_vec_env(env_id, preset.n_envs, seed=seed)
    agent, curves = make_agent(env, seed=seed), CurvesCallback()
    agent.set_logger(Logger(None, []))
    probe = make_env(env_id, render_mode="rgb_array")
    agent.learn(min(preset.total_timesteps, 60_000), callback=[curves, AttentionCallback(probe, n_pictures=1)])
    assert diagnose(curves.curves, vars(preset.settings("attention"))) == []
