"""What the guards cost, as a share of the training time without them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger

from attn_rl import make_agent
from attn_rl.training.guarded_ppo import GuardedPPO
from benchmarks.campaign import Outcome

LIMIT = 0.02
"""Share of the training time that the guards may cost."""


class Stopwatch:
    """Adds up the CPU seconds spent in methods."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on(self, owner: Any, name: str) -> None:
        """Measure one method of an object from now on."""
        method: Callable = getattr(owner, name)

        def measured(*args: Any, **kwargs: Any) -> Any:
            since = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - since

        setattr(owner, name, measured)


def overhead(rounds: int) -> Outcome:
    """Train Seek as ``python train.py`` does; measure guarded methods and, within them, what is not the guards'.

    Two trainings taking turns, one without guards, would be swamped by other users of the machine: neighbours change
    the time of a round by more than the guards do. Here numerator and denominator come from the same seconds.
    """
    agent = agent_on_seek()
    agent.learn(agent.n_steps * agent.n_envs)  # warms up
    guarded, inside = watch(agent)
    shares = []
    for _ in range(rounds):
        before = guarded.seconds - inside.seconds
        since = time.process_time()
        agent.learn(agent.n_steps * agent.n_envs, reset_num_timesteps=False)
        total = time.process_time() - since
        guards = guarded.seconds - inside.seconds - before
        shares.append(guards / (total - guards))
    share, low, high = np.quantile(shares, (0.5, 0.25, 0.75))
    said = f"{100 * share:.1f}% of CPU time (quartiles {100 * low:.1f}% to {100 * high:.1f}%, {rounds} rounds)"
    return Outcome(int(share <= LIMIT), 1, [said])


def agent_on_seek() -> GuardedPPO:
    """What ``python train.py`` trains."""
    agent = make_agent("AttnRL/Seek-v0", seed=0)
    agent.set_logger(Logger(None, []))
    return agent


def watch(agent: GuardedPPO) -> tuple[Stopwatch, Stopwatch]:
    """Measure every method that a guard is in, and everything in it that would be done without."""
    guarded, inside = Stopwatch(), Stopwatch()
    env: Any = agent.env
    guarded.on(env, "step_wait")
    inside.on(env.venv, "step_wait")
    guarded.on(agent, "optimize")
    inside.on(agent, "backward")
    inside.on(agent.policy.optimizer, "step")
    return guarded, inside
