"""The random streams."""

from __future__ import annotations

import numpy as np
import pytest
from attn_rl.envs.core.randomness import EpisodeStreams, RandomStream, key_of_seed


def stream(n: int, seed: int = 0) -> RandomStream:
    keys = np.array([key_of_seed(seed + i) for i in range(n)], np.uint64)
    return RandomStream.of_episode(keys, np.zeros(n, np.int64))


def test_splitmix64_reference_values():
    """First outputs of the reference implementation for the state 1234567."""
    got = RandomStream(np.array([1234567], np.uint64)).bits(3)[0]
    assert got.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_row_draws_the_same_whatever_its_neighbours():
    many, one = stream(7), stream(1, seed=5)
    for draw in (lambda s: s.uniform(3), lambda s: s.integers(5, 2, 11), lambda s: s.choose(4, 13)):
        np.testing.assert_array_equal(draw(many)[5], draw(one)[0])


def test_uniform_fills_its_range_evenly():
    x = stream(500).uniform(101, -2, 3)
    assert x.min() >= -2
    assert x.max() < 3
    assert abs(x.mean() - 0.5) < 0.02
    assert abs(np.histogram(x, bins=10, range=(-2, 3))[0] / x.size - 0.1).max() < 0.01


def test_neighbouring_streams_are_uncorrelated():
    x = stream(2000).uniform(2)
    assert abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1]) < 0.08
    assert abs(np.corrcoef(x[:, 0], x[:, 1])[0, 1]) < 0.08


def test_integers_with_a_bound_per_row():
    high = np.arange(1, 8)[:, None]
    x = stream(7).integers(999, 0, high)
    assert (x < high).all()
    assert (x.max(axis=1) == high[:, 0] - 1).all()


def test_choose_draws_each_option_equally_often_and_never_twice():
    x = stream(3000).choose(3, 7)
    assert all(len(set(row)) == 3 for row in x.tolist())
    for column in x.T:
        assert abs(np.bincount(column, minlength=7) / 3000 - 1 / 7).max() < 0.03
    with pytest.raises(ValueError, match="cannot choose 8 different numbers out of 7"):
        stream(1).choose(8, 7)


def test_order_puts_present_ones_first_in_random_order():
    present = np.zeros((2000, 5), bool)
    present[:, [0, 2, 3]] = True
    order = stream(2000).order(present)
    assert (np.sort(order[:, :3]) == [0, 2, 3]).all()
    assert (np.sort(order[:, 3:]) == [1, 4]).all()
    assert abs((order[:, 0] == 2).mean() - 1 / 3) < 0.04


def test_episodes_do_not_depend_on_how_much_was_drawn_before():
    one, two = EpisodeStreams(2), EpisodeStreams(2)
    entropy, rows = np.random.default_rng(0), np.arange(2)
    for streams, draws in ((one, 1), (two, 9)):
        streams.seed(3, entropy)
        random = streams.next_episode(rows)
        random.bits(draws)
        streams.store(rows, random)
    np.testing.assert_array_equal(one.next_episode(rows).bits(4), two.next_episode(rows).bits(4))


def test_seeds_given_one_each():
    streams, entropy = EpisodeStreams(3), np.random.default_rng(0)
    streams.seed([5, None, 7], entropy)
    assert streams.keys[0] == key_of_seed(5)
    assert streams.keys[2] == key_of_seed(7)
    with pytest.raises(ValueError, match="got 2 seeds for 3 sub-environments"):
        streams.seed([1, 2], entropy)
    with pytest.raises(ValueError, match="seed=-1; expected a whole number >= 0"):
        streams.seed(-1, entropy)


def test_each_seed_and_episode_has_a_stream_of_its_own():
    n = 61
    keys = np.array([key_of_seed(seed) for seed in range(n)], np.uint64)
    random = RandomStream.of_episode(np.repeat(keys, n), np.tile(np.arange(n), n))
    assert len(np.unique(random.bits(1))) == n * n
