"""Environments in supervised processes: one that dies or hangs is reported, with its index and traceback, in time."""

from __future__ import annotations

import multiprocessing as mp
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import CloudpickleWrapper, VecEnv, VecEnvObs, VecEnvStepReturn

from attn_rl.sb3.compat import run_worker, stack_observations

START_SECONDS = 300.0
"""Time limit for a worker to start: it imports torch, and all of them do so at once."""

CLOSE_SECONDS = 2.0
"""How long to wait for a worker that was asked to end."""


class WorkerFailed(ValueError):
    """An environment's process died, raised an error or did not answer in time."""


class _Failure(str):
    """What a worker sends when its environment raises: the traceback."""


class _Link:
    """The parent's end of the pipe to one worker; says what happened where SB3 gets an EOFError or waits forever."""

    def __init__(self, index: int, process: BaseProcess, pipe: Connection, timeout: float) -> None:
        self.index, self.process, self.timeout = index, process, timeout
        self._pipe = pipe

    def send(self, message: object) -> None:
        with suppress(OSError):  # dead: the next recv says so, with what it left in the pipe
            self._pipe.send(message)

    def recv(self) -> Any:
        try:
            if not self._pipe.poll(self.timeout):
                raise WorkerFailed(f"worker {self.index} hangs: no answer for {self.timeout:g} s")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(5.0)
            code = self.process.exitcode
            raise WorkerFailed(f"worker {self.index} died (exit code {code})") from error
        if isinstance(answer, _Failure):
            raise WorkerFailed(f"worker {self.index} raised an error; its traceback:\n{answer}")
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self._pipe.close()


def _supervised_worker(remote: Connection, parent_remote: Connection, env_fn: CloudpickleWrapper) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent finishes its rollout
    try:
        run_worker(remote, parent_remote, env_fn)
    except Exception:
        remote.send(_Failure(traceback.format_exc()))


class SupervisedVecEnv(SubprocVecEnv):
    """``SubprocVecEnv`` that reports a failed worker: which one and why, within a time limit.

    Args:
        env_fns: one function per environment.
        start_method: of multiprocessing; None: forkserver where there is one, else spawn.
        timeout: seconds that a worker may take to answer.
        max_restarts: how many failures, over all workers, to survive. The failed worker's episode counts as truncated,
            and a new process begins another one with a new seed. :attr:`restarts` counts them.

    Attributes:
        look: called with index, observation and info (empty after a reset) of every environment before observations
            are stacked; what it raises stops the step. None: nobody looks.

    Raises:
        WorkerFailed: from any method, with the worker's index.
    """

    look: Callable[[int, Any, dict[str, Any]], None] | None = None

    def __init__(
        self,
        env_fns: list[Callable[[], gym.Env]],
        start_method: str | None = None,
        *,
        timeout: float = 120.0,
        max_restarts: int = 0,
    ) -> None:
        if not timeout > 0 or max_restarts < 0:
            raise ValueError(f"timeout={timeout}, max_restarts={max_restarts}; expected seconds > 0 and a count >= 0")
        self.waiting = self.closed = False
        self.timeout, self.max_restarts = timeout, max_restarts
        self.restarts = np.zeros(len(env_fns), np.int64)
        self._env_fns = env_fns
        self._started_with: Sequence[int | None] = [None] * len(env_fns)
        methods = mp.get_all_start_methods()
        self._context: Any = mp.get_context(start_method or ("forkserver" if "forkserver" in methods else "spawn"))
        self.remotes: Any = [self._spawn(i) for i in range(len(env_fns))]
        try:
            all_spaces = [self._ask(link, "get_spaces") for link in self.remotes]
        except WorkerFailed:  # the others may be about to say the same
            for link in self.remotes:
                link.end()
            raise
        VecEnv.__init__(self, len(env_fns), *all_spaces[0])
        self._latest: list[Any] = [None] * self.num_envs

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seeds as SB3 does; the seeds of restarted workers follow from them."""
        self._started_with = super().seed(seed)
        return self._started_with

    def reset(self) -> VecEnvObs:
        """Begin new episodes."""
        for i, link in enumerate(self.remotes):
            link.send(("reset", (self._seeds[i], self._options[i])))
        self._latest, self.reset_infos = map(list, zip(*(link.recv() for link in self.remotes), strict=True))
        self._reset_seeds()
        self._reset_options()
        return self._stack([{}] * self.num_envs)

    def step_wait(self) -> VecEnvStepReturn:
        """Collect one step of every worker; restart those that failed, if allowed."""
        results = [self._result(i) for i in range(self.num_envs)]
        self.waiting = False
        obs, rewards, dones, infos, self.reset_infos = map(list, zip(*results, strict=True))
        self._latest = obs
        return self._stack(infos), np.stack(rewards), np.stack(dones), infos

    def close(self) -> None:
        """End all workers; those that do not answer are killed."""
        if self.closed:
            return
        for link in self.remotes:
            link.send(("close", None))
        for link in self.remotes:
            link.process.join(min(self.timeout, CLOSE_SECONDS))
            link.end()
        self.closed = True

    def _stack(self, infos: list[dict[str, Any]]) -> VecEnvObs:
        if self.look is not None:
            for i, (obs, info) in enumerate(zip(self._latest, infos, strict=True)):
                self.look(i, obs, info)
        return stack_observations(self._latest, self.observation_space)

    def _spawn(self, index: int) -> _Link:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, ours, CloudpickleWrapper(self._env_fns[index]))
        process = self._context.Process(target=_supervised_worker, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return _Link(index, process, ours, max(self.timeout, START_SECONDS))

    def _ask(self, link: _Link, command: str, data: object = None) -> Any:
        """Send a command, return the answer; from the first one on, the worker is up and has its usual time limit."""
        link.send((command, data))
        answer = link.recv()
        link.timeout = self.timeout
        return answer

    def _result(self, index: int) -> tuple[Any, ...]:
        try:
            step: tuple[Any, ...] = self.remotes[index].recv()
            return step
        except WorkerFailed as error:
            if self.restarts.sum() >= self.max_restarts:
                raise
            return self._restart(index, error)

    def _restart(self, index: int, error: WorkerFailed) -> tuple[Any, ...]:
        """Replace a worker; return its step: the old episode truncated at its last observation, a new one begun."""
        self.restarts[index] += 1
        print(f"{error}\nrestarted; {self.restarts.sum()} of {self.max_restarts} restarts used", file=sys.stderr)
        self.remotes[index].end()
        link = self.remotes[index] = self._spawn(index)
        first = self._started_with[index]
        seed = None if first is None else first + self.num_envs * int(self.restarts[index])
        obs, reset_info = self._ask(link, "reset", (seed, {}))
        info = {"terminal_observation": self._latest[index], "TimeLimit.truncated": True, "worker_restarted": True}
        return obs, 0.0, True, info, reset_info
