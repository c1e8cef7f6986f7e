"""The general defaults on tasks that no preset was made for, beside those of before and SB3's own.

    pip install -e ".[minatar]"
    python -m benchmarks.exam --half first          # what defaults were chosen by
    python -m benchmarks.exam --half held_out       # looked at once, at the end

Every arm gets the environment and nothing else: no preset, only the pointer where the action is an entity. "now" are
the defaults of today; those before scaled rewards by the spread of what was rewarded so far, those before them scaled
advantages, both with four epochs whatever the number of environments; "ent_coef .03" differs from "now" in that;
"SB3's settings" are those of its PPO with our network, "MlpPolicy" is all SB3's. Trains what ``docs/results/exam.csv``
does not hold yet, appends each agent when it is finished, and prints the table. A task's score is its mean return over
the last 200 training episodes, 0 for random play and 1 for the best arm's mean.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from attn_rl import make_agent, make_vec_env
from attn_rl.sb3.reward_scale import RewardScale
from attn_rl.training.presets import Preset
from benchmarks.intervals import interquartile_mean, interval
from benchmarks.learning import run_and_append
from benchmarks.results import read_csv
from benchmarks.tables import markdown

LAST_EPISODES = 200
OLD_SIZES = {"n_steps": 32, "batch_size": 1024, "n_epochs": 4, "learning_rate": 3e-3, "ent_coef": 0.01}
OLD_DEFAULTS = {
    "rewards scaled": {**OLD_SIZES, "normalize_reward": True, "normalize_advantage": False},
    "advantages scaled": {**OLD_SIZES, "normalize_reward": False, "normalize_advantage": True},
}


class Identity(gym.Env[np.ndarray, np.int64]):
    """Say which of four numbers is 1: one entity, nothing to relate; 10 rounds an episode."""

    observation_space = spaces.Box(0, 1, (1, 4), np.float32)
    action_space = spaces.Discrete(4)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.round = 0
        return self._next(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        right, self.round = action == self.answer, self.round + 1
        return self._next(), float(right), self.round == 10, False, {}

    def _next(self) -> np.ndarray:
        self.answer = self.np_random.integers(4)
        return np.eye(4, dtype=np.float32)[None, self.answer]


class Bandit(gym.Env[np.ndarray, np.int64]):
    """Pull one of six arms whose noisy payoff is a fixed function of two features; one pull an episode."""

    observation_space = spaces.Box(-1, 1, (6, 2), np.float32)
    action_space = spaces.Discrete(6)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.arms = self.np_random.uniform(-1, 1, (6, 2)).astype(np.float32)
        return self.arms, {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        x, y = self.arms[action]
        return self.arms, float(x - y**2 + self.np_random.normal(0, 0.5)), True, False, {}


class Paid(VecEnvWrapper):
    """Other rewards for the same play: in another unit, or all of an episode's at its end.

    Running out of time is such an end, too. If it counted as truncation, the value of going on would be added to what
    was paid, and playing for time would seem to pay without limit.
    """

    def __init__(self, venv: VecEnv, unit: float, at_the_end: bool) -> None:
        super().__init__(venv)
        self.unit, self.at_the_end = unit, at_the_end
        self.owed = np.zeros(venv.num_envs)

    def reset(self) -> VecEnvObs:
        self.owed[:] = 0
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        observation, rewards, dones, infos = self.venv.step_wait()
        if self.at_the_end:
            self.owed += rewards
            rewards = np.where(dones, self.owed, 0)
            self.owed[dones] = 0
            for info in infos:
                info.pop("TimeLimit.truncated", None)
        return observation, (self.unit * rewards).astype(np.float32), dones, infos


class Flattened(VecEnvWrapper):
    """A Dict as one vector: SB3's own extractor cannot name a network ``items``."""

    def __init__(self, venv: VecEnv) -> None:
        space = spaces.flatten_space(venv.observation_space)
        super().__init__(venv, spaces.Box(-np.inf, np.inf, space.shape, np.float32))

    def reset(self) -> VecEnvObs:
        return self._flat(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        observation, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                one = {key: block[None] for key, block in info["terminal_observation"].items()}
                info["terminal_observation"] = self._flat(one)[0]
        return self._flat(observation), rewards, dones, infos

    def _flat(self, observation: Any) -> np.ndarray:
        blocks = [np.reshape(block, (len(block), -1)) for _, block in sorted(observation.items())]
        return np.concatenate(blocks, axis=1, dtype=np.float32)


def one_row(env_id: str) -> gym.Env[Any, Any]:
    """An environment whose observation is a vector, as a set of one."""
    env = gym.make(env_id)
    return gym.wrappers.ReshapeObservation(env, (1, *(env.observation_space.shape or ())))


@dataclass(frozen=True)
class Task:
    """An environment, and how long it may be learned."""

    env: str | Callable[[], gym.Env[Any, Any]]
    steps: int
    n_envs: int = 64
    pointer: str | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    unit: float = 1.0
    at_the_end: bool = False


FIRST = {
    "identity": Task(Identity, 10_000, 8),
    "identity, one environment": Task(Identity, 2_048, 1),
    "CartPole": Task(partial(one_row, "CartPole-v1"), 50_000, 8),
    "Seek": Task("AttnRL/Seek-v0", 150_000),
    "Seek, rewards x 1000": Task("AttnRL/Seek-v0", 150_000, unit=1000),
    "Dodge": Task("AttnRL/Dodge-v0", 150_000),
    "Forage": Task("AttnRL/Forage-v0", 200_000),
    "Boxes": Task("AttnRL/Boxes-v0", 200_000, pointer="items"),
    "Asterix": Task("minatar:MinAtar/Asterix-v1", 300_000, 32),
    "Freeway": Task("minatar:MinAtar/Freeway-v1", 200_000, 32),
}
HELD_OUT = {
    "bandit": Task(Bandit, 10_000, 8, pointer="items"),
    "bandit, one environment": Task(Bandit, 2_048, 1, pointer="items"),
    "Acrobot": Task(partial(one_row, "Acrobot-v1"), 100_000, 8),
    "Match, odd": Task("AttnRL/Match-v0", 100_000, env_kwargs={"rule": "odd"}),
    "Triage": Task("AttnRL/Triage-v0", 150_000, pointer="enemies"),
    "Triage, rewards x .01": Task("AttnRL/Triage-v0", 150_000, pointer="enemies", unit=0.01),
    "Dodge, paid at the end x 100": Task("AttnRL/Dodge-v0", 150_000, unit=100, at_the_end=True),
    "CherryPick": Task("AttnRL/CherryPick-v0", 150_000, pointer="cherries"),
    "Tiles": Task("AttnRL/Tiles-v0", 20_000, 8),
    "SpaceInvaders": Task("minatar:MinAtar/SpaceInvaders-v1", 200_000, 32),
    "Breakout": Task("minatar:MinAtar/Breakout-v1", 200_000, 32),
}


class RewardedSoFar(RewardScale):
    """The scale of ``VecNormalize``: the spread of what was rewarded so far in an episode, discounted."""

    def count(self, rewards: np.ndarray) -> None:
        so_far = self.traces[0, : len(rewards)]
        so_far *= self.gamma
        so_far += rewards
        self.statistics["count"] += len(rewards)
        self.statistics["sum"] += float(so_far.sum())
        self.statistics["squares"] += float(so_far @ so_far)


HALVES = {"first": FIRST, "held_out": HELD_OUT}
VARIANTS = {"ent_coef .03": {"ent_coef": 0.03}}
ARMS = ("now", *OLD_DEFAULTS, *VARIANTS, "SB3's settings", "MlpPolicy")
Cell = tuple[str, str, int]  # task, arm, seed


def make(task: Task, arm: str, seed: int) -> PPO:
    """An agent in its environments."""
    env = Paid(make_vec_env(task.env, task.n_envs, seed=seed, env_kwargs=task.env_kwargs), task.unit, task.at_the_end)
    if arm == "MlpPolicy":
        flat = Flattened(env) if isinstance(env.observation_space, spaces.Dict) else env
        return PPO("MlpPolicy", flat, n_steps=2048 // task.n_envs, seed=seed, device="cpu")
    general = Preset(n_envs=task.n_envs).settings("attention")  # whatever preset the environment has
    settings: dict[str, Any] = vars(general) | {"pointer": task.pointer} | (OLD_DEFAULTS | VARIANTS).get(arm, {})
    if arm == "SB3's settings":
        settings |= {"n_steps": 2048 // task.n_envs, "batch_size": 64, "n_epochs": 10, "ent_coef": 0.0}
        settings |= {"learning_rate": lambda _: 3e-4, "normalize_reward": False, "normalize_advantage": True}
    agent = make_agent(env, "attention", seed=seed, max_abs_reward=1e6, **settings)
    if arm == "rewards scaled":
        agent._reward_scale = RewardedSoFar(task.n_envs, agent.gamma, agent.return_statistics)
    return agent


def run(half: str, cell: Cell) -> dict[str, Any]:
    """Train one agent: a row of the CSV."""
    torch.set_num_threads(1)
    name, arm, seed = cell
    task = HALVES[half][name]
    agent = make(task, arm, seed)
    agent._stats_window_size = LAST_EPISODES
    start = time.process_time()
    agent.learn(task.steps)
    seconds = time.process_time() - start
    returns = [episode["r"] for episode in agent.ep_info_buffer or ()]
    return {
        "half": half,
        "task": name,
        "arm": arm,
        "seed": seed,
        "steps": agent.num_timesteps,
        "cpu_seconds": round(seconds, 1),
        "mean_return": round(float(np.mean(returns)), 4),
        "random_return": round(random_return(task), 4),
    }


def random_return(task: Task) -> float:
    """Mean return of random play over at least 200 episodes."""
    env = make_vec_env(task.env, task.n_envs, seed=0, env_kwargs=task.env_kwargs)
    env.reset()
    random, actions, returns = np.random.default_rng(0), int(env.action_space.n), []
    while len(returns) < LAST_EPISODES:
        infos = env.step(random.integers(actions, size=env.num_envs))[3]
        returns += [info["episode"]["r"] for info in infos if "episode" in info]
    env.close()
    return float(np.mean(returns))


def table(rows: list[dict[str, str]], half: str) -> str:
    """One line per task: each arm's mean score, then the interquartile mean over all with its interval.

    Only arms that have played every task are shown.
    """
    mine = [row for row in rows if row["half"] == half]
    tasks = list(dict.fromkeys(row["task"] for row in mine))
    played = {(row["task"], row["arm"]) for row in mine}
    scores: dict[str, list[np.ndarray]] = {arm: [] for arm in ARMS if all((task, arm) in played for task in tasks)}
    lines = []
    for task in tasks:
        here = [row for row in mine if row["task"] == task]
        returns = {arm: np.array([float(row["mean_return"]) for row in here if row["arm"] == arm]) for arm in scores}
        low, best = float(here[0]["random_return"]), max(float(found.mean()) for found in returns.values())
        for arm, found in returns.items():
            scores[arm].append((found - low) / (best - low))
        told = {arm: ", ".join(f"{x:g}" for x in found) for arm, found in returns.items()}
        lines.append([task, *(f"{scores[arm][-1].mean():.2f} ({told[arm]})" for arm in scores)])
    totals = []
    for strata in scores.values():
        low, high = interval(strata)
        totals.append(f"{interquartile_mean(np.concatenate(strata)):.2f} [{low:.2f}, {high:.2f}]")
    return markdown(["", *scores], [*lines, ["all", *totals]])


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the table."""
    rows = read_csv(arguments.out) if arguments.out.exists() else []
    held = {(row["task"], row["arm"], int(row["seed"])) for row in rows if row["half"] == arguments.half}
    tasks = [name for name in HALVES[arguments.half] if name in (arguments.tasks or HALVES[arguments.half])]
    cells = [(task, arm, seed) for seed in range(arguments.seeds) for task in tasks for arm in arguments.arms]
    todo = [cell for cell in cells if cell not in held]
    run_and_append(partial(run, arguments.half), todo, arguments.out, arguments.workers)
    print(table(read_csv(arguments.out), arguments.half))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", default="first", choices=HALVES)
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--tasks", nargs="+", choices=[*FIRST, *HELD_OUT], help="of the half; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="agents side by side")
    parser.add_argument("--out", type=Path, default=Path("docs/results/exam.csv"))
    main(parser.parse_args())
