"""New games begun ahead of need, for environments where beginning one is dear and many at once cost little more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.randomness import EpisodeStreams, RandomStream
from ..core.state import State
from ..core.types import IntArray

LEAST_AT_ONCE, MOST_AHEAD = 256, 16


class EarlyGames:
    """The next few games of each sub-environment. A game depends on (key, episode) alone, so nothing else changes.

    Args:
        n_envs: how many sub-environments.
        begin: the rules' ``begin``.
    """

    def __init__(self, n_envs: int, begin: Callable[[RandomStream], State]):
        self._begin = begin
        self._ahead = min(MOST_AHEAD, max(1, LEAST_AT_ONCE // n_envs))
        self._keys = np.zeros((n_envs, self._ahead), np.uint64)
        self._episodes = np.full((n_envs, self._ahead), -1)
        self._streams = np.zeros((n_envs, self._ahead), np.uint64)
        self._games: State | None = None

    def take(self, rows: IntArray, streams: EpisodeStreams, random: RandomStream) -> State:
        """Return the games of the current episodes of some sub-environments; ``random`` then stands behind them."""
        wanted = streams.episodes[rows]
        place = wanted % self._ahead
        ready = (self._episodes[rows, place] == wanted) & (self._keys[rows, place] == streams.keys[rows])
        if not ready.all():
            self._prepare(rows, streams)
        random.state[:] = self._streams[rows, place]
        if self._games is None:
            raise RuntimeError("no game was begun")
        return State(**{name: values[rows, place] for name, values in self._games.arrays()})

    def _prepare(self, rows: IntArray, streams: EpisodeStreams) -> None:
        """Begin what is missing of the next games of all sub-environments."""
        first = streams.episodes + 1
        first[rows] -= 1
        wanted = first[:, None] + np.arange(self._ahead)
        place = wanted % self._ahead
        env = np.arange(len(first))[:, None]
        known = (self._episodes[env, place] == wanted) & (self._keys[env, place] == streams.keys[:, None])
        env, i = np.nonzero(~known)
        place, episode = place[env, i], wanted[env, i]
        random = RandomStream.of_episode(streams.keys[env], episode)
        games = self._begin(random)
        if self._games is None:
            shape = self._episodes.shape
            self._games = State(**{k: np.zeros((*shape, *v.shape[1:]), v.dtype) for k, v in games.arrays()})
        for name, values in games.arrays():
            getattr(self._games, name)[env, place] = values
        self._keys[env, place], self._episodes[env, place] = streams.keys[env], episode
        self._streams[env, place] = random.state
