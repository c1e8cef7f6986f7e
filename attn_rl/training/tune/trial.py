"""One trial of a sweep: train with some settings, telling on the way how it goes, then evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from attn_rl.sb3.compat import total_timesteps
from attn_rl.training.agent import make_agent
from attn_rl.training.evaluation import evaluate
from attn_rl.training.preset_file import preset_for
from attn_rl.training.presets import Preset
from attn_rl.vec_envs.adapter import make_vec_env

RUNGS = 9
"""Times that a trial tells how it goes, the last one at its end; successive halving compares at 1, 3 and 9."""

Report = Callable[[int, float], bool]
"""Is told a rung and the score there; says whether the trial may go on."""


@dataclass(frozen=True)
class Sweep:
    """What all trials of a sweep have in common.

    Attributes:
        env, env_kwargs, policy: what is trained where.
        preset: file of the preset to start from; None = the environment's.
        total_timesteps: of a trial; None = the preset's.
        seed: of the first trial; the others follow.
        eval_episodes: to judge a trial by.
    """

    env: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    policy: str = "attention"
    preset: Path | None = None
    total_timesteps: int | None = None
    seed: int = 0
    eval_episodes: int = 500

    def base(self) -> Preset:
        """The preset to start from."""
        return preset_for(self.preset, self.env, self.env_kwargs)


class Stopped(Exception):
    """Other trials do better; this one ends here."""


def run_trial(sweep: Sweep, changes: Mapping[str, Any], number: int, report: Report) -> float:
    """Train one trial and evaluate it.

    Args:
        sweep: what all trials share.
        changes: the settings drawn for this one.
        number: of the trial.
        report: is told the score on the way.

    Returns:
        The share of held-out episodes that succeed, or the mean return where nothing tells of success.

    Raises:
        Stopped: the report asked to end it.
    """
    torch.set_num_threads(1)
    base, seed = sweep.base(), sweep.seed + number
    total = sweep.total_timesteps or base.total_timesteps
    settings = vars(base.settings(sweep.policy)) | dict(changes)
    taken = {name: value for name, value in settings.items() if name not in _not_taken(sweep.policy)}
    env = make_vec_env(sweep.env, base.n_envs, seed=seed, env_kwargs=sweep.env_kwargs)
    try:
        agent = make_agent(env, sweep.policy, seed=seed, **taken)
        watching = Rungs(report)
        agent.learn(total, callback=watching)
    finally:
        env.close()
    if watching.stopped:
        raise Stopped
    row = evaluate(agent, sweep.env, sweep.env_kwargs, episodes=sweep.eval_episodes)
    found = row.mean_return if row.success_rate is None else row.success_rate
    score = float("nan") if found is None else found
    report(RUNGS, score)
    return score


def _not_taken(policy: str) -> frozenset[str]:
    from attn_rl.training.policies import find_policy

    return find_policy(policy).without


class Rungs(BaseCallback):
    """Tell a report how the training goes, in :data:`RUNGS` - 1 even steps; the last rung is the evaluation's."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report, self.rung, self.stopped = report, 0, False

    def _on_step(self) -> bool:
        return not self.stopped

    def _on_rollout_end(self) -> None:
        rung = RUNGS * self.num_timesteps // max(total_timesteps(self.model), 1)
        score = self._score()
        if self.rung < rung < RUNGS and score is not None:
            self.rung = rung
            self.stopped = not self.report(rung, score)

    def _score(self) -> float | None:
        """How the latest training episodes went."""
        successes, episodes = self.model.ep_success_buffer, self.model.ep_info_buffer
        if successes:
            return float(np.mean(successes))
        return float(np.mean([each["r"] for each in episodes])) if episodes else None
