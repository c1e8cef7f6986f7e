"""Natively batched environments in Stable-Baselines3: from a Gymnasium ``VectorEnv`` to a ``VecEnv``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from attn_rl.adapters import find_spec
from attn_rl.observation_size import check_observations
from attn_rl.type_names import with_article
from attn_rl.vec_envs.copies import check_request, make_copies
from attn_rl.vec_envs.infos import infos_by_row
from attn_rl.vec_envs.native import make_native
from attn_rl.vec_envs.replayable import Resumable
from attn_rl.wrappers.base import Info

_SINGLE_SPACES = {"observation_space": "single_observation_space", "action_space": "single_action_space"}


def make_vec_env(
    env_id: str | Callable[..., gym.Env],
    n_envs: int = 1,
    seed: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    vec_env_cls: type[DummyVecEnv] | type[SubprocVecEnv] | None = None,
    *,
    worker_timeout: float = 120.0,
    worker_restarts: int = 0,
) -> VecEnv:
    """Make environments for SB3: one native batch where the id has one, else separate copies.

    A native batch is an id registered with a ``vector_entry_point`` that resets its sub-environments in the step that
    ends their episode. Either way the rollouts are those of ``DummyVecEnv``: sub-environment i plays what the single
    environment seeded ``seed + i`` plays, and episode statistics arrive in ``info["episode"]``.

    An id of a family that :mod:`attn_rl.adapters` knows gets the wrapper that makes its observation fit; of a
    slow one (HighwayEnv), each copy gets a process of its own. Separate copies are wrapped in
    :class:`attn_rl.vec_envs.replayable.ReplayableEnv`, so that a run can resume in the middle of their episodes.

    Args:
        env_id: a Gymnasium id, with the module that registers it if need be (``AttnRL/Seek-v0``); or, as SB3's
            ``make_vec_env`` takes it, a class or function that returns a new environment at every call:
            ``lambda: SequenceToEntities(gymnasium.make("Some-v0"), capacity=9)``.
        n_envs: number of sub-environments.
        seed: of the first reset; None: random.
        env_kwargs: arguments of the environment (and of the family's wrapper).
        vec_env_cls: make separate copies in this class whatever the id offers; None: ``SubprocVecEnv`` for several
            copies of a slow family, else ``DummyVecEnv``. ``SubprocVecEnv`` means
            :class:`attn_rl.vec_envs.supervised.SupervisedVecEnv`.
        worker_timeout: seconds that a process may take for a step.
        worker_restarts: how many failed processes to replace before giving up.

    Returns:
        A :class:`VectorEnvAdapter`, or a ``vec_env_cls`` with ``Monitor``.

    Raises:
        TypeError: ``env_id`` makes no environments (it may be one), or an argument is of another type.
        ValueError: an observation space that no array holds, with the wrapper that helps; no environments.
    """
    check_request(env_id, n_envs, seed, env_kwargs)
    n_envs, seed = int(n_envs), None if seed is None else int(seed)
    spec = find_spec(env_id) if isinstance(env_id, str) and vec_env_cls is None else None
    batch = None if spec is None else make_native(spec, n_envs, env_kwargs or {})
    if batch is not None:
        adapter = VectorEnvAdapter(batch)
        adapter.seed(seed)
        return adapter
    limits = {"timeout": worker_timeout, "max_restarts": worker_restarts}
    return make_copies(env_id, n_envs, seed, dict(env_kwargs or {}), vec_env_cls, limits)


class VectorEnvAdapter(VecEnv):
    """A Gymnasium ``VectorEnv`` as SB3's ``VecEnv``.

    Infos hold something only where an episode ended: ``terminal_observation``,
    ``TimeLimit.truncated``, ``episode`` (``r``, ``l``, ``t`` as ``Monitor`` writes them: no wrapper
    needed) and what the environment reports for the final step (``is_success``, ``relevant``, ...).
    In between, each info is an empty dict: building full ones at every step would cost as much as
    stepping. What is needed at every step comes from ``env_method``, e.g. ``env_method("relevant")``.

    Args:
        env: a vector environment that resets its sub-environments in the step that ends their
            episode, or a Sync/AsyncVectorEnv that does so in the next step (then this class resets them). An outermost
            ``DictInfoToList`` is taken off: SB3 gets a list anyway.

    Raises:
        TypeError: for anything else.
        ValueError: for another autoreset mode. A native batch with next-step autoreset cannot be
            served: its reset takes a step that SB3 would take for a transition.
    """

    def __init__(self, env: VectorEnv):
        if not isinstance(env, VectorEnv):
            raise TypeError(
                f"env is {with_article(type(env))}; expected a gymnasium.vector.VectorEnv. Of an id, a class or a "
                "function that returns an environment, make_vec_env makes what SB3 takes"
            )
        if isinstance(env, DictInfoToList):
            env = env.env
        mode = env.metadata.get("autoreset_mode")
        can_reset_some = isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv))
        if mode is not AutoresetMode.SAME_STEP and not (mode is AutoresetMode.NEXT_STEP and can_reset_some):
            raise ValueError(
                f"{env.unwrapped.__class__.__name__} has metadata['autoreset_mode']={mode!r}; expected "
                "AutoresetMode.SAME_STEP, or NEXT_STEP in a SyncVectorEnv or AsyncVectorEnv; "
                "use SB3's DummyVecEnv with single environments instead"
            )
        check_observations(env.single_observation_space, env.num_envs)
        self.env = env
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._actions: np.ndarray | None = None
        self._returns = np.zeros(env.num_envs, np.float64)
        self._lengths = np.zeros(env.num_envs, np.int64)
        self._start = time.time()
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def reset(self) -> VecEnvObs:
        """Begin new episodes, with the seeds given by :meth:`seed` if any; return the observation."""
        obs: VecEnvObs
        obs, infos = self.env.reset(seed=self._next_seeds(), options=self._shared_options())
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        if not isinstance(infos, Mapping):
            raise ValueError(
                f"{type(self.env).__name__} hands out infos as {with_article(type(infos))}; expected Gymnasium's "
                "dict of arrays, one entry per environment; remove the wrapper: SB3 gets a list from here"
            )
        self.reset_infos = infos_by_row(infos, np.arange(self.num_envs))
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step; return observation (after a reset where an episode ended), rewards, dones, infos."""
        obs, rewards, terminated, truncated, gym_infos = self.env.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        infos: list[Info] = [{} for _ in range(self.num_envs)]
        rows = np.flatnonzero(dones)
        if len(rows):
            obs, ends = self._finish(obs, gym_infos, rows, dones)
            for row, info in zip(rows.tolist(), ends, strict=True):
                info["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
                infos[row] = info
        return obs, np.asarray(rewards, np.float32), dones, infos

    def _finish(self, obs: object, gym_infos: Info, rows: np.ndarray, dones: np.ndarray) -> tuple[object, list[Info]]:
        """Return the observation after resets, and the info of each episode that ended."""
        if self._same_step:
            ends = infos_by_row(gym_infos["final_info"], rows)
            last = [gym_infos["final_obs"][row] for row in rows]
            starts = infos_by_row(gym_infos, rows, without=("final_obs", "final_info"))
        else:
            ends = infos_by_row(gym_infos, rows)
            last = [_row(obs, row) for row in rows]
            obs, reset_infos = self.env.reset(options={"reset_mask": dones.copy()})
            starts = infos_by_row(reset_infos, rows)
        elapsed = round(time.time() - self._start, 6)
        for row, info, final, start in zip(rows.tolist(), ends, last, starts, strict=True):
            info["terminal_observation"] = final
            info["episode"] = {
                "r": round(float(self._returns[row]), 6),
                "l": int(self._lengths[row]),
                "t": elapsed,
            }
            self.reset_infos[row] = start
        self._returns[rows], self._lengths[rows] = 0, 0
        return obs, ends

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return one picture per sub-environment; Nones where the environment draws none."""
        pictures = self.env.render()
        return [None] * self.num_envs if pictures is None else list(pictures)  # type: ignore[arg-type]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of each chosen sub-environment."""
        if hasattr(self.env, "envs"):
            return [env.get_wrapper_attr(attr_name) for env in self._chosen(indices)]
        if attr_name in _SINGLE_SPACES:
            values: Sequence[object] = [getattr(self.env, _SINGLE_SPACES[attr_name])] * self.num_envs
        elif hasattr(self.env, "get_attr"):
            values = self.env.get_attr(attr_name)
        else:
            values = [getattr(self.env, attr_name)] * self.num_envs
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: object, indices: VecEnvIndices = None) -> None:
        """Set an attribute of each chosen sub-environment.

        Raises:
            ValueError: for some of the sub-environments where they share their attributes.
        """
        if hasattr(self.env, "envs"):
            for env in self._chosen(indices):
                env.set_wrapper_attr(attr_name, value)
            return
        self._require_all(indices, "set_attr")
        if hasattr(self.env, "set_attr"):
            self.env.set_attr(attr_name, value)
        else:
            setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: object, indices: VecEnvIndices = None, **method_kwargs: object
    ) -> list[Any]:
        """Call a method of each chosen sub-environment.

        Raises:
            ValueError: if the vector environment cannot call methods of its sub-environments,
                or only of all of them at once.
        """
        if hasattr(self.env, "envs"):
            chosen = self._chosen(indices)
            return [env.get_wrapper_attr(method_name)(*method_args, **method_kwargs) for env in chosen]
        if not hasattr(self.env, "call"):
            raise ValueError(
                f"{type(self.env.unwrapped).__name__} has no call(name, ...) that returns one result per "
                f"sub-environment, so env_method({method_name!r}) cannot reach them"
            )
        if method_name not in getattr(self.env.unwrapped, "batched_methods", ()):
            self._require_all(indices, "env_method")
        results = self.env.call(method_name, *method_args, **method_kwargs)
        return [results[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Say whether sub-environments have this wrapper; always true for ``Monitor``, whose work is done here."""
        n = len(list(self._get_indices(indices)))
        if issubclass(wrapper_class, Monitor):
            return [True] * n
        if hasattr(self.env, "envs"):
            return [is_wrapped(env, wrapper_class) for env in self._chosen(indices)]
        return [False] * n

    def get_state(self) -> dict[str, Any]:
        """Return what the future depends on: the environment's state and the running statistics.

        Raises:
            ValueError: where the environment has no ``get_state``.
        """
        game = self._resumable()
        running = {"monitor.returns": self._returns.copy(), "monitor.lengths": self._lengths.copy()}
        return game.get_state() | running

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """Continue exactly where :meth:`get_state` was called."""
        self._resumable().set_state(saved)
        self._returns = saved["monitor.returns"].copy()
        self._lengths = saved["monitor.lengths"].copy()

    def _resumable(self) -> Resumable:
        game = self.env.unwrapped
        if not isinstance(game, Resumable):
            missing = "set_state" if getattr(game, "get_state", None) else "get_state"
            raise ValueError(f"{type(game).__name__} has no {missing}(): it cannot be resumed exactly")
        return game

    def _chosen(self, indices: VecEnvIndices) -> list[gym.Env]:
        return [self.env.envs[i] for i in self._get_indices(indices)]  # type: ignore[attr-defined]

    def _require_all(self, indices: VecEnvIndices, what: str) -> None:
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            name = type(self.env.unwrapped).__name__
            raise ValueError(f"{what}: {name} acts on all sub-environments at once; pass indices=None")

    def _next_seeds(self) -> Any:
        """The seed of the first sub-environment where the others' follow it, or one each; None: no new seed."""
        first = self._seeds[0]
        successive = [first if first is None else first + i for i in range(self.num_envs)]
        return first if self._seeds == successive else list(self._seeds)

    def _shared_options(self) -> dict[str, object] | None:
        if any(options != self._options[0] for options in self._options):
            raise ValueError("set_options: a vector environment takes one set of options; pass a dict, not a list")
        return dict(self._options[0]) or None


def _row(batch: Any, row: int) -> object:
    """Return one environment's part of a batched observation, as a copy."""
    if isinstance(batch, Mapping):
        return {key: _row(value, row) for key, value in batch.items()}
    return np.array(batch[row])
