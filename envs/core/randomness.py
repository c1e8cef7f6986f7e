"""Random numbers for many environments at once, one independent stream per environment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .types import BoolArray, FloatArray, IntArray, WordArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_STEPS = np.arange(1, 513, dtype=np.uint64) * _GOLDEN  # where the first draws of a call stand
_SLOT_BITS = np.uint64(0xFFFF)
_TOP_BIT = np.uint64(1 << 63)
_MAX_CHOICES = 1 << 16


def mix(x: WordArray) -> WordArray:
    """Scramble 64-bit words: the finaliser of SplitMix64 (Steele, Lea and Flood 2014, figure 16)."""
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def key_of_seed(seed: int) -> np.uint64:
    """Turn a seed into the 64-bit key of an environment's streams.

    Raises:
        ValueError: for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"seed={seed}; expected a whole number >= 0")
    return np.uint64(mix(np.array([seed % (1 << 64)], np.uint64) + _GOLDEN)[0])


class RandomStream:
    """SplitMix64, vectorised over environments: row i draws from its own stream, whatever its neighbours do.

    A stream is named by (key, episode): what an episode draws depends neither on the batch it
    is played in nor on the actions of the episodes before it. Every method draws the same
    amount for each row, so a batch of one and a batch of many stay equal bit for bit.
    Looping over one ``numpy.random.Generator`` per environment would cost about a microsecond
    per row and draw; here a draw costs a few microseconds for the whole batch.

    Args:
        state: (n,) uint64, where each stream stands; advanced in place.
    """

    def __init__(self, state: WordArray):
        self.state = state

    @classmethod
    def of_episode(cls, key: WordArray, episode: IntArray) -> RandomStream:
        """Start the streams of the given episodes. key (n,) uint64, episode (n,) int64."""
        # Key and episode must not play the same part: key(a) ^ mix(b) would give seed a, episode b
        # the game of seed b, episode a.
        return cls(mix(mix(key) + episode.astype(np.uint64)))

    def __len__(self) -> int:
        return len(self.state)

    def bits(self, k: int) -> WordArray:
        """Draw (n, k) uniform 64-bit words."""
        steps = _STEPS[:k] if k <= len(_STEPS) else np.arange(1, k + 1, dtype=np.uint64) * _GOLDEN
        x = self.state[:, None] + steps
        self.state += steps[-1]
        return mix(x)

    def uniform(self, k: int, low: float = 0.0, high: float = 1.0) -> FloatArray:
        """Draw (n, k) float64 in [low, high)."""
        return low + (high - low) * ((self.bits(k) >> np.uint64(11)) * 2.0**-53)

    def integers(self, k: int, low: int, high: int | IntArray) -> IntArray:
        """Draw (n, k) int64 in [low, high); ``high`` may differ per row, as (n, 1)."""
        return low + ((self.bits(k) >> np.uint64(11)) * 2.0**-53 * (high - low)).astype(np.int64)

    def choose(self, k: int, n_options: int) -> IntArray:
        """Draw k different numbers of range(n_options) per row, in random order: (n, k) int64."""
        if not k <= n_options <= _MAX_CHOICES:
            raise ValueError(f"cannot choose {k} different numbers out of {n_options}")
        # Sorting words that carry their index in the low bits is several times faster than argsort.
        words = (self.bits(n_options) & ~_SLOT_BITS) | np.arange(n_options, dtype=np.uint64)
        words.sort(axis=-1)
        return (words[:, :k] & _SLOT_BITS).astype(np.int64)

    def order(self, present: BoolArray) -> IntArray:
        """Draw a new slot order: present (n, N) bool -> (n, N) int64, present ones first, in random order."""
        n_slots = present.shape[1]
        words = (self.bits(n_slots) >> np.uint64(1)) & ~_SLOT_BITS
        words |= np.arange(n_slots, dtype=np.uint64)
        words |= np.where(present, np.uint64(0), _TOP_BIT)
        words.sort(axis=-1)
        return (words & _SLOT_BITS).astype(np.int64)


class EpisodeStreams:
    """The random streams of the sub-environments of a batch, one per environment and episode.

    Args:
        n_envs: how many sub-environments.
    """

    def __init__(self, n_envs: int):
        self.keys = np.zeros(n_envs, np.uint64)
        self.seeded = np.zeros(n_envs, bool)
        self.episodes = np.zeros(n_envs, np.int64)
        self.states = np.zeros(n_envs, np.uint64)

    def seed(self, seed: int | Sequence[int | None] | None, entropy: np.random.Generator) -> None:
        """Start again at episode 0 with the given seeds.

        Args:
            seed: s: environment i gets s+i; a sequence: one each. Where None, a seeded environment
                goes on with its next episode and one never seeded gets a key from ``entropy``.
            entropy: where keys come from if no seed was ever given.

        Raises:
            ValueError: for a negative seed or the wrong number of seeds.
        """
        n_envs = len(self.keys)
        seeds: list[int | None]
        if seed is None:
            seeds = [None] * n_envs
        elif isinstance(seed, (int, np.integer)):
            seeds = [int(seed) + i for i in range(n_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != n_envs:
            raise ValueError(f"got {len(seeds)} seeds for {n_envs} sub-environments; pass one each, or one number")
        for i, one in enumerate(seeds):
            if one is not None:
                self._start(i, key_of_seed(int(one)))
            elif not self.seeded[i]:
                self._start(i, entropy.integers(1 << 64, dtype=np.uint64))

    def _start(self, i: int, key: np.uint64) -> None:
        self.keys[i], self.episodes[i], self.seeded[i] = key, -1, True

    def current(self) -> RandomStream:
        """Return the streams of the running episodes; drawing from it advances them."""
        return RandomStream(self.states)

    def next_episode(self, rows: IntArray) -> RandomStream:
        """Return the streams of the next episodes of some environments; keep them with :meth:`store`."""
        self.episodes[rows] += 1
        return RandomStream.of_episode(self.keys[rows], self.episodes[rows])

    def store(self, rows: IntArray, random: RandomStream) -> None:
        """Keep where the streams of some environments stand."""
        self.states[rows] = random.state
