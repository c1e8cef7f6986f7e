"""Sentences as words: numbers, places, and what is unknown; every refusal in words."""

import numpy as np
import pytest
from gymnasium import spaces

from attn_rl import EntitySpec, make_agent, make_vec_env
from attn_rl.wrappers import TextToEntities, collect_vocabulary
from attn_rl.wrappers.text import words_of
from tests.wrappers.scripted import Scripted
from tests.wrappers.test_sets import play, refusal

WORDS = ("blue", "get", "key", "red", "the")
TEXT = spaces.Text(99)


def told(*sentences: str, **keywords):
    return TextToEntities(Scripted(TEXT, sentences), "mission", vocabulary=WORDS, **{"capacity": 5, **keywords})


def test_every_word_is_an_entity_with_its_number_and_place():
    env = told("Get the red key", "the")
    (obs, info), (short, _) = play(env)
    np.testing.assert_array_equal(obs["mission"], [[2, 0], [5, 1], [4, 2], [3, 3], [0, 0]])
    np.testing.assert_array_equal(obs["mission_present"], [1, 1, 1, 1, 0])
    assert info["unknown_words"] == {"mission": 0}
    assert short["mission_present"].sum() == 1
    spec = EntitySpec.from_env(env)
    assert spec.names == {"mission": ("word", "place")}
    assert spec.categories == {"mission": {"word": ("?", *WORDS)}}
    assert env.observation_space.contains(obs)


def test_unknown_words_are_counted_and_share_a_value():
    obs, info = told("get my green key").reset()
    np.testing.assert_array_equal(obs["mission"][:4, 0], [2, 0, 0, 3])
    assert info["unknown_words"] == {"mission": 2}
    assert info["told"] == "by the environment"


def test_no_words_are_an_observation_too():
    obs, info = told("").reset()
    assert not obs["mission_present"].any()
    assert info["unknown_words"] == {"mission": 0}


def test_a_sentence_beside_other_keys():
    space = spaces.Dict({"ego": spaces.Box(-1, 1, (2,), np.float32), "mission": TEXT})
    env = Scripted(space, [{"ego": np.zeros(2, np.float32), "mission": "the key"}])
    obs, _ = TextToEntities(env, vocabulary=WORDS).reset()
    assert sorted(obs) == ["ego", "mission", "mission_present"]


def test_a_vocabulary_is_collected_before_it_is_declared():
    env = Scripted(TEXT, ["Get the key, then go!"])
    assert collect_vocabulary(env, episodes=2) == ("!", ",", "get", "go", "key", "the", "then")
    assert words_of("Don't") == ["don", "'", "t"]


def test_more_words_than_slots():
    assert "4 entities do not fit into capacity=3" in refusal(lambda: told("get the red key", capacity=3).reset())
    obs, info = told("get the red key", capacity=3, overflow="nearest", by="place").reset()
    np.testing.assert_array_equal(obs["mission"][:, 0], [2, 5, 4])
    assert info["entities_dropped"] == {"mission": 1}


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ((), "expected distinct words, as collect_vocabulary(env) lists them"),
        ("get", "expected distinct words"),
        (("key", "key"), "expected distinct words"),
        (("red key",), "vocabulary has ['red key']; expected single words in lower case"),
        (("Red",), "vocabulary has ['Red']; expected single words in lower case"),
    ],
)
def test_vocabularies_that_are_none(vocabulary, message):
    assert message in refusal(lambda: TextToEntities(Scripted(TEXT, []), vocabulary=vocabulary))


def test_what_is_no_text():
    rows = spaces.Box(-1, 1, (2,), np.float32)
    assert "expected a Text, or another space of strings" in refusal(
        lambda: TextToEntities(Scripted(rows, []), vocabulary=WORDS)
    )
    assert refusal(lambda: TextToEntities(Scripted(TEXT, [7]), vocabulary=WORDS).reset()) == (
        "'mission' is 7; expected a string"
    )


def test_an_agent_learns_with_words():
    env = make_vec_env(lambda: told("get the red key", "the blue key", "get"), n_envs=2)
    make_agent(env, n_steps=8, batch_size=16, n_epochs=1).learn(16)
