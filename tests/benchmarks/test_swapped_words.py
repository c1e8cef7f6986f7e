"""A swap changes one word and nothing else, and names the thing that the word then means."""

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("minigrid", reason="needs an extra: pip install 'attn_rl[minigrid]'")

from attn_rl import make_agent, make_vec_env
from attn_rl.adapters.minigrid import MiniGridEntities
from benchmarks.swapped_words import COLOUR, COLOURS, WORDS, collect, followed, swap

DOORS = "minigrid:MiniGrid-GoToDoor-5x5-v0"


def sentence(observation: dict[str, np.ndarray]) -> list[str]:
    there = observation["words_present"].astype(bool)
    return [WORDS[int(number)] for number in observation["words"][there, 0]]


def test_one_word_is_another_and_the_rest_is_the_same():
    env = MiniGridEntities(gym.make(DOORS))
    found = [each for seed in range(40) if (each := swap(env.reset(seed=seed)[0])) is not None]
    assert len(found) > 5
    for each in found:
        one, other = each.told
        words = sentence(one), sentence(other)
        assert sum(a != b for a, b in zip(*words, strict=True)) == 1
        assert all(np.array_equal(one[key], other[key]) for key in one if key != "words")
        for said, slot in zip(words, each.named, strict=True):
            assert COLOURS[int(one["cells"][slot, COLOUR])] in said
        assert set(each.named) <= set(each.rivals)


def test_an_untrained_agent_is_near_chance():
    agent = make_agent(make_vec_env(DOORS, 2, seed=0), n_steps=8, batch_size=16, seed=0, relations="off")
    swaps = collect(agent, DOORS, 30)
    shares = followed(agent, swaps)
    assert set(shares) == {"map", "absence effect"}
    for as_told, swapped in shares.values():
        assert as_told + swapped < 1.6  # one who does not listen cannot be right in both
