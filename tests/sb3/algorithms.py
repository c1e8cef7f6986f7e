"""Every algorithm of Stable-Baselines3 and sb3-contrib that takes entities, as small as it can be made.

``python -m tests.sb3.algorithms`` prints the table of docs/algorithms.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from attn_rl import EntityAttentionExtractor, EntityAttentionPolicy, make_vec_env
from attn_rl.sb3.ppo import EntityPPO
from tests.toys import Toy

DODGE = "AttnRL/Dodge-v0"
BOX = "`Box`"
DISCRETE = "`Discrete`"
SMALL_LSTM = {"lstm_hidden_size": 16}
ROLLOUT = {"n_steps": 8, "batch_size": 16}
REPLAY = {"learning_starts": 8, "buffer_size": 64, "batch_size": 16, "train_freq": 8}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: of the algorithm; also what pytest calls it.
        package: that has it; imported when the case is made.
        policy: what the user passes, as it is written.
        actions: spaces that the algorithm takes.
        recorded: what a record holds as the policy.
        settings: so that it learns within a few steps.
        continuous: play with a Box.
        masked: play with action masks.
        policy_kwargs: beside the extractor.
    """

    name: str
    package: str
    policy: str
    actions: str
    recorded: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    continuous: bool = False
    masked: bool = False
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def algorithm(self) -> str:
        """The class's name: variants say more behind it."""
        return self.name.split()[0]

    def env(self, n_envs: int = 3) -> VecEnv:
        """Where it plays."""
        if self.masked:
            return DummyVecEnv([lambda: Toy(masked=True)] * n_envs)
        return make_vec_env(DODGE, n_envs, seed=3, env_kwargs={"continuous": self.continuous})

    def make(self, env: VecEnv | None = None) -> BaseAlgorithm:
        """Build it as a user would."""
        policy_kwargs = {"net_arch": [16], **self.policy_kwargs}
        if isinstance(policy_of(self.policy), str):
            policy_kwargs["features_extractor_class"] = EntityAttentionExtractor
        made: BaseAlgorithm = self.cls()(
            policy_of(self.policy),
            env or self.env(),
            policy_kwargs=policy_kwargs,
            seed=1,
            device="cpu",
            **self.settings,
        )
        return made

    def cls(self) -> Callable[..., BaseAlgorithm]:
        """The algorithm."""
        known = {cls.__name__: cls for cls in (PPO, EntityPPO, A2C, DQN, SAC, TD3, DDPG)}
        if self.algorithm in known:
            return known[self.algorithm]
        import sb3_contrib

        found: Callable[..., BaseAlgorithm] = getattr(sb3_contrib, self.algorithm)
        return found


def policy_of(name: str) -> Any:
    """A policy class of ours, or the name of one of Stable-Baselines3's."""
    if name == "EntityAttentionPolicy":
        return EntityAttentionPolicy
    if name == "MaskableEntityAttentionPolicy":
        from attn_rl.sb3.maskable import MaskableEntityAttentionPolicy

        return MaskableEntityAttentionPolicy
    return name


