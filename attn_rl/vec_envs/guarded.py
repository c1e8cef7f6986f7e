"""What environments return is checked before the agent sees it: nothing impossible gets through."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from attn_rl.categories import describe_values
from attn_rl.entities import ACTION_MASK, EntitySpec
from attn_rl.sb3.action_head import MaskWatch, nothing_allowed
from attn_rl.vec_envs.expected_blocks import Block, expected_blocks
from attn_rl.vec_envs.observation_form import GuardError, check_form, fits
from attn_rl.vec_envs.policy_input import MAX_ABS_OBSERVATION
from attn_rl.vec_envs.raw_observations import look_at_raw_observations

MAX_ABS_REWARD = 1e6
"""Rewards beyond this are refused unless the run declares more."""

LAST = "(the last of its episode)"


class GuardedVecEnv(VecEnvWrapper):
    """Stop at the first impossible observation or reward, before anything is learned from it.

    Checked at every reset and step: keys, shapes, dtypes (of separate copies before they are cast, broadcast or
    stacked, see :mod:`attn_rl.vec_envs.raw_observations`); presence flags and action masks in {0, 1}; the ego and
    present rows finite and inside the bounds of their space (absent rows may hold anything; what ``VecNormalize``
    scales has no bounds); rewards finite and no larger than ``max_abs_reward``. An action mask that allows nothing is
    no error; it is warned of once. Costs two reductions per key and step.

    Args:
        env: any SB3 vector environment.
        spec: which keys hold entities, and where their presence is; None: read off the environment.
        max_abs_reward: largest reward, either sign.

    Attributes:
        mask_watch: of the policy that acts here, which need not say again what was said of a mask.
    """

    def __init__(self, env: VecEnv, spec: EntitySpec | None = None, *, max_abs_reward: float = MAX_ABS_REWARD) -> None:
        super().__init__(env)
        if not max_abs_reward > 0:
            raise ValueError(f"max_abs_reward={max_abs_reward}; expected a positive number")
        self.max_abs_reward = max_abs_reward
        self.steps = 0
        spec = spec or EntitySpec.from_env(env)
        self._blocks = expected_blocks(env.observation_space, spec)
        for key in _normalized_keys(env):
            self._blocks[key].low, self._blocks[key].high = -MAX_ABS_OBSERVATION, MAX_ABS_OBSERVATION
        self._actions: np.ndarray | None = None
        self._when = "reset"
        self._choices = choices_of(env.action_space) if spec.action_mask else []
        self.mask_watch: MaskWatch | None = None
        self._keeps_dtypes = look_at_raw_observations(env, self._check_one)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the environments; where the innermost has no ``seed`` (SuperSuit's), through its ``reset(seed=...)``.

        Raises:
            ValueError: it takes no seed there either.
        """
        games: Any = _innermost(self.venv)
        if hasattr(games, "seed"):
            return super().seed(seed)
        if "seed" not in signature(games.reset).parameters:
            raise ValueError(f"{type(games).__name__} has neither seed() nor reset(seed=...); leave seed out")
        games.reset(seed=seed)  # the next reset, without a seed, goes on from here
        return [seed] * self.num_envs

    def reset(self) -> VecEnvObs:
        """Reset and check."""
        self._when = "reset"
        obs = self._cast(self.venv.reset())
        self.check_observation(obs, "reset", range(self.num_envs))
        self._warn_of_empty_masks(obs)
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Pass actions on."""
        self._actions = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Step and check.

        Raises:
            GuardError: naming the environment, the step, the key and the value.
        """
        self._when = f"step {self.steps + 1}"
        obs, rewards, dones, infos = self.venv.step_wait()
        obs = self._cast(obs)
        self.steps += 1
        self.check_observation(obs, self._when, range(self.num_envs))
        self._check_rewards(rewards, obs)
        ends = [i for i in np.flatnonzero(dones).tolist() if infos[i].get("TimeLimit.truncated")]
        ends = [i for i in ends if infos[i].get("terminal_observation") is not None]
        if ends:  # SB3 asks the value of no other terminal observation
            self._check_terminal([infos[i]["terminal_observation"] for i in ends], ends)
        self._warn_of_empty_masks(obs)
        return obs, rewards, dones, infos

    def _check_one(self, space: spaces.Space[object], index: int, obs: Any, *last: Any) -> None:
        where = f"environment {index}, {self._when}"
        for final in last:
            check_form(final, space, f"{where} {LAST}")
        check_form(obs, space, where)

    def _cast(self, obs: VecEnvObs) -> VecEnvObs:
        """In the dtypes of the space, where copies in processes of their own handed out others that lose nothing."""
        if not self._keeps_dtypes or isinstance(obs, tuple):
            return obs
        if isinstance(obs, dict):
            return {key: _in_dtype(block, self._blocks.get(key)) for key, block in obs.items()}
        return _in_dtype(obs, self._blocks.get(""))

    def check_observation(self, obs: Any, when: str, rows: Sequence[int]) -> None:
        """Raise where a batch of observations is impossible.

        Args:
            obs: one array, or arrays by key, each with one row per environment.
            when: for the message: ``"reset"``, ``"step 7"``.
            rows: the environments that the rows are of, for the message.

        Raises:
            GuardError: naming the environment, ``when``, the key and the value.
        """
        blocks = obs if isinstance(obs, Mapping) else {"": obs}
        if blocks.keys() != self._blocks.keys():
            self._refuse(f"{when}: the observation has keys {sorted(blocks)}, expected {sorted(self._blocks)}", obs)
        for key, expected in self._blocks.items():
            block, name = blocks[key], f"observation {key!r}" if key else "observation"
            shape = (len(rows), *expected.shape)
            if block.shape != shape or block.dtype != expected.dtype:
                got, wanted = f"{block.dtype} of shape {block.shape}", f"{expected.dtype} of shape {shape}"
                self._refuse(f"{_naming(rows)}, {when}: {name} is {got}, expected {wanted}", obs)
            wrong = expected.broken(block, blocks)
            if wrong is not None:
                self._refuse(_describe(name, block, wrong, expected, when, rows), obs)

    def _check_terminal(self, observations: list[Any], rows: list[int]) -> None:
        when = f"{self._when} {LAST}"
        checked = [
            check_form(obs, self.observation_space, f"environment {row}, {when}")
            for row, obs in zip(rows, observations, strict=True)
        ]
        batch = {key: np.stack([blocks[key] for blocks in checked]) for key in self._blocks}
        self.check_observation(batch.get("", batch), when, rows)

    def _warn_of_empty_masks(self, obs: Any) -> None:
        """Say, the first time, that nothing can be chosen: the policy then takes choice 0 with certainty."""
        for part, columns in enumerate(self._choices):
            allowed = obs[ACTION_MASK][:, columns].any(1)
            if not allowed.all():
                where = f"environment {int(allowed.argmin())}, {self._when}"
                warnings.warn(f"{where}: {nothing_allowed(part, len(self._choices))}", stacklevel=4)
                if self.mask_watch is not None:
                    self.mask_watch.said = True
                self._choices = []
                return

    def _check_rewards(self, rewards: np.ndarray, obs: Any) -> None:
        if np.abs(rewards).max() <= self.max_abs_reward:
            return
        row = int(np.flatnonzero(~(np.abs(rewards) <= self.max_abs_reward))[0])
        self._refuse(
            f"environment {row}, step {self.steps}: reward {rewards[row]} is "
            + ("not finite" if not np.isfinite(rewards[row]) else f"beyond --max-abs-reward {self.max_abs_reward:g}"),
            obs,
            rewards=rewards,
        )

    def _refuse(self, message: str, obs: Any, **more: np.ndarray) -> None:
        blocks = obs if isinstance(obs, Mapping) else {"observation": obs}
        batch = {f"observations.{key}": np.asarray(block) for key, block in blocks.items()} | more
        if self._actions is not None:
            batch["actions"] = np.asarray(self._actions)
        raise GuardError(message, batch)


