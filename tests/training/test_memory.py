"""An agent with a memory: made, trained, killed, resumed, saved, loaded, evaluated and looked at like any other."""

import json
import sys
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO

from attn_rl import AttentionCallback, EntityAttentionExtractor, cli, load, make_agent, make_vec_env
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.training import train
from attn_rl.training.evaluation import evaluate
from attn_rl.training.run.checkpoint import list_checkpoints
from attn_rl.vec_envs.memory import VecMemory, find_memory
from tests.toys import N, Toy
from tests.training.run.test_resume import Unwatched, assert_same_run, killed, resume, run

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
SMALL = {"n_steps": 8, "batch_size": 32, "n_epochs": 2}
SHORT = ["--total-timesteps", "231", "--save-every", "1"]  # 3 rollouts
BOTH = [*SHORT, "--memory-steps", "3", "--memory-sightings", "2", "--memory-actions", "--memory-rewards"]


@pytest.fixture
def unwatched(monkeypatch):
    monkeypatch.setattr(train, "AttentionCallback", Unwatched)


@pytest.mark.parametrize("env_id", ["AttnRL/Hidden-v0", "AttnRL/Recall-v0"])
def test_killed_and_resumed_is_bit_equal(env_id, unwatched, tmp_path):
    more = ["--env", env_id, *BOTH]
    whole = run(tmp_path, "whole", *more)
    killed(2, lambda: run(tmp_path, "killed", *more))
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "killed", whole)


def test_separate_copies_resume_with_their_memory(unwatched, tmp_path):
    pytest.importorskip("minigrid")
    more = ["--env", "minigrid:MiniGrid-Empty-5x5-v0", "--n-envs", "2", *BOTH, "--total-timesteps", "60"]
    whole = run(tmp_path, "whole", *more)
    killed(2, lambda: run(tmp_path, "killed", *more))
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "killed", whole)


def test_a_checkpoint_whose_memory_is_another_is_refused(unwatched, tmp_path):
    killed(2, lambda: run(tmp_path, "killed", "--env", "AttnRL/Recall-v0", *SHORT))
    for path in list_checkpoints(tmp_path / "killed"):
        assert any(b"memory.now.cards" in file.read_bytes() for file in path.iterdir())
    with pytest.raises(ValueError, match="goes on with memory_steps=8, got 4"):
        train.parse(["--resume", str(tmp_path / "killed"), "--memory-steps", "4"])


def test_a_run_keeps_its_memory_wherever_it_is_loaded(unwatched, tmp_path, monkeypatch):
    folder = run(tmp_path, "whole", "--env", "AttnRL/Hidden-v0", *BOTH)
    assert json.loads((folder / "args.json").read_text())["settings"]["memory_steps"] == 3
    loaded = load(folder)
    assert loaded.memory == {"steps": 3, "sightings": 2, "actions": True, "rewards": True}
    plain = load(folder, env=make_vec_env("AttnRL/Hidden-v0", 3, seed=1, env_kwargs={"max_entities": 11}))
    observations = plain.env.reset()
    assert observations["past_items"].shape[1] == 3 * 11
    zipped = load(folder / "model.zip", trust=True)
    row = evaluate(zipped, "AttnRL/Hidden-v0", {"max_entities": 11}, episodes=4, n_envs=2)
    assert row == evaluate(loaded, "AttnRL/Hidden-v0", {"max_entities": 11}, episodes=4, n_envs=2)
    monkeypatch.setattr(
        sys, "argv", ["attn-rl", "record", str(folder), "--n-scenes", "4", "--out", f"{tmp_path}/p.npz"]
    )
    cli.main()
    record = ProbeRecord.load(tmp_path / "p.npz").record
    assert any(label.startswith("past_items") for label in record.labels)


def test_a_memory_that_the_environment_brings_is_kept():
    env = VecMemory(make_vec_env("AttnRL/Recall-v0", 2, seed=0), steps=5)
    agent = make_agent(env, **SMALL)  # the preset says 8
    assert agent.memory == {"steps": 5}
    assert find_memory(agent.env) is env
    with pytest.raises(ValueError, match=r"remembers {'steps': 5}, the agent {'steps': 3}"):
        make_agent(env, memory={"steps": 3}, **SMALL)


