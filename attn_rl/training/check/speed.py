"""How fast an environment steps, and what would make training faster."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from gymnasium.envs.registration import EnvSpec

from attn_rl.adapters import family_of
from attn_rl.training.check.sample import Sample
from attn_rl.vec_envs.adapter import VectorEnvAdapter, make_vec_env

SLOW = 1e-3
"""Seconds of a step from which a process of its own pays: handing a step over costs about 0.3 ms."""
BATCH, BATCH_SECONDS = 64, 0.1


def describe_speed(sample: Sample, spec: EnvSpec | None, env_id: str | None, env_kwargs: Mapping[str, object]) -> str:
    """Steps per second, resets included, and one sentence of advice.

    Args:
        sample: with its seconds.
        spec: of the environment; None: it is not registered.
        env_id: as the user named it; None: a class or an environment.
        env_kwargs: arguments of the environment.
    """
    per_step = sample.seconds / max(len(sample.rewards), 1)
    batched = batch_speed(env_id, env_kwargs) if env_id and spec and spec.vector_entry_point else None
    family = family_of(spec) if env_id and spec else None
    return f"{1 / per_step:,.0f} steps/s; {advise(per_step, batched, family is not None and family.slow)}"


def advise(per_step: float, batched: float | None = None, slow_family: bool = False) -> str:
    """Which vector environment pays.

    Args:
        per_step: seconds of a step.
        batched: steps per second of the environment's own batch; None: it has none.
        slow_family: make_vec_env uses processes by itself.
    """
    if batched is not None:
        return f"make_vec_env plays {BATCH} as one batch: {batched:,.0f} steps/s"
    if slow_family:
        return "make_vec_env gives each copy a process of its own"
    if per_step >= SLOW:
        return "a step is slow enough for processes: --processes, or make_vec_env(..., vec_env_cls=SubprocVecEnv)"
    return "a step is too fast for processes to pay; a batch (vector_entry_point) would be faster still"


def batch_speed(env_id: str, env_kwargs: Mapping[str, object]) -> float | None:
    """Steps per second of an id's own batch; None where make_vec_env makes separate copies."""
    env = make_vec_env(env_id, BATCH, seed=0, env_kwargs=env_kwargs)
    try:
        if not isinstance(env, VectorEnvAdapter):
            return None
        env.reset()
        env.action_space.seed(0)
        actions = np.stack([env.action_space.sample() for _ in range(BATCH)])
        start, n = time.perf_counter(), 0
        while time.perf_counter() - start < BATCH_SECONDS:
            env.step(actions)
            n += BATCH
        return n / (time.perf_counter() - start)
    finally:
        env.close()