def _in_dtype(block: np.ndarray, expected: Block | None) -> np.ndarray:
    return block.astype(expected.dtype) if expected is not None and fits(block, expected.dtype) else block


def choices_of(space: spaces.Space[Any]) -> list[slice]:
    """Where the flags of each part of the action stand in a mask; none for actions that cannot be masked."""
    if isinstance(space, spaces.Discrete):
        sizes = [int(space.n)]
    else:
        sizes = space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 else []
    ends = np.cumsum(sizes, dtype=int).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _innermost(env: VecEnv) -> VecEnv:
    """What plays the games, below all wrappers."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env


def _normalized_keys(env: VecEnv) -> set[str]:
    """The keys of a Dict that a VecNormalize scales: their spaces still state the bounds from before."""
    keys: set[str] = set()
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecNormalize) and env.norm_obs and isinstance(env.observation_space, spaces.Dict):
            keys |= set(env.norm_obs_keys or ())
        env = env.venv
    return keys


def _naming(rows: Sequence[int]) -> str:
    if len(rows) == 1:
        return f"environment {rows[0]}"
    return (
        f"environments {rows[0]}-{rows[-1]}" if isinstance(rows, range) else f"environments {', '.join(map(str, rows))}"
    )


def _describe(name: str, block: np.ndarray, wrong: np.ndarray, expected: Block, when: str, rows: Sequence[int]) -> str:
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    value = block[place]
    low, high = (np.broadcast_to(bound, block.shape)[place] for bound in (expected.low, expected.high))
    why = "not in {0, 1}" if expected.binary else f"outside [{low:g}, {high:g}]" if np.isfinite(value) else "not finite"
    if np.isfinite(value) and place[-1] in expected.categories:
        why = f"expected {describe_values(expected.categories[place[-1]])}"
    return f"environment {rows[place[0]]}, {when}: {name}{list(place[1:])} is {value}, {why}"
