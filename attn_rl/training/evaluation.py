"""Evaluate a policy: success, return, and whether it looks at the right entity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv
from torch import Tensor

from attn_rl.adapters import family_of, find_spec
from attn_rl.inspection.record.outputs import acting_extractor
from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.nn.network import SetNetwork
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.training.loading import adapt, agent_memory
from attn_rl.vec_envs.adapter import make_vec_env
from attn_rl.vec_envs.memory import remembering

MARGIN = 0.02
"""Success of drawn and of likeliest actions may differ by so much before both are shown."""
EVALUATION_SEED = 1_000_000
"""Held out: training seeds its environments from small numbers upwards."""


@dataclass
class Row:
    """One row of ``evaluation.json``.

    Attributes:
        min_entities, max_entities: entities per episode; None where the environment does not say.
        episodes: how many were played, with the deterministic policy; 0 where the policy cannot take the observation.
        success_rate: share of episodes with ``info["is_success"]``; None where nothing says.
        mean_return: undiscounted.
        std_return: standard deviation over the episodes.
        gap: mean of ``info["gap"]`` at the end of the episodes: by how much the solution is worse than the best one or
            a bound of it, as a share; None where nothing says.
        top1_relevant: share of steps at which the most-attended entity is the relevant one (weights averaged over
            heads, last layer, the ego's own weight aside); None where nothing is known to be relevant.
        stochastic_success_rate: as ``success_rate``, with actions drawn from the policy; None where nobody asked.
    """

    min_entities: int | None
    max_entities: int | None
    episodes: int = 0
    success_rate: float | None = None
    mean_return: float | None = None
    top1_relevant: float | None = None
    std_return: float | None = None
    gap: float | None = None
    stochastic_success_rate: float | None = None

    @property
    def differs_by_chance(self) -> bool:
        """Whether drawn actions succeed more or less often, by over .02 and by over two standard errors."""
        played, drawn = self.success_rate, self.stochastic_success_rate
        if played is None or drawn is None:
            return False
        error = sqrt((played * (1 - played) + drawn * (1 - drawn)) / self.episodes)
        return abs(played - drawn) > max(MARGIN, 2 * error)


def evaluate(
    model: BaseAlgorithm,
    env_id: str,
    env_kwargs: Mapping[str, object] | None = None,
    *,
    episodes: int = 1000,
    n_envs: int | None = None,
    seed: int = EVALUATION_SEED,
    processes: bool = False,
    stochastic: bool = False,
) -> Row:
    """Play the deterministic policy on held-out seeds.

    Every sub-environment plays equally many episodes, so that short ones are not over-counted. A recurrent policy keeps
    its state within an episode and begins each without one.

    Args:
        model: a trained agent; the environment may hold more entities than it was trained on.
        env_id: Gymnasium id.
        env_kwargs: its arguments.
        episodes: how many to play, rounded up to a multiple of ``n_envs``.
        n_envs: sub-environments side by side; None: 100, or 8 where each is a process of its own.
        seed: of the first sub-environment; the others follow.
        processes: give each a process of its own, as slow families get anyway.
        stochastic: play as many episodes again with actions drawn from the policy, where the environment tells of
            success: a policy whose likeliest actions go in circles may succeed so.

    Raises:
        DoesNotFit: the policy cannot take the environment's observations.
        ValueError: no episodes.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes}, expected at least 1")
    family = family_of(find_spec(env_id))
    n_envs = n_envs or (8 if processes or (family is not None and family.slow) else 100)
    in_processes = SubprocVecEnv if processes else None
    env = make_vec_env(env_id, n_envs, seed=seed, env_kwargs=dict(env_kwargs or {}), vec_env_cls=in_processes)
    try:
        row = Row(_attribute(env, "min_entities"), _attribute(env, "max_entities"))
        env = remembering(env, agent_memory(model))
        agent = adapt(model, env)
        returns, successes, hits, gaps = _play(agent, env, -(-episodes // n_envs))
        if stochastic and successes:
            row.stochastic_success_rate = _stochastic_success(agent, env, -(-episodes // n_envs), seed)
    finally:
        env.close()
    row.episodes, row.mean_return = len(returns), float(np.mean(returns))
    row.std_return = float(np.std(returns))
    row.success_rate = float(np.mean(successes)) if successes else None
    row.gap = float(np.mean(gaps)) if gaps else None
    row.top1_relevant = float(np.mean(hits)) if hits else None
    return row


def _stochastic_success(agent: BaseAlgorithm, env: VecEnv, per_env: int, seed: int) -> float:
    """Success of actions drawn from the policy, from the same seeds; the process's generators stay as they are."""
    env.seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _, successes, _, _ = _play(agent, env, per_env, deterministic=False)
    return float(np.mean(successes))


def _play(
    agent: BaseAlgorithm, env: VecEnv, per_env: int, deterministic: bool = True
) -> tuple[list[float], list[bool], list[float], list[float]]:
    returns, successes, hits, gaps = [], [], [], []
    left = np.full(env.num_envs, per_env)
    watch = _TopEntity(agent)
    obs, state, starts = env.reset(), None, np.ones(env.num_envs, bool)
    running = np.zeros(env.num_envs)
    while left.any():
        relevant = _relevant(env) if watch.active else None
        actions, state = agent.predict(obs, state, starts, deterministic=deterministic)  # type: ignore[arg-type]
        if relevant is not None:
            counted = (relevant >= 0) & (left > 0)
            hits.extend((watch.top() == relevant)[counted])
        obs, rewards, starts, infos = env.step(actions)
        running += rewards
        for i in np.flatnonzero(starts):
            if left[i]:
                left[i] -= 1
                returns.append(float(running[i]))
                if "is_success" in infos[i]:
                    successes.append(bool(infos[i]["is_success"]))
                if "gap" in infos[i]:
                    gaps.append(float(infos[i]["gap"]))
            running[i] = 0.0
    watch.close()
    return returns, successes, hits, gaps


class _TopEntity:
    """Watches the last layer's pattern of the acting network and names the most-attended entity slot."""

    def __init__(self, agent: BaseAlgorithm) -> None:
        extractor = _extractor(agent)
        self._hooks = []
        if extractor is not None and _says_what_it_reads(extractor.network):
            self._n_slots = sum(extractor.spec.capacities.values())
            layers = [module for module in extractor.modules() if isinstance(module, MultiHeadAttention)]
            self._network = extractor.network
            self._hooks = [layer.tap.observe(self._keep) for layer in layers[-1:]]
        self.active = bool(self._hooks)

    def _keep(self, pattern: Tensor, tokens: Tensor, present: Tensor) -> None:
        self._pattern, self._present = pattern.detach(), present.detach()

    def top(self) -> np.ndarray:
        """Slot with the largest weight in what is read out, averaged over heads: (B,); as the record's entity map."""
        pattern = self._pattern.mean(1)  # (B,Q,K)
        read = self._network.readout_rows(self._present)[:, : pattern.shape[1]]
        return torch.einsum("bq,bqk->bk", read, pattern)[:, -self._n_slots :].argmax(-1).cpu().numpy()

    def close(self) -> None:
        """Stop watching."""
        for hook in self._hooks:
            hook.remove()


def _extractor(agent: BaseAlgorithm) -> EntityExtractor | None:
    """Through which the agent looks when it acts; None where that is none of ours."""
    try:
        return acting_extractor(agent.policy)
    except ValueError:
        return None


def _says_what_it_reads(network: SetNetwork) -> bool:
    return type(network).readout_rows is not SetNetwork.readout_rows


def _relevant(env: VecEnv) -> np.ndarray | None:
    """Slot of the decisive entity per sub-environment, -1 = none; None where the environment does not say."""
    return np.asarray(env.env_method("relevant")) if env.has_attr("relevant") else None


def _attribute(env: VecEnv, name: str) -> Any:
    return env.get_attr(name)[0] if env.has_attr(name) else None
