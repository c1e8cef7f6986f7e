"""From the arrays of a rollout to RLlib's episodes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer


class Step(NamedTuple):
    """One step of n environments that begin the next episode in the step that ends one.

    Attributes:
        observation: what the next actions are chosen for: an array (n,...), or a dict of them.
        actions: what was done (n,...).
        rewards, terminated, truncated: what came of it (n,).
        outputs: further columns (n,...) by name.
        infos: of the vector environment, with ``final_obs`` and ``final_info`` where episodes ended.
    """

    observation: Any
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    outputs: dict[str, np.ndarray]
    infos: dict[str, Any]


@dataclass
class Fragment:
    """A rollout of n environments, step by step, and the episodes that it consists of.

    Attributes:
        first: the observation that it begins with.
        ids: of the episodes that run, one an environment.
        started: at which step of its episode each environment stood.
        steps: so far.
        successes: ``is_success`` of the episodes that ended.
    """

    first: Any
    ids: list[str]
    started: list[int]
    steps: list[Step] = field(default_factory=list)
    successes: list[bool] = field(default_factory=list)
    n_done: int = 0

    @property
    def n_steps(self) -> int:
        """Steps so far, of each environment."""
        return len(self.steps)

    def add(self, step: Step) -> None:
        """Append a step."""
        self.steps.append(step)
        done = step.terminated | step.truncated
        self.n_done += int(done.sum())
        last: Any = step.infos.get("final_info", {})
        if done.any() and isinstance(last, dict) and "is_success" in last:
            self.successes += [bool(success) for success in np.asarray(last["is_success"])[done]]

    def episodes(self, observation_space: Any, action_space: Any) -> tuple[list[Any], list[Any]]:
        """Cut the rollout into RLlib's episodes: those that ended, and the beginnings of those that go on."""
        stacked = _stack([self.first, *(step.observation for step in self.steps)])
        columns: dict[str, np.ndarray] = {
            name: np.stack([getattr(step, name) for step in self.steps])
            for name in ("actions", "rewards", "terminated", "truncated")
        }
        outputs = {name: np.stack([step.outputs[name] for step in self.steps]) for name in self.steps[0].outputs}
        ended: list[Any] = []
        running: list[Any] = []
        for i, (start, stop) in _pieces(columns["terminated"] | columns["truncated"]):
            over = bool(columns["terminated"][stop - 1, i] or columns["truncated"][stop - 1, i])
            last = self.steps[stop - 1].infos["final_obs"][i] if over else _take(stacked, slice(stop, stop + 1), i)
            chunk = SingleAgentEpisode(
                id_=self.ids[i],
                observations=_buffer(_join(_take(stacked, slice(start, stop), i), last, over), observation_space),
                observation_space=observation_space,
                infos=InfiniteLookbackBuffer([{}] * (stop - start + 1), lookback=0),
                actions=_buffer(columns["actions"][start:stop, i], action_space),
                action_space=action_space,
                rewards=_buffer(columns["rewards"][start:stop, i].astype(np.float32)),
                terminated=bool(columns["terminated"][stop - 1, i]),
                truncated=bool(columns["truncated"][stop - 1, i] and not columns["terminated"][stop - 1, i]),
                extra_model_outputs={name: _buffer(block[start:stop, i]) for name, block in outputs.items()},
                t_started=self.started[i],
                len_lookback_buffer=0,
            )
            (ended if over else running).append(chunk)
            self.ids[i], self.started[i] = (uuid.uuid4().hex, 0) if over else (chunk.id_, chunk.t)
        return ended, running


def _pieces(done: np.ndarray) -> list[tuple[int, tuple[int, int]]]:
    """Where episodes begin and end: (environment, (first step, step after the last)), from flags (T,n)."""
    n_steps, found = len(done), []
    for i in range(done.shape[1]):
        ends = [*(np.flatnonzero(done[:, i]) + 1), n_steps]
        bounds = zip([0, *ends], ends, strict=False)
        found += [(i, (int(start), int(stop))) for start, stop in bounds if stop > start]
    return found


def _buffer(data: Any, space: Any = None) -> Any:
    return InfiniteLookbackBuffer(data, lookback=0, space=space)


def _stack(observations: Sequence[Any]) -> Any:
    """Observations of T steps (n,...) in one array (T,n,...), or a dict of them."""
    if isinstance(observations[0], dict):
        return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}
    return np.stack(list(observations))


def _take(stacked: Any, steps: slice, i: int) -> Any:
    """Some steps of one environment."""
    if isinstance(stacked, dict):
        return {key: block[steps, i] for key, block in stacked.items()}
    return stacked[steps, i]


def _join(rows: Any, last: Any, single: bool) -> Any:
    """Append the last observation; ``single``: without a leading axis."""
    if isinstance(rows, dict):
        return {key: _join(block, last[key], single) for key, block in rows.items()}
    return np.concatenate([rows, np.asarray(last)[None] if single else last])
