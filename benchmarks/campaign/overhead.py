"""What the guards cost: the same training with and without them, taking turns."""

from __future__ import annotations

import time

import numpy as np

from attn_rl import make_agent
from attn_rl.sb3.ppo import EntityPPO
from benchmarks.campaign import Outcome

LIMIT = 0.02
"""Share of the training time that the guards may cost."""


def overhead(rounds: int) -> Outcome:
    """Train two equal agents on Seek as train.py does, one rollout and update each in turn; compare their CPU time."""
    agents = [agent_on_seek(), without_guards(agent_on_seek())]
    for agent in agents:
        one_round(agent)  # warms up
    seconds = np.array([[one_round(agent) for agent in agents[:: 1 - 2 * (i % 2)]] for i in range(rounds)])
    seconds[1::2] = seconds[1::2, ::-1].copy()  # every other round the second agent went first
    ratios = seconds[:, 0] / seconds[:, 1]
    share, low, high = np.median(ratios) - 1, *(np.quantile(ratios, (0.25, 0.75)) - 1)
    said = f"{100 * share:+.1f}% CPU time (quartiles {100 * low:+.1f}% to {100 * high:+.1f}%, {rounds} rounds)"
    return Outcome(int(share <= LIMIT), 1, [said])


def agent_on_seek() -> EntityPPO:
    """What ``python train.py`` trains."""
    return make_agent("envs:AttnRL/Seek-v0", seed=0)


def without_guards(agent: EntityPPO) -> EntityPPO:
    """The agent with its guards taken off; learns the same, bit for bit."""
    agent.env = agent.env.venv  # type: ignore[union-attr]
    agent.__class__ = EntityPPO
    return agent


def one_round(agent: EntityPPO) -> float:
    """CPU seconds of a rollout and its update."""
    steps = agent.n_steps * agent.n_envs
    since = time.process_time()
    agent.learn(steps, reset_num_timesteps=False)
    return time.process_time() - since
