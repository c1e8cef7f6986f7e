"""Sentences: every word an entity, by its number in a vocabulary and its place in the sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from attn_rl.wrappers.base import Info, ToEntities, find
from attn_rl.wrappers.block import EntityBlock, Overflow

FEATURES = ("word", "place")
UNKNOWN = "?"
"""Stands for every word that is not in the vocabulary."""
UNKNOWN_WORDS = "unknown_words"
"""Key in info: per block, how many of the sentence's words the vocabulary lacks."""


def words_of(sentence: str) -> list[str]:
    """The words of a sentence in lower case; a punctuation mark is one too."""
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


def collect_vocabulary(env: gym.Env, name: str = "mission", episodes: int = 100, seed: int = 0) -> tuple[str, ...]:
    """The words of the sentences that episodes begin with, sorted; declare them, since later runs need the same ones.

    Args:
        env: the environment, before it is wrapped.
        name: key of the sentence in a Dict observation.
        episodes: how many to begin.
        seed: of the first; the others follow.
    """
    found: set[str] = set()
    for episode in range(episodes):
        observation: Any = env.reset(seed=seed + episode)[0]
        found.update(words_of(_sentence(name, observation[name] if isinstance(observation, dict) else observation)))
    return tuple(sorted(found))


class Sentences:
    """Sentences -> rows (word, place); what a wrapper or an adapter needs of a vocabulary.

    Args:
        vocabulary: all words that have a meaning of their own.

    Attributes:
        values: names of the values of ``word``: first :data:`UNKNOWN`, then the vocabulary.

    Raises:
        ValueError: no words, or the same word twice.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        if isinstance(vocabulary, str) or not vocabulary or len(set(vocabulary)) < len(vocabulary):
            raise ValueError(
                f"vocabulary={vocabulary!r}; expected distinct words, as collect_vocabulary(env) lists them"
            )
        if odd := [word for word in vocabulary if words_of(word) != [word]]:
            raise ValueError(f"vocabulary has {odd}; expected single words in lower case")
        self.values = (UNKNOWN, *vocabulary)
        self._number = {word: i for i, word in enumerate(self.values)}

    def most(self, capacity: int) -> np.ndarray:
        """The greatest number of a word, and its last place in a sentence of so many."""
        return np.array([len(self.values) - 1, max(capacity - 1, 1)])

    def rows(self, sentence: str) -> np.ndarray:
        """One row (n,2) for each word: its number, 0 where it is unknown, and its place, from 0."""
        numbers = [self._number.get(word, 0) for word in words_of(sentence)]
        return np.stack([np.array(numbers, np.float32), np.arange(len(numbers), dtype=np.float32)], 1)


class TextToEntities(ToEntities, RecordConstructorArgs):
    """Turn a sentence (a ``Text`` space, or any whose observations are strings) into entities, one for each word.

    A word's features are its number in the vocabulary, a category, and its place in the sentence, from 0. Words that
    the vocabulary lacks share one value, ``"?"``; ``info["unknown_words"][name]`` says how many there were.

    Args:
        env: the environment.
        name: key of the sentence in a Dict observation; where the observation is the sentence itself, the name that
            the words get.
        vocabulary: the known words, in lower case; :func:`collect_vocabulary` lists those that occur.
        capacity: number of slots for words.
        overflow: ``"error"``, or ``"nearest"`` with ``by="place"`` to keep the first words and count the others.
        by: see :class:`attn_rl.wrappers.EntityBlock`.

    Raises:
        ValueError: no such key, a space of numbers, or arguments that do not fit; while playing, an observation that
            is no string, or more words than ``capacity``.
    """

    def __init__(
        self,
        env: gym.Env,
        name: str = "mission",
        *,
        vocabulary: Sequence[str],
        capacity: int = 32,
        overflow: Overflow = "error",
        by: str | Sequence[str] | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, name=name, vocabulary=vocabulary, capacity=capacity, overflow=overflow, by=by
        )
        space, bare = find(env, name)
        if not isinstance(space, spaces.Text) and (space.shape is not None or isinstance(space, spaces.Dict)):
            raise ValueError(f"{name!r} is {space}; expected a Text, or another space of strings")
        self.name, self._sentences = name, Sentences(vocabulary)
        block = EntityBlock(name, FEATURES, capacity, 0, self._sentences.most(capacity), overflow, by)
        ToEntities.__init__(self, env, None if bare else [name], [block], {name: {"word": self._sentences.values}})

    def rows(self, observation: Any) -> dict[str, np.ndarray]:
        """Return a row for each word."""
        return {self.name: self._sentences.rows(self._text(observation))}

    def count(self, observation: Any) -> Info:
        """How many words are unknown."""
        unknown = int((self._sentences.rows(self._text(observation))[:, 0] == 0).sum())
        return {UNKNOWN_WORDS: {self.name: unknown}}

    def _text(self, observation: Any) -> str:
        return _sentence(self.name, observation if self._bare else observation[self.name])


def _sentence(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is {value!r}; expected a string")
    return value
