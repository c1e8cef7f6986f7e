"""Solve instances instead of acting in them once: play each several times and keep the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from attn_rl.training.beam import Beams, branching, log_probabilities, nth_likeliest, rows_of, take
from attn_rl.training.evaluation import EVALUATION_SEED
from attn_rl.training.loading import adapt, agent_memory
from attn_rl.training.ranges import check_value
from attn_rl.training.symmetries import find_views
from attn_rl.vec_envs.adapter import VectorEnvAdapter
from attn_rl.vec_envs.memory import remembering

Act = Callable[[Any, Any, np.ndarray], tuple[np.ndarray, Any]]
"""From an observation, the policy's state and where episodes begin to actions and the next state."""
OF_EPISODES = frozenset(("TimeLimit.truncated", "relevant"))
"""Numbers in the last info of an episode that say nothing of its solution."""


@dataclass
class Solved:
    """One solution of each instance.

    Attributes:
        returns: (n,) undiscounted.
        scores: further figures by name, (n,) each: what the last info of an episode holds as numbers (``is_success``,
            ``gap``, ``makespan``, ...).
        actions: those of each instance, in order; played again from the same seed, they lead to the same end.
        seconds: to find all of them.
    """

    returns: np.ndarray
    scores: dict[str, np.ndarray]
    actions: list[np.ndarray]
    seconds: float

    def means(self) -> dict[str, float]:
        """Mean return and mean scores over the instances, and the seconds."""
        scores = {name: float(np.mean(values)) for name, values in self.scores.items()}
        return {"mean_return": float(np.mean(self.returns)), **scores, "seconds": self.seconds}

    def keep_better(self, other: Solved) -> None:
        """Take over, instance by instance, what is better of another; the seconds add up."""
        better = other.returns > self.returns
        self.returns = np.where(better, other.returns, self.returns)
        self.scores = {name: np.where(better, other.scores[name], old) for name, old in self.scores.items()}
        for i in np.flatnonzero(better):
            self.actions[i] = other.actions[i]
        self.seconds += other.seconds


@dataclass
class Solutions:
    """What :func:`solve` finds.

    Attributes:
        greedy: the deterministic policy's.
        best: of each instance, the best of the samples; None where none were asked for.
        symmetric: of each instance, the best of eight, each found greedily in another view of the square; None where
            the environment declares no symmetries (:func:`attn_rl.training.symmetries.find_views`).
        started: of each instance, the best of several greedy solutions that begin with different actions; None where
            none were asked for.
        beam: the best end of a beam search; None where none was asked for.
        scripted: the environment's own ``oracle``'s; None where it has none.
    """

    greedy: Solved
    best: Solved | None = None
    symmetric: Solved | None = None
    started: Solved | None = None
    beam: Solved | None = None
    scripted: Solved | None = None

    def means(self) -> dict[str, dict[str, float]]:
        """Figures of each row that there is."""
        return {name: row.means() for name, row in vars(self).items() if row is not None}


