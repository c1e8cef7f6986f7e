"""JobShop: in which order do the jobs get their machines, so that the last one is done early?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from gymnasium import spaces

from .core.batched import ADVANTAGES_SCALED, BatchedEnv
from .core.drawing import Canvas
from .core.randomness import RandomStream
from .core.single import SingleEnv
from .core.slots import MOST_BYTES, MOST_SLOTS, check_counts, per_type
from .core.state import Outcome, State
from .core.types import BoolArray, FloatArray, Info, IntArray, Observation
from .job_shop_features import Features, FeatureSet
from .job_shop_instances import Instances, check_instances
from .job_shop_picture import draw_game, places
from .job_shop_schedule import (
    NEVER,
    NextOperations,
    appended,
    fresh,
    inserted,
    most_work_remaining,
    next_operations,
    play_rule,
)

Schedule = Literal["active", "append", "non-delay", "insertion"]
TYPES = ("jobs", "machines")
DEFAULT = dict.fromkeys(TYPES, 6)
LONGEST = 98  # duration of an operation
PRESET = {  # its form: attn_rl.training.presets.register_preset
    "total_timesteps": 500_000,
    "n_envs": 512,
    "settings": {**ADVANTAGES_SCALED, "pointer": "jobs", "gamma": 1.0, "gae_lambda": 1.0, "shared_baseline": 8}
    | {"n_steps": 36, "batch_size": 2304},
    "transfer": (10, 15),
}


class JobShopVectorEnv(BatchedEnv):
    """Schedule jobs on machines, one operation at a time, so that the last job is done as early as possible.

    **Description.** Every job is a chain of operations, one on each machine, in an order of its own. A machine does
    one operation at a time and never stops in the middle of one. Every step names a job; its next operation gets the
    earliest start that ``schedule`` allows:

    - ``"append"``: behind everything that its machine already has;
    - ``"active"`` (default): the same, but no job may be named whose next operation would start only when another
      job's could have ended. A best schedule is always among them (Giffler and Thompson 1960);
    - ``"non-delay"``: the same, but only jobs whose next operation can start first of all may be named, so that no
      machine waits while it has work. Fewer choices; the best schedule may not be among them;
    - ``"insertion"``: any job, and its operation goes into the first gap of its machine that holds it.

    Finished jobs and machines without work are absent; slots are shuffled anew at every step.

    **Entities.** ``features="sums"`` (default). Times are relative to the first moment at which any operation can
    start, in mean durations of the game's operations ("means"); sums of durations are shares of the game's *lowest
    makespan*: the longest job or the greatest load of a machine.

    ========  =============  =====================================================  ====================
    block     feature        meaning                                                range
    ========  =============  =====================================================  ====================
    ego       left           share of the operations still to schedule              0 to 1
    ego       growth         bound of the makespan / lowest makespan - 1            0 to jobs
    jobs      ready          when its last scheduled operation ends                 +- operations, means
    jobs      start          when its next operation can start                      0 to operations
    jobs      duration       of its next operation                                  0 to operations
    jobs      work           left, the next operation included                      0 to 1
    jobs      after          left, the next operation not included                  0 to 1
    jobs      operations     left, as a share                                       0 to 1
    jobs      slack          by how much it may be late and not exceed the bound    +- operations
    jobs      machine_load   work left on the machine that it needs next            0 to 1
    jobs      machine_queue  share of the jobs that need this machine next          0 to 1
    jobs      then_free      when the machine that it needs after that is free      +- operations
    jobs      then_load      work left on that machine                              0 to 1
    machines  free           when its last scheduled operation ends                 +- operations
    machines  load           work left                                              0 to 1
    machines  queue          share of the jobs that need it next                    0 to 1
    machines  slack          as for jobs                                            +- operations
    ========  =============  =====================================================  ====================

    ``features="operations"``: nothing is summed up. Jobs say ``ready``, machines ``free``, and every operation still to
    schedule is an entity: ``duration`` (means) and ``next`` (1: its job's next one). ``metadata["edges"]`` names the
    edges between them (``envs/job_shop_features.py``).

    **Actions.** ``Discrete(job slots)``: schedule the next operation of the job in this slot. ``action_mask`` (in the
    observation, and from ``action_masks()``) is 1 for the jobs that may be named. Any other choice takes, among those,
    the job with the least work left.

    **Reward.** Minus the growth of the makespan's lower bound / the lowest makespan. The bound: the latest of all jobs'
    and machines' ends if nothing had to wait any more; at the end it is the makespan. So the return is 1 - makespan /
    lowest makespan: at most 0, in most games less. The last info of an episode tells ``makespan``, ``rule_makespan``
    and ``gap``, minus the return. ``is_success``: no later than the rule *most work remaining* without delay (of the
    jobs that can start first, the one with the most work left), which is also the scripted policy.

    =========================  ======  ====  =======
    policy, 6 x 6              return  gap   success
    =========================  ======  ====  =======
    random slot                -.63    .63   .09
    random among valid jobs    -.55    .55   .18
    scripted                   -.38    .38   .99
    =========================  ======  ====  =======

    **Instances.** Durations are 1 to 98, the machines of each job in random order, as L2D's (Zhang et al. 2020).
    ``reset(options={"instances": instances})`` plays given ones, the first in the first sub-environment:
    ``envs/job_shop_instances.py`` regenerates published test sets. Later episodes are random again.

    **Termination.** When everything is scheduled, after jobs x machines steps. Never truncated.

    **Versions.** v0: the first.

    Args:
        num_envs: games played side by side.
        min_entities: fewest jobs and machines (at least 2 each): one number, or ``{"jobs": 6, "machines": 4}``;
            default 6 of each.
        max_entities: most jobs and machines, in the same way; default 6.
        capacity: slots of each, in the same way; default: ``max_entities``.
        schedule: ``"active"``, ``"append"``, ``"non-delay"`` or ``"insertion"``.
        features: ``"sums"`` or ``"operations"``.
        render_mode: None or "rgb_array".
    """

    metadata = {**BatchedEnv.metadata, "preset": PRESET}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int | Mapping[str, int] | None = None,
        max_entities: int | Mapping[str, int] | None = None,
        capacity: int | Mapping[str, int] | None = None,
        schedule: Schedule = "active",
        features: FeatureSet = "sums",
        render_mode: str | None = None,
    ):
        for name, given, known in (("schedule", schedule, Schedule), ("features", features, FeatureSet)):
            if given not in get_args(known):
                raise ValueError(f"{name}={given!r}; expected one of {', '.join(map(repr, get_args(known)))}")
        self.min_entities = per_type("min_entities", min_entities, DEFAULT)
        self.max_entities = per_type("max_entities", max_entities, DEFAULT)
        self.capacity = per_type("capacity", capacity, self.max_entities)
        for name in TYPES:
            check_counts(self.min_entities[name], self.max_entities[name], self.capacity[name], least=2, of=name)
        _check_size(num_envs, self.capacity, edges=features == "operations")
        self.schedule, self.features = schedule, Features(features, self.capacity["jobs"], self.capacity["machines"])
        super().__init__(
            num_envs,
            self.features.space(),
            spaces.Discrete(self.capacity["jobs"]),
            max_episode_steps=self.max_entities["jobs"] * self.max_entities["machines"] + 1,
            render_mode=render_mode,
            entities=self.features.names,
        )
        self.metadata["edges"] = self.features.edges

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, object] | None = None
    ) -> tuple[Observation, Info]:
        """Begin a new episode in every sub-environment.

        Args:
            seed: as for every environment here.
            options: ``{"instances": (duration, machine)}``, each (num_envs, jobs, machines): play these; see
                :class:`attn_rl.envs.job_shop_instances.Instances`.

        Raises:
            ValueError: instances that are none, or that do not fit in number or in size.
        """
        obs, infos = super().reset(seed=seed, options=options)
        if not options or "instances" not in options:
            return obs, infos
        self._state = self._given(Instances(*map(np.asarray, options["instances"])))  # type: ignore[call-overload]
        self._state.steps = np.zeros(self.num_envs, np.int64)
        self.shuffle(self._state, self._streams.current())
        return self.observe(self._state), self._infos(np.zeros(self.num_envs, bool))

    def _given(self, instances: Instances) -> State:
        check_instances(*instances)
        count, n_jobs, n_machines = instances.duration.shape
        jobs, machines = self.capacity["jobs"], self.capacity["machines"]
        if count != self.num_envs or n_jobs > jobs or n_machines > machines:
            raise ValueError(
                f"instances have shape {instances.duration.shape} (instances, jobs, machines); expected "
                f"{self.num_envs} of them, one for each sub-environment, of at most {jobs} jobs and {machines} machines"
            )
        machine = np.tile(np.arange(machines), (count, jobs, 1))
        machine[:, :n_jobs, :n_machines] = instances.machine
        duration = np.zeros_like(machine)
        duration[:, :n_jobs, :n_machines] = instances.duration
        return fresh(duration, machine, np.full(count, n_machines))

    def begin(self, random: RandomStream) -> State:
        jobs, machines = self.capacity["jobs"], self.capacity["machines"]
        counts = [random.integers(1, self.min_entities[name], self.max_entities[name] + 1) for name in TYPES]
        there = (np.arange(jobs) < counts[0])[:, :, None] & (np.arange(machines) < counts[1])[:, None]
        duration = there * random.integers(jobs * machines, 1, LONGEST + 1).reshape(there.shape)
        words = random.bits(jobs * machines).reshape(there.shape) >> np.uint64(1)
        absent = np.arange(machines) >= counts[1]
        machine = np.argsort(words | (absent.astype(np.uint64) << np.uint64(63))[:, None], axis=-1)
        return fresh(duration, machine, counts[1][:, 0])

    def advance(self, state: State, actions: IntArray, random: RandomStream) -> Outcome:
        rows = np.arange(len(actions))
        following, starts = self._choices(state)
        valid = self._valid(following, starts)
        job = state.job_at[rows, actions]
        least = np.argmin(np.where(valid, state.work, NEVER), axis=-1)
        job = np.where(valid[rows, job], job, least)
        machine, duration = following.machine[rows, job], following.duration[rows, job]
        state.start[rows, job, following.position[rows, job]] = starts[rows, job]
        state.ready[rows, job] = end = starts[rows, job] + duration
        state.free[rows, machine] = np.maximum(state.free[rows, machine], end)
        state.work[rows, job] -= duration
        state.load[rows, machine] -= duration
        state.done[rows, job] += 1
        play_rule(state)
        before, state.bound = state.bound, self._bound(state)
        return Outcome((before - state.bound) / state.lowest, *_ending(state))

    def _choices(self, state: State) -> tuple[NextOperations, IntArray]:
        """Return what each job needs next, and when that starts if the job is named now, (n, J)."""
        following = next_operations(state, state.done)
        if self.schedule == "insertion":
            return following, inserted(state, following)
        return following, appended(state.ready, state.free, following)

    def _valid(self, following: NextOperations, starts: IntArray) -> BoolArray:
        """Return which jobs may be named, (n, J)."""
        open_: BoolArray = starts < NEVER
        if self.schedule == "active":
            open_ &= starts < np.where(open_, starts + following.duration, NEVER).min(axis=-1, keepdims=True)
        elif self.schedule == "non-delay":
            open_ &= starts == starts.min(axis=-1, keepdims=True)
        return open_

    def _bound(self, state: State) -> IntArray:
        """Return a lower bound of the makespan that never falls, (n,)."""
        waiting = 0 if self.schedule == "insertion" else state.load  # which may fit into the gaps
        ends = [state.ready + state.work, state.free + waiting, state.lowest[:, None]]
        bound: IntArray = np.concatenate(ends, axis=-1).max(axis=-1)
        return bound

    def shuffle(self, state: State, random: RandomStream) -> None:
        state.job_at = random.order(state.done < state.n_machines[:, None])
        state.machine_at = random.order(state.load > 0)

    def observe(self, state: State) -> dict[str, np.ndarray]:
        following, starts = self._choices(state)
        mask = np.take_along_axis(self._valid(following, starts), state.job_at, axis=-1)
        return {"action_mask": mask.astype(np.int8), **self.features.observe(state, following, starts)}

    def action_masks(self) -> BoolArray:
        """Return which jobs may be named now: (num_envs, job slots) bool, as MaskablePPO asks for it."""
        state = self._require_state()
        return np.take_along_axis(self._valid(*self._choices(state)), state.job_at, axis=-1)

    def entity_places(self, state: State) -> FloatArray:
        return places(state, operations=self.features.kind == "operations")

    def draw(self, game: State, canvas: Canvas) -> None:
        draw_game(game, canvas)

    def oracle(self, obs: Mapping[str, np.ndarray]) -> IntArray:
        """Of the jobs that can start first, name the one with the most work left."""
        starts, work = self.features.starts_and_work(obs)
        return most_work_remaining(np.where(obs["action_mask"] == 1, starts, np.inf), work)


class JobShopEnv(SingleEnv):
    """One job shop; rules and arguments: :class:`JobShopVectorEnv`."""

    rules = JobShopVectorEnv


def _check_size(num_envs: int, capacity: Mapping[str, int], *, edges: bool) -> None:
    """Refuse what fills the memory: operations, and with their edges all pairs of jobs on every machine."""
    jobs, machines = capacity["jobs"], capacity["machines"]
    held, what = (jobs * jobs * machines, "edges") if edges else (jobs * machines, "operations")
    most = min(MOST_SLOTS, MOST_BYTES // (64 * max(num_envs, 1)))
    if held > most:
        raise ValueError(
            f"capacity of {jobs:,} jobs and {machines:,} machines in num_envs={num_envs:,} games means {held:,} {what} "
            f"in each; expected at most {most:,}: fewer of each (max_entities, capacity), or fewer games"
        )


def _ending(state: State) -> tuple[BoolArray, BoolArray, dict[str, np.ndarray]]:
    """Return which games have ended, which of them well, and their scores."""
    ended = ~state.work.any(axis=-1)
    rule = state.rule_ready.max(axis=-1)
    scores = {"makespan": state.bound.astype(np.float64), "rule_makespan": rule.astype(np.float64)}
    scores["gap"] = state.bound / state.lowest - 1
    return ended, ended & (state.bound <= rule), scores
