"""Environments that say something impossible at a given step of a training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from attn_rl import make_agent, make_vec_env
from attn_rl.vec_envs.guarded import GuardError
from benchmarks.campaign import Outcome

STEPS = (0, 5, 50, 5000)
N_ENVS, VICTIM = 3, 1

Spoil = Callable[[dict[str, np.ndarray], np.ndarray], tuple[dict[str, np.ndarray], np.ndarray]]


class Saboteur(VecEnvWrapper):
    """Spoils what an environment says at one step (0: the reset).

    Args:
        env: the environment.
        step: when.
        spoil: (observation, rewards) -> (observation, rewards), on copies.
    """

    def __init__(self, env: VecEnv, step: int, spoil: Spoil) -> None:
        super().__init__(env)
        self.at, self.spoil, self.now = step, spoil, 0

    def reset(self):
        """Reset; spoiled if the step is 0."""
        obs = self.venv.reset()
        return self._spoiled(obs, np.zeros(self.num_envs, np.float32))[0] if self.at == 0 else obs

    def step_wait(self):
        """Step; spoiled if it is the one."""
        obs, rewards, dones, infos = self.venv.step_wait()
        self.now += 1
        if self.now == self.at:
            obs, rewards = self._spoiled(obs, rewards)
        return obs, rewards, dones, infos

    def _spoiled(self, obs, rewards):
        return self.spoil({key: block.copy() for key, block in obs.items()}, rewards.copy())


def value(key: str, x: float) -> Spoil:
    """One value of the victim's first row."""

    def spoil(obs, rewards):
        obs[key][VICTIM, 0] = x
        return obs, rewards

    return spoil


def reward(x: float) -> Spoil:
    """The victim's reward."""

    def spoil(obs, rewards):
        rewards[VICTIM] = x
        return obs, rewards

    return spoil


def block(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """The whole block of items."""
    return lambda obs, rewards: (obs | {"items": change(obs["items"])}, rewards)


ONE, ALL = f"environment {VICTIM}, ", f"environments 0-{N_ENVS - 1}, "
FAULTS: dict[str, tuple[Spoil, str, str]] = {
    "NaN observation": (value("items", np.nan), ONE, "observation 'items'[0, 0] is nan"),
    "inf observation": (value("ego", np.inf), ONE, "observation 'ego'[0] is inf"),
    "huge observation": (value("items", 1e30), ONE, "observation 'items'[0, 0] is 1"),
    "NaN reward": (reward(np.nan), ONE, "reward nan"),
    "inf reward": (reward(np.inf), ONE, "reward inf"),
    "huge reward": (reward(1e30), ONE, "reward 1"),
    "wrong shape": (block(lambda items: items[:, :-1]), ALL, "observation 'items' is float32 of shape"),
    "wrong dtype": (block(lambda items: items.astype(np.float64)), ALL, "observation 'items' is float64"),
    "presence of 2": (value("items_present", 2), ONE, "observation 'items_present'[0] is 2"),
}
"""Name -> what is spoiled; whom and what the message must name (a batch of another shape or dtype is everybody's)."""


def injected(steps: tuple[int, ...] = STEPS) -> Outcome:
    """Every fault at every step: stopped before any weight is not finite; environment, step and key are named."""
    outcome = Outcome()
    for step in steps:
        for name, (spoil, who, what) in FAULTS.items():
            at = max(step, 1) if "reward" in name else step  # a reset has no reward
            fault = inject(at, spoil, who + (f"step {at}: " if at else "reset: ") + what)
            outcome.add(None if fault is None else f"{name} at step {step}: {fault}")
    return outcome


def inject(step: int, spoil: Spoil, expected: str) -> str | None:
    """Train into one fault; what was wrong with the way it stopped, None = nothing."""
    env = Saboteur(make_vec_env("AttnRL/Seek-v0", N_ENVS, seed=0), step, spoil)
    agent = make_agent(env, seed=0, n_steps=64, batch_size=64, n_epochs=1)
    try:
        agent.learn(N_ENVS * (step + 64))
        return "not noticed"
    except GuardError as error:
        message = str(error)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in agent.policy.state_dict().values()):
        return "a weight is not finite"
    if agent.num_timesteps > N_ENVS * step:
        return "noticed too late"
    return None if message.startswith(expected) else f"the message does not say where: {message}"