def solve(
    model: BaseAlgorithm,
    env: VecEnv,
    samples: int = 16,
    *,
    starts: int = 0,
    beam: int = 0,
    seed: int = EVALUATION_SEED,
    options: Mapping[str, object] | None = None,
) -> Solutions:
    """Solve the instance in each sub-environment: greedily, and as the best of several sampled episodes.

    All instances are played side by side, each ``samples`` + 1 times from its beginning, and eight times more where the
    environment declares the symmetries of the square. Sampled actions draw from
    torch's global generator.

    Args:
        model: a trained agent; the environment may hold more entities than it was trained on.
        env: one sub-environment for each instance (:func:`attn_rl.make_vec_env`). The same seed must begin the same
            game, and the same actions lead to the same end.
        samples: episodes to sample per instance; 0: greedy only.
        starts: greedy solutions per instance, each of which begins with another of the likeliest first actions.
        beam: how many of the likeliest sequences of actions a beam search keeps of each instance; so many
            sub-environments work on one instance at a time.
        seed: of the first sub-environment; the others follow.
        options: for every reset, e.g. the instances that a job shop is to play.

    Raises:
        DoesNotFit: the policy cannot take the environment's observations.
        ValueError: a number of samples, starts or beams that is none, an environment that begins another game from the
            same seed, or one whose games cannot be copied, which a beam search does.
    """
    for name, number in (("samples", samples), ("starts", starts), ("beam", beam)):
        check_value(name, number)
    env = remembering(env, agent_memory(model))
    agent = adapt(model, env)
    player = _Player(env, seed, options)

    def act(deterministic: bool, view: Callable[[Any], Any] = lambda obs: obs) -> Act:
        return lambda obs, state, starts: agent.predict(view(obs), state, starts, deterministic=deterministic)

    def begin(rank: int) -> Act:
        def play(obs: Any, state: Any, begins: np.ndarray) -> tuple[np.ndarray, Any]:
            actions, state = agent.predict(obs, state, begins, deterministic=True)
            if begins.any():  # where an episode has ended, nobody looks any more
                actions = np.where(begins, nth_likeliest(log_probabilities(agent, obs), rank), actions)
            return actions, state

        return play

    solutions = Solutions(player.play(act(True)))
    solutions.best = player.play_best([act(False)] * samples)
    solutions.symmetric = player.play_best([act(True, view) for view in find_views(env)])
    solutions.started = player.play_best(begin(rank) for rank in range(starts))
    solutions.beam = player.search(partial(log_probabilities, agent), beam) if beam else None
    oracle = _find_oracle(env)
    if oracle is not None:
        solutions.scripted = player.play(lambda obs, state, starts: (oracle(obs), state))
    return solutions


