"""How far back a policy looks, read off a record."""

import gymnasium as gym
import numpy as np
import pytest

from attn_rl import make_agent, make_vec_env
from attn_rl.inspection.draw import VIEWS
from attn_rl.inspection.measure.ages import by_age, slot_ages
from attn_rl.inspection.measure.probe import make_probe
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.scenes import probe_scenes
from attn_rl.wrappers import MemoryWrapper


def probe_of(memory):
    agent = make_agent(make_vec_env("AttnRL/Recall-v0", 2, seed=0), memory=memory, n_steps=8, batch_size=8, seed=0)
    actor = Actor(agent, detached=True)
    env = MemoryWrapper(gym.make("AttnRL/Recall-v0", render_mode="rgb_array"), **memory)
    scenes = probe_scenes(env, sum(actor.spec.capacities.values()), 3, 1)
    return make_probe(actor, scenes, env)


@pytest.fixture(scope="module")
def probe():
    return probe_of({"steps": 5})


def test_every_slot_has_its_age(probe):
    ages, record = slot_ages(probe.record), probe.record
    labels, state = record.slot_labels, int(probe.scenes.episode_states[9])
    for slot, label in enumerate(labels):
        if record.slot_present[state, slot]:
            kind, number = label.rsplit(" ", 1)
            expected = {"cards": 0, "past_cards": int(number) // 3 + 1, "past_steps": int(number) + 1}[kind]
            assert ages[state, slot] == expected, label


def test_what_decides_is_as_old_as_the_game_says(probe):
    states = probe.scenes.episode_states[4:]
    relevant = probe.scenes.relevant[states]
    assert (relevant >= 0).all()
    assert (slot_ages(probe.record)[states, relevant] == 4).all()


def test_weights_are_summed_by_age():
    ages, present = np.array([[0, 2, 2, 1]]), np.array([[True, True, True, False]])
    np.testing.assert_allclose(by_age(np.array([[0.1, 0.2, 0.3, 9.0]]), ages, present), [[0.1, 0, 0.5]])


def test_it_is_drawn_where_something_is_remembered(probe):
    picture = VIEWS["over_the_past"](probe)
    assert picture.dtype == np.uint8
    assert picture.std() > 1
    seen = probe_of({"sightings": 2})
    assert VIEWS["over_the_past"](seen).shape[2] == 3


def test_nothing_is_drawn_without_a_memory():
    agent = make_agent(make_vec_env("AttnRL/Seek-v0", 2, seed=0), n_steps=8, batch_size=8)
    actor, env = Actor(agent, detached=True), gym.make("AttnRL/Seek-v0", render_mode="rgb_array")
    seek = make_probe(actor, probe_scenes(env, 8, 2, 1), env)
    assert slot_ages(seek.record) is None
    assert VIEWS["over_the_past"](seek) is None
