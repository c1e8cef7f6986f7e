"""A memory for environments that play side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from attn_rl.entities import env_metadata
from attn_rl.wrappers.memory import Memory, MemoryOptions, MemoryWrapper
from attn_rl.wrappers.memory.past import find_relevant
from attn_rl.wrappers.memory.wrapper import FORGOTTEN, as_batch


class VecMemory(VecEnvWrapper):
    """Let environments show their past: the last steps, or the last sightings of what is not seen now, as entities.

    The same as :class:`attn_rl.wrappers.MemoryWrapper` around each, in NumPy and for all at once. It works with every
    algorithm; ``make_agent(env, memory=dict(steps=8))`` puts it around the environment, and
    :class:`attn_rl.sb3.ppo.EntityPPO` stores each past step once. ``infos[i]["forgotten"]`` of an episode's last step
    says, per type, how many rows the episode had to drop.

    Args:
        venv: any SB3 vector environment whose observation holds entities, or is a vector, which becomes the ego.
        steps, sightings, actions, rewards, identity, presence: see :class:`attn_rl.wrappers.memory.MemoryOptions`.

    Raises:
        ValueError: an observation that cannot be remembered.
    """

    def __init__(
        self,
        venv: VecEnv,
        steps: int = 0,
        sightings: int = 0,
        *,
        actions: bool = False,
        rewards: bool = False,
        identity: Sequence[str] = (),
        presence: str | int | None = None,
    ) -> None:
        self.options = MemoryOptions(steps, sightings, actions, rewards, tuple(identity), presence)
        ends = venv.observation_space, venv.action_space
        self.memory = Memory(self.options, venv.num_envs, *ends, env_metadata(venv))
        super().__init__(venv, observation_space=self.memory.observation_space)
        self.metadata = self.memory.metadata
        self._obs = self._now(None)
        self._actions: np.ndarray = np.zeros(0)

    def reset(self) -> VecEnvObs:
        """Reset and forget."""
        self._obs = self._now(self.venv.reset())
        self.memory.forget(slice(None))
        return self.memory.recall(self._obs)

    def step_async(self, actions: np.ndarray) -> None:
        """Pass actions on."""
        self._actions = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Step; what was observed before is remembered, in episodes that go on."""
        obs, rewards, dones, infos = self.venv.step_wait()
        self.memory.remember(self._obs, self._actions, rewards)
        for i in np.flatnonzero(dones).tolist():
            infos[i][FORGOTTEN] = self.memory.forgotten(i)
            if (last := infos[i].get("terminal_observation")) is not None:
                with_past = self.memory.recall(as_batch(last), slice(i, i + 1))
                infos[i]["terminal_observation"] = {key: x[0] for key, x in with_past.items()}
        self.memory.forget(dones)
        self._obs = self._now(obs)
        return self.memory.recall(self._obs), rewards, dones, infos

    def begin_anew(self, i: int, obs: Any) -> dict[str, np.ndarray]:
        """Forget the running episode of environment i: its next one begins with ``obs``. Returns that with its past."""
        self.memory.forget(slice(i, i + 1))
        batch = as_batch(obs)
        for now, first in zip(_blocks(self._obs), _blocks(batch), strict=True):
            now[i] = first[0]
        return {key: x[0] for key, x in self.memory.recall(batch, slice(i, i + 1)).items()}

    def get_state(self) -> dict[str, np.ndarray]:
        """What is remembered, and what is observed now without it: copies."""
        now = dict(self._obs) if isinstance(self._obs, Mapping) else {"": self._obs}
        return {f"now.{key}": np.array(x) for key, x in now.items()} | self.memory.get_state()

    def set_state(self, saved: Mapping[str, np.ndarray]) -> None:
        """Go on where :meth:`get_state` was called.

        Raises:
            ValueError: the state of another memory.
        """
        now = {name.removeprefix("now."): x.copy() for name, x in saved.items() if name.startswith("now.")}
        self.memory.set_state({name: x for name, x in saved.items() if not name.startswith("now.")})
        self._obs = now.get("", now)

    def recall(self) -> dict[str, np.ndarray]:
        """What is observed now, with its past."""
        return self.memory.recall(self._obs)

    def _now(self, obs: Any) -> Any:
        """What is observed, in the dtypes of the space, as its checkpoint must be; zeros before the first reset."""
        space: Any = self.venv.observation_space
        if isinstance(space, spaces.Dict):
            return {
                key: _in_space(None if obs is None else obs[key], part, self.num_envs) for key, part in space.items()
            }
        return _in_space(obs, space, self.num_envs)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of each chosen environment; its metadata with the names of what is remembered."""
        if attr_name == "metadata":
            return [self.metadata for _ in self._get_indices(indices)]
        return self.venv.get_attr(attr_name, indices)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of each chosen environment; slots that it names are counted among those of the past, too."""
        found = self.venv.env_method(method_name, *method_args, indices=indices, **method_kwargs)
        if method_name == "entity_positions":
            return list(self.memory.spread(np.asarray(found)))
        if method_name != "relevant":
            return found
        none = [(0, 0)] * len(found)
        past = self.venv.env_method("relevant_past", indices=indices) if self.venv.has_attr("relevant_past") else none
        return [find_relevant(self.memory, int(slot), tuple(then)) for slot, then in zip(found, past, strict=True)]


def memory_of(env: object) -> MemoryOptions | None:
    """What an environment remembers, be it single or of SB3, through wrappers and vectorisation; None: nothing."""
    told = None if env is None else env_metadata(env).get("memory")
    return None if told is None else MemoryOptions(**told)


def find_memory(env: VecEnv | None) -> VecMemory | None:
    """The memory around environments; None: there is none."""
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecMemory):
            return env
        env = env.venv
    return None


def remembering(env: Any, options: MemoryOptions | None) -> Any:
    """An environment, single or of SB3, with this memory around it, unless it has it already.

    Raises:
        ValueError: it has another one.
    """
    own = memory_of(env)
    if options is None or own == options:
        return env
    if own is not None:
        raise ValueError(
            f"the environment remembers {own.as_dict()}, the agent {options.as_dict()}; pass the environment without a "
            "memory, or with the same one"
        )
    return (VecMemory if isinstance(env, VecEnv) else MemoryWrapper)(env, **options.as_dict())


def _in_space(block: Any, space: Any, n_envs: int) -> np.ndarray:
    return np.zeros((n_envs, *space.shape), space.dtype) if block is None else np.asarray(block, space.dtype)


def _blocks(obs: Any) -> list[np.ndarray]:
    return [obs[key] for key in sorted(obs)] if isinstance(obs, Mapping) else [obs]
