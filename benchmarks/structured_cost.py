"""Steps a second of training: an order for each of 8 units, against a single pointer at equal tokens."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from attn_rl import make_agent, make_vec_env

COUNTS = {"units": 8, "enemies": 10}
N_ENVS, N_STEPS, ROUNDS = 128, 32, 3


class OneTarget(VecEnvWrapper):
    """Squad in which all units attack the one enemy that is pointed at; observations as they are, without the mask."""

    def __init__(self, env: VecEnv) -> None:
        parts = dict(env.observation_space.spaces)  # type: ignore[attr-defined]
        parts.pop("valid_targets")
        super().__init__(env, spaces.Dict(parts), spaces.Discrete(COUNTS["enemies"]))

    def reset(self) -> VecEnvObs:
        """Begin."""
        return self._shown(self.venv.reset())

    def step_async(self, actions: np.ndarray) -> None:
        """Order the same for all."""
        target = np.repeat(actions[:, None], COUNTS["units"], 1)
        self.venv.step_async(np.concatenate([np.ones_like(target), target], 1))

    def step_wait(self) -> VecEnvStepReturn:
        """Leave the mask out."""
        obs, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = self._shown(info["terminal_observation"])
        return self._shown(obs), rewards, dones, infos

    def _shown(self, obs: Any) -> dict[str, np.ndarray]:
        return {key: block for key, block in obs.items() if key != "valid_targets"}


def print_cost(path: Path) -> None:
    """Train both in turn and tell the medians."""
    agents = {}
    for name in ("8 orders", "one pointer"):
        env = make_vec_env("AttnRL/Squad-v0", N_ENVS, env_kwargs={"min_entities": COUNTS, "max_entities": COUNTS})
        pointer = {"pointer": "enemies", "actions": {}}
        structured = name == "8 orders"
        agents[name] = make_agent(env if structured else OneTarget(env), seed=0, **({} if structured else pointer))
    rows: list[dict[str, Any]] = []
    for round_ in range(ROUNDS + 1):  # the first warms up
        for name, agent in agents.items():
            start = time.process_time()
            agent.learn(N_ENVS * N_STEPS, reset_num_timesteps=False)
            if round_:
                rows.append({"heads": name, "steps_per_cpu_second": N_ENVS * N_STEPS / (time.process_time() - start)})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["heads", "steps_per_cpu_second"])
        writer.writeheader()
        writer.writerows(rows)
    speeds = {name: median([row["steps_per_cpu_second"] for row in rows if row["heads"] == name]) for name in agents}
    print(*(f"{name}: {speed:.0f}" for name, speed in speeds.items()), sep="\n")
    print(f"ratio: {speeds['8 orders'] / speeds['one pointer']:.2f}")