SB3, CONTRIB, OURS = "stable_baselines3", "sb3_contrib", "attn_rl"
ANY = f"{DISCRETE}, `MultiDiscrete`, `MultiBinary`, {BOX}"
PROBABILITIES = "probabilities, or means and standard deviations"
SQUASHED = "means and standard deviations before tanh"
VALUES = "softmax of the Q values"
TABLE = (
    Case("EntityPPO", OURS, "EntityAttentionPolicy", ANY, PROBABILITIES, ROLLOUT),
    Case("PPO", SB3, "EntityAttentionPolicy", ANY, PROBABILITIES, ROLLOUT),
    Case("A2C", SB3, "EntityAttentionPolicy", ANY, PROBABILITIES, continuous=True),
    Case("TRPO", CONTRIB, "EntityAttentionPolicy", ANY, PROBABILITIES, ROLLOUT),
    Case(
        "MaskablePPO",
        CONTRIB,
        "MaskableEntityAttentionPolicy",
        f"{DISCRETE}, `MultiDiscrete`, `MultiBinary`",
        "probabilities before the masks of `action_masks()`",
        ROLLOUT,
        masked=True,
    ),
    Case(
        "RecurrentPPO",
        CONTRIB,
        "MultiInputLstmPolicy",
        ANY,
        f"{PROBABILITIES}; states of the LSTM",
        ROLLOUT,
        policy_kwargs=SMALL_LSTM,
    ),
    Case("DQN", SB3, "MultiInputPolicy", DISCRETE, VALUES, REPLAY),
    Case("QRDQN", CONTRIB, "MultiInputPolicy", DISCRETE, "softmax of the mean quantiles", REPLAY),
    Case("SAC", SB3, "MultiInputPolicy", BOX, SQUASHED, REPLAY, continuous=True),
    Case("TQC", CONTRIB, "MultiInputPolicy", BOX, SQUASHED, REPLAY, continuous=True),
    Case("TD3", SB3, "MultiInputPolicy", BOX, "the action, and a width of 1", REPLAY, continuous=True),
    Case("DDPG", SB3, "MultiInputPolicy", BOX, "the action, and a width of 1", REPLAY, continuous=True),
)
VARIANTS = (
    Case("PPO with SB3's policy", SB3, "MultiInputPolicy", "", "", ROLLOUT),
    Case("PPO with gSDE", SB3, "EntityAttentionPolicy", "", "", {**ROLLOUT, "use_sde": True}, continuous=True),
    Case(
        "PPO squashed",
        SB3,
        "EntityAttentionPolicy",
        "",
        "",
        {**ROLLOUT, "use_sde": True},
        continuous=True,
        policy_kwargs={"squash_output": True},
    ),
    Case("A2C with gSDE", SB3, "MultiInputPolicy", "", "", {"use_sde": True}, continuous=True),
    Case("SAC with gSDE", SB3, "MultiInputPolicy", "", "", {**REPLAY, "use_sde": True}, continuous=True),
    Case("TQC with gSDE", CONTRIB, "MultiInputPolicy", "", "", {**REPLAY, "use_sde": True}, continuous=True),
    Case(
        "SAC with one extractor",
        SB3,
        "MultiInputPolicy",
        "",
        "",
        REPLAY,
        continuous=True,
        policy_kwargs={"share_features_extractor": True},
    ),
)
"""Other ways of building them that lead elsewhere inside."""


def table() -> str:
    """The rows of docs/algorithms.md."""
    head = ["| algorithm | of | policy | actions | a record's policy |", "|---|---|---|---|---|"]
    return "\n".join(head + [f"| {c.name} | {c.package} | `{c.policy}` | {c.actions} | {c.recorded} |" for c in TABLE])


def own_policy(model: Any, observation: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """What Stable-Baselines3 itself computes: the parameters that a record holds, and the value.

    Log-probabilities (B,A), or means and log standard deviations (B,2A).
    """
    policy = model.policy
    policy.set_training_mode(False)
    obs, _ = policy.obs_to_tensor(observation)
    with torch.no_grad():
        if hasattr(policy, "lstm_actor"):
            return _recurrent(policy, obs)
        if hasattr(policy, "get_distribution"):
            return _parameters(policy.get_distribution(obs)), policy.predict_values(obs)[:, 0].numpy()
        if hasattr(policy, "q_net"):
            q = policy.q_net(obs)
            return q.log_softmax(-1).numpy(), q.amax(-1).numpy()
        if hasattr(policy, "quantile_net"):
            q = policy.quantile_net(obs).mean(1)
            return q.log_softmax(-1).numpy(), q.amax(-1).numpy()
        mean, log_std = actor_of(policy, obs)
        return np.concatenate([mean, log_std], -1), None


def actor_of(policy: Any, obs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log standard deviation of an off-policy actor: what it draws from."""
    actor = policy.actor
    if not hasattr(actor, "action_dist"):
        action = actor(obs).numpy()
        return action, np.zeros_like(action)
    actor.action_log_prob(obs)  # leaves the distribution behind
    drawn_from = actor.action_dist.distribution
    return drawn_from.mean.numpy(), drawn_from.stddev.log().numpy()


def _recurrent(policy: Any, obs: Any) -> tuple[np.ndarray, np.ndarray]:
    n = len(next(iter(obs.values())))
    shape = (policy.lstm_hidden_state_shape[0], n, policy.lstm_hidden_state_shape[2])
    fresh, starts = (torch.zeros(shape), torch.zeros(shape)), torch.ones(n)
    distribution, _ = policy.get_distribution(obs, fresh, starts)
    return _parameters(distribution), policy.predict_values(obs, fresh, starts)[:, 0].numpy()


def _parameters(distribution: Any) -> np.ndarray:
    found = distribution.distribution
    if isinstance(found, torch.distributions.Normal):
        return np.concatenate([found.mean.numpy(), found.stddev.log().numpy()], -1)
    logits: np.ndarray = found.logits.numpy()
    return logits


class Ring(Toy):
    """A plain Box (N,F) for algorithms without MultiInputPolicy."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (2,), np.float32), plain=True)


if __name__ == "__main__":
    print(table())