@dataclass
class _Player:
    """Plays the same first episode of every sub-environment again and again."""

    env: VecEnv
    seed: int
    options: Mapping[str, object] | None
    first: Any = field(default=None, init=False)

    def play(self, act: Act) -> Solved:
        began, n = time.perf_counter(), self.env.num_envs
        obs, state, starts = self._begin(), None, np.ones(n, bool)
        returns, ends, steps = np.zeros(n), [{} for _ in range(n)], [[] for _ in range(n)]  # type: ignore[var-annotated]
        running = np.ones(n, bool)
        while running.any():
            actions, state = act(obs, state, starts)
            obs, rewards, starts, infos = self.env.step(actions)
            returns += np.where(running, rewards, 0.0)
            for i in np.flatnonzero(running):
                steps[i].append(actions[i])
                if starts[i]:
                    ends[i] = infos[i]
            running &= ~starts
        scores = {name: np.array([end[name] for end in ends], float) for name in _scores(ends)}
        return Solved(returns, scores, [np.array(taken) for taken in steps], time.perf_counter() - began)

    def play_best(self, ways: Iterable[Act]) -> Solved | None:
        """Play each way and keep the best of each instance; None where there is no way."""
        best = None
        for act in ways:
            found = self.play(act)
            if best is None:
                best = found
            else:
                best.keep_better(found)
        return best

    def search(self, log_probability: Callable[[Any], np.ndarray], beam: int) -> Solved:
        """Beam search in one group of instances after the other, ``beam`` sub-environments working on each."""
        batch, began, n = branching(self.env, beam), time.perf_counter(), self.env.num_envs
        obs = self._begin()
        first, at_once = batch.get_state(), n // beam
        returns, ends, taken = np.zeros(n), [{} for _ in range(n)], [np.empty(0)] * n  # type: ignore[var-annotated]
        for start in range(0, n, at_once):
            instances = np.minimum(start + np.arange(at_once), n - 1)
            rows = np.append(np.repeat(instances, beam), np.full(n - at_once * beam, n - 1))
            batch.set_state(rows_of(first, rows))
            found = self._search(batch, take(obs, rows), log_probability, Beams(at_once, beam))
            for instance, (total, end, actions) in zip(instances, found, strict=True):
                returns[instance], ends[instance], taken[instance] = total, end, actions
        scores = {name: np.array([end[name] for end in ends], float) for name in _scores(ends)}
        return Solved(returns, scores, taken, time.perf_counter() - began)

    def _search(
        self, batch: VectorEnvAdapter, obs: Any, log_probability: Callable[[Any], np.ndarray], beams: Beams
    ) -> list[tuple[float, dict[str, Any], np.ndarray]]:
        """Return, end and actions of the best sequence found for each instance."""
        n_used, n = beams.score.size, self.env.num_envs
        returns, ends = np.zeros(n_used), np.array([{}] * n_used, object)
        steps: list[np.ndarray] = []
        length = np.zeros(n_used, int)
        while not beams.ended.all():
            rows, actions = beams.extend(log_probability(obs)[:n_used])
            returns, ends, length, steps = returns[rows], ends[rows], length[rows], [step[rows] for step in steps]
            everyone = np.append(rows, np.arange(n_used, n))
            batch.set_state(rows_of(batch.get_state(), everyone))
            obs, rewards, done, infos = self.env.step(np.append(actions, np.zeros(n - n_used, actions.dtype)))
            running = ~beams.ended.ravel()
            returns = returns + np.where(running, rewards[:n_used], 0.0)
            length, steps = length + running, [*steps, actions]
            for i in np.flatnonzero(running & done[:n_used]):
                ends[i] = infos[i]
            beams.ended = (beams.ended.ravel() | done[:n_used]).reshape(beams.shape)
        possible = np.where(np.isfinite(beams.score), returns.reshape(beams.shape), -np.inf)
        best = possible.argmax(axis=1) + beams.shape[1] * np.arange(beams.shape[0])
        return [(returns[i], ends[i], np.array([step[i] for step in steps[: length[i]]])) for i in best]

    def _begin(self) -> Any:
        self.env.seed(self.seed)
        if self.options is not None:
            self.env.set_options(dict(self.options))
        obs = self.env.reset()
        if self.first is None:
            self.first = _copy(obs)
        elif not _equal(obs, self.first):
            raise ValueError(
                f"the environment began another game after seed({self.seed}) than the first time; to solve an instance "
                "it must be met again: draw it from the generator that reset(seed=...) seeds"
            )
        return obs


def _scores(ends: list[dict[str, Any]]) -> list[str]:
    """Names of the numbers that every last info holds."""
    shared = set.intersection(*(set(end) for end in ends)) - OF_EPISODES
    numbers = (bool, int, float, np.bool_, np.number)
    return [name for name in ends[0] if name in shared and all(isinstance(end[name], numbers) for end in ends)]


def _find_oracle(env: VecEnv) -> Callable[[Any], np.ndarray] | None:
    """The environment's scripted policy over a batch of observations, ``oracle``; None where it has none."""
    base = env.unwrapped
    native = isinstance(base, VectorEnvAdapter) and not hasattr(base.env, "envs")
    if native and "oracle" in getattr(base.env.unwrapped, "batched_methods", ()):  # type: ignore[attr-defined]
        return lambda obs: np.array(env.env_method("oracle", obs))
    if native or not env.has_attr("oracle"):
        return None
    return lambda obs: np.array([env.env_method("oracle", _row(obs, i), indices=[i])[0] for i in range(env.num_envs)])


def _row(obs: Any, i: int) -> Any:
    return {key: block[i] for key, block in obs.items()} if isinstance(obs, Mapping) else obs[i]


def _copy(obs: Any) -> Any:
    return {key: np.array(block) for key, block in obs.items()} if isinstance(obs, Mapping) else np.array(obs)


def _equal(obs: Any, other: Any) -> bool:
    if isinstance(obs, Mapping):
        return all(np.array_equal(block, other[key], equal_nan=True) for key, block in obs.items())
    return np.array_equal(obs, other, equal_nan=True)
