"""Searching with a policy's probabilities: its likeliest first actions, and beam search.

Shapes: n sub-environments, A actions, W beams of each instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from attn_rl.vec_envs.adapter import VectorEnvAdapter

State = dict[str, Any]
"""What ``VectorEnvAdapter.get_state`` returns."""


def log_probabilities(agent: Any, obs: Any) -> np.ndarray:
    """Log-probabilities of all actions (n,A) float64; -inf where an action is masked.

    Raises:
        ValueError: a policy that has none.
    """
    policy = agent.policy
    if not isinstance(policy, ActorCriticPolicy) or not isinstance(policy.action_space, spaces.Discrete):
        raise ValueError(
            f"starts and beam need the probabilities of Discrete actions; {type(policy).__name__} with "
            f"{agent.action_space} has none: pass starts=0, beam=0"
        )
    with torch.no_grad():
        made: Any = policy.get_distribution(policy.obs_to_tensor(obs)[0])
        logits: Tensor = made.distribution.logits.double()
    found: np.ndarray = torch.log_softmax(logits, -1).cpu().numpy()
    return np.where(found < np.log(np.finfo(np.float64).tiny), -np.inf, found)


def nth_likeliest(log_probability: np.ndarray, rank: int) -> np.ndarray:
    """The action of that rank (n,), 0 = likeliest, which also stands where there are fewer possible ones."""
    order = np.argsort(-log_probability, axis=-1, kind="stable")
    if rank >= order.shape[1]:
        return order[:, 0]
    chosen = order[:, rank]
    possible = np.isfinite(log_probability[np.arange(len(chosen)), chosen])
    return np.where(possible, chosen, order[:, 0])


def branching(env: VecEnv, beam: int) -> VectorEnvAdapter:
    """The batch below, whose games can be copied from one sub-environment to another.

    Raises:
        ValueError: separate copies, a batch without ``get_state``, or fewer sub-environments than beams.
    """
    base = env.unwrapped
    if not isinstance(base, VectorEnvAdapter) or not hasattr(base.env.unwrapped, "get_state"):
        raise ValueError(
            f"beam={beam} copies games from one sub-environment to another, which needs a native batch with "
            "get_state and set_state (docs/extending.md); pass beam=0"
        )
    if beam > env.num_envs:
        raise ValueError(
            f"beam={beam} needs as many sub-environments, got {env.num_envs}; make the environment with n_envs={beam} "
            "or more"
        )
    return base


def rows_of(saved: State, rows: np.ndarray) -> State:
    """The state in which sub-environment i stands where ``rows[i]`` stood."""
    n = len(rows)
    return {
        name: value[rows] if isinstance(value, np.ndarray) and value.ndim and len(value) == n else value
        for name, value in saved.items()
    }


def take(obs: Any, rows: np.ndarray) -> Any:
    """Some rows of a batched observation."""
    return {key: block[rows] for key, block in obs.items()} if isinstance(obs, Mapping) else obs[rows]


class Beams:
    """The W likeliest sequences of actions so far, of each of several instances.

    Args:
        n_instances: searched side by side.
        beam: W.
    """

    def __init__(self, n_instances: int, beam: int) -> None:
        self.shape = n_instances, beam
        self.score = np.full(self.shape, -np.inf)
        """Log-probability of each sequence; -inf: there is none."""
        self.score[:, 0] = 0.0
        self.ended = np.zeros(self.shape, bool)

    def extend(self, log_probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keep the likeliest continuations.

        Args:
            log_probability: of what each sequence may do next (instances * W, A).

        Returns:
            Which sequence each of them continues, as a row, and by which action: both (instances * W,). One that has
            ended stays in the race as it is, whatever action stands for it.
        """
        n_instances, beam = self.shape
        log_probability = log_probability.reshape(n_instances, beam, -1)
        goes_on = np.full(log_probability.shape[-1], -np.inf)
        goes_on[0] = 0.0
        step = np.where(self.ended[..., None], goes_on, log_probability)
        total = (self.score[..., None] + step).reshape(n_instances, -1)
        kept = np.argsort(-total, axis=1, kind="stable")[:, :beam]
        parent, action = kept // log_probability.shape[-1], kept % log_probability.shape[-1]
        self.score = np.take_along_axis(total, kept, axis=1)
        self.ended = np.take_along_axis(self.ended, parent, axis=1)
        rows = parent + beam * np.arange(n_instances)[:, None]
        return rows.ravel(), action.ravel()
