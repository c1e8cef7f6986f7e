"""The rules of Match."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from attn_rl.envs.match import MatchVectorEnv


def rows(env, seed):
    obs, infos = env.reset(seed=seed)
    for items, present, slot in zip(obs["items"], obs["items_present"], infos["relevant"], strict=True):
        yield items[present == 1], slot


def test_colours_differ_and_the_cue_is_one_of_them():
    env = MatchVectorEnv(97)
    obs, infos = env.reset(seed=0)
    slots = infos["relevant"]
    np.testing.assert_array_equal(obs["ego"], obs["items"][np.arange(97), slots, :3])
    for items, _ in rows(env, 0):
        assert len({tuple(row[:3]) for row in items}) == len(items)
        assert (items[:, 3:].sum(axis=1) == 1).all()


@pytest.mark.parametrize(("low", "high"), [(3, 3), (4, 4), (5, 9), (31, 31)])
def test_exactly_one_colour_is_alone(low, high):
    for items, slot in rows(MatchVectorEnv(60, rule="odd", min_entities=low, max_entities=high), 1):
        counts = Counter(tuple(row[:3]) for row in items)
        assert [c for c in counts.values() if c == 1] == [1]
        assert counts[tuple(items[slot, :3])] == 1


def test_reward_is_for_the_payload_of_the_relevant_item():
    env = MatchVectorEnv(23)
    obs, infos = env.reset(seed=5)
    payload = obs["items"][np.arange(23), infos["relevant"], 3:].argmax(axis=1)
    wrong = np.arange(23) % 2
    _, reward, terminated, truncated, infos = env.step((payload + wrong) % 4)
    np.testing.assert_array_equal(reward, 1 - wrong)
    assert terminated.all()
    assert not truncated.any()
    np.testing.assert_array_equal(infos["final_info"]["is_success"], wrong == 0)


def test_the_odd_rule_has_no_ego_and_no_kind_for_it():
    env = MatchVectorEnv(1, rule="odd")
    assert "ego" not in env.single_observation_space.spaces
    assert env.metadata["kinds"] == {"colour": {"items": ("r", "g", "b")}}
    assert MatchVectorEnv(1).metadata["kinds"]["colour"]["ego"] == ("cue_r", "cue_g", "cue_b")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rule": "even"}, 'rule=\'even\'; expected "cue" or "odd"'),
        ({"levels": 8}, "levels=8; expected 2 to 7"),
        ({"levels": 2}, "9 different colours are needed, levels=2 gives 8; pass more levels"),
        ({"rule": "odd", "min_entities": 2}, "min_entities=2 is too few for these rules; pass 3"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MatchVectorEnv(1, **kwargs)