def test_a_memory_takes_the_place_of_the_presets():
    agent = make_agent(make_vec_env("AttnRL/Recall-v0", 2, seed=0), memory={"sightings": 2}, **SMALL)
    assert agent.memory == {"sightings": 2}
    assert make_agent(make_vec_env("AttnRL/Recall-v0", 2, seed=0), memory={}, **SMALL).memory is None


def test_the_callback_gives_its_scenes_the_memory():
    agent = make_agent(make_vec_env("AttnRL/Recall-v0", 4, seed=0), seed=0, **SMALL)
    callback = AttentionCallback("AttnRL/Recall-v0", n_scenes=3, n_pictures=1)
    agent.learn(64, callback=callback)
    assert callback.probe_env.observation_space == agent.observation_space


def test_masks_pointers_and_a_memory_work_together():
    """Nothing that the mask forbids is ever done, and the action points at what is there now."""
    envs = make_vec_env(partial(Toy, masked=True), 4, seed=0)
    agent = make_agent(envs, memory={"steps": 2, "sightings": 3}, pointer="items", seed=0, **SMALL)
    agent.learn(128)
    obs = agent.env.reset()
    for _ in range(20):
        actions, _ = agent.predict(obs)
        open_to = obs["action_mask"] & obs["items_present"]
        assert (open_to[np.arange(4), actions] == open_to.any(1)).all()
        obs, *_ = agent.env.step(actions)
    assert agent.policy.pointer == "items"
    assert obs["past_items"].shape == (4, 2 * N, obs["past_items"].shape[2])


def test_without_a_memory_nothing_is_remembered():
    agent = make_agent(make_vec_env("AttnRL/Seek-v0", 2, seed=0), **SMALL)
    assert agent.memory is None
    assert find_memory(agent.env) is None


@pytest.mark.parametrize(("algorithm", "more"), [(PPO, {"n_steps": 16}), (DQN, {"learning_starts": 20})])
def test_other_algorithms_take_it_as_it_is(algorithm, more):
    env = VecMemory(make_vec_env("AttnRL/Recall-v0", 1, seed=0), steps=3, actions=True)
    kwargs = {"features_extractor_class": EntityAttentionExtractor}
    model = algorithm("MultiInputPolicy", env, policy_kwargs=kwargs, **more)
    model.learn(40)
    assert model.predict(env.reset())[0].shape == (1,)


def test_recurrent_ppo_takes_it_too():
    contrib = pytest.importorskip("sb3_contrib")
    env = VecMemory(make_vec_env("AttnRL/Recall-v0", 2, seed=0), steps=3)
    kwargs = {"features_extractor_class": EntityAttentionExtractor}
    model = contrib.RecurrentPPO("MultiInputLstmPolicy", env, n_steps=8, batch_size=16, policy_kwargs=kwargs)
    model.learn(16)


@pytest.mark.slow
def test_what_was_shown_four_steps_ago_is_learned_and_only_with_a_memory():
    scores = []
    for memory in ({"steps": 6}, {"steps": 3}):
        agent = make_agent("AttnRL/Recall-v0", memory=memory, seed=0)
        agent.learn(40_000)
        scores.append(evaluate(agent, "AttnRL/Recall-v0", episodes=200))
    assert scores[0].success_rate >= 0.95
    assert scores[0].top1_relevant >= 0.95
    assert scores[1].mean_return < 0.4


def test_a_single_environment_can_be_wrapped_by_hand():
    from attn_rl.wrappers import MemoryWrapper

    env = make_vec_env(lambda: MemoryWrapper(gym.make("AttnRL/Recall-v0"), steps=4), 2, seed=0)
    agent = make_agent(env, **SMALL)
    agent.learn(16)
    assert agent.observation_space["past_cards"].shape[0] == 12
