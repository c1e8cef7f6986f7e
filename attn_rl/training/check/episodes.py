"""Rewards, lengths of episodes, and whether a seed repeats a game."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium as gym
import numpy as np

from attn_rl.training.check.report import Finding
from attn_rl.training.check.sample import Sample, play
from attn_rl.vec_envs.guarded import MAX_ABS_REWARD

LARGE_REWARD = 100.0
REPEATED_STEPS = 100
REPEATABLE = "draw every random number from self.np_random, which super().reset(seed=seed) seeds, and reset all state"
SAME_STARTS = 8
"""Episodes that must begin alike before that is worth a word."""


def check_rewards(sample: Sample) -> Iterator[Finding]:
    """Finite, of a size that a value network can learn, and not always the same."""
    rewards = sample.rewards
    if not len(rewards):
        return
    if not np.isfinite(rewards).all():
        step = int(np.argmin(np.isfinite(rewards)))
        yield Finding("error", "reward", f"the reward of step {step + 1} is {rewards[step]}", "give a finite number")
        return
    largest = np.abs(rewards).max()
    scaled = "divide it by a constant, or wrap the vector environment in VecNormalize(norm_obs=False)"
    if largest > MAX_ABS_REWARD:
        what = f"a reward of {largest:.3g}, beyond the {MAX_ABS_REWARD:g} at which training stops"
        yield Finding("error", "reward", what, scaled)
    elif largest > LARGE_REWARD:
        yield Finding("warning", "reward", f"a reward of {largest:.3g}, far from 1", scaled)
    if not rewards.any():
        advice = "make some episodes easy enough to succeed by chance, or reward progress"
        yield Finding("note", "reward", f"no reward in {len(rewards)} random steps", advice)


def check_lengths(sample: Sample) -> Iterator[Finding]:
    """Episodes must end, and at different times unless a limit ends them."""
    if not sample.lengths and len(sample.rewards):
        what = f"no episode ended in {len(sample.rewards)} random steps"
        limit = "gymnasium.wrappers.TimeLimit(env, max_episode_steps)"
        yield Finding("warning", "episodes", what, f"set a limit with {limit}; with a limit, look at more steps")


def check_determinism(env: gym.Env, sample: Sample, seed: int, seconds: float) -> Iterator[Finding]:
    """The same seeds and actions once more.

    Args:
        env: a fresh copy, or the environment itself where there is but one.
        sample: of the first time.
        seed: of the first time.
        seconds: that the first time had.
    """
    again = play(env, seed, min(REPEATED_STEPS, len(sample.rewards)), seconds / 4, episodes=0)
    if again.findings:
        yield Finding("error", "determinism", f"the second time, {again.findings[0].what}", again.findings[0].advice)
        return
    n = min(len(again.first), len(sample.first))
    different = {key: _differs(again.blocks[key][:n], block[:n]) for key, block in sample.blocks.items()}
    n_rewards = min(len(again.rewards), len(sample.rewards))
    for key, where in different.items():
        if where.any():
            name = f"observation {key!r}" if key else "the observation"
            at = int(where.argmax())
            begun = int(sample.first[: at + 1].sum())
            when = (
                f"reset(seed={seed + begun - 1})" if sample.first[at] else f"step {at + 1 - begun} of the same actions"
            )
            yield Finding("error", "determinism", f"{name} was another one, the second time, after {when}", REPEATABLE)
            return
    if not np.array_equal(again.rewards[:n_rewards], sample.rewards[:n_rewards], equal_nan=True):
        yield Finding("error", "determinism", "rewards were others when the same game was played again", REPEATABLE)


def check_resets(env: gym.Env, sample: Sample, seed: int, seconds: float) -> Iterator[Finding]:
    """The first episodes begun once more, in the environment that has played: nothing of it may be left over.

    Args:
        env: that environment.
        sample: what it played.
        seed: of its first episode.
        seconds: that it had.
    """
    again = play(env, seed, 0, seconds / 4, episodes=SAME_STARTS)
    before = sample.firsts()
    for key, block in again.blocks.items():
        n = min(len(block), len(before[key]))
        where = _differs(block[:n], before[key][:n])
        if where.any():
            name = f"observation {key!r}" if key else "the observation"
            what = f"{name} was another one, the second time, after reset(seed={seed + int(where.argmax())})"
            yield Finding("error", "determinism", what, REPEATABLE)
            return


def check_seeds(sample: Sample) -> Iterator[Finding]:
    """Other seeds should give other games."""
    firsts = sample.firsts()
    n = int(sample.first.sum())
    if n >= SAME_STARTS and not any(_differs(block, block[:1]).any() for block in firsts.values()):
        advice = "draw the start from self.np_random, unless there is but one"
        yield Finding("note", "seed", f"{n} episodes with {n} seeds began with the same observation", advice)


def _differs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(T,): where two series of observations are not the same; NaN is NaN."""
    equal = (a == b) | ((a != a) & (b != b))
    differs: np.ndarray = ~equal.reshape(len(equal), -1).all(1)
    return differs
