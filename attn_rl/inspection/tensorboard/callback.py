"""AttentionCallback: watch where a policy looks while it learns."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from attn_rl.adapters import make_env
from attn_rl.backends.explain import explain
from attn_rl.inspection.draw import View, named_views, pictures
from attn_rl.inspection.measure.history import History
from attn_rl.inspection.measure.probe import make_probe, render_worst
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.record_file import record_path
from attn_rl.inspection.measure.summary import live_scalars
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.recorder import CapturedPass, capture_pass, patterns_record
from attn_rl.inspection.record.scenes import Scenes, probe_scenes
from attn_rl.inspection.tensorboard.writer import add_about, add_image, writer_of
from attn_rl.inspection.trackers import Tracker
from attn_rl.sb3.compat import total_timesteps
from attn_rl.type_names import with_article
from attn_rl.vec_envs.memory import memory_of, remembering

MAX_RECORDS = 50
QUIET = ("stdout", "log")
PROBE_FILE = "probe.npz"


class AttentionCallback(BaseCallback):
    """Record attention on fixed probe scenes, and in passing on the live rollouts, during ``learn``.

    After the first rollout, every ``every``-th and the last update, the policy sees the same probe scenes, and at the
    end it plays an episode; maps, counterfactual effects and pictures go to TensorBoard and, with ``run_dir``, to
    ``attention/<step>.npz`` (see :mod:`attn_rl.inspection.measure.probe_record`; the last one also to ``probe.npz``).
    At the start of *every* rollout the weights of one acting pass are summarised too: no pass is made for that.

    Watching changes nothing: no weight, no statistic, no random number (a test compares runs with and without). A
    policy without attention (DeepSets, flat) is recorded too: absence effects and no maps. ``docs/tensorboard.md``
    lists every tag.

    Args:
        probe_env: an id, of which an environment is made; or a single Gymnasium environment that nobody else steps,
            with ``render_mode="rgb_array"`` for pictures. Where it tells ``entity_positions()`` and ``relevant()``, so
            do the records.
        run_dir: the run's folder; None = no files.
        every: rollouts between records; more where a run would keep more than 50 records.
        n_scenes: probe states.
        n_pictures: how many of them are drawn.
        views: which pictures of each record go to TensorBoard: names in :data:`attn_rl.inspection.draw.VIEWS`, or
            functions of a :class:`~attn_rl.inspection.measure.probe_record.ProbeRecord` that return one; None = all of
            ``VIEWS``.
        settings: hyper-parameters for the HParams tab and the text page.

    Raises:
        TypeError: ``probe_env`` is something else, e.g. the vector environment that the agent learns in.
        ValueError: a number out of range.
    """

    def __init__(
        self,
        probe_env: gym.Env | str,
        run_dir: str | Path | None = None,
        every: int = 20,
        *,
        n_scenes: int = 32,
        n_pictures: int = 6,
        views: Sequence[str | View] | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        if every < 1 or not 1 <= n_pictures <= n_scenes:
            raise ValueError(
                f"every={every}, n_scenes={n_scenes}, n_pictures={n_pictures}; expected every >= 1 and "
                "1 <= n_pictures <= n_scenes"
            )
        self.probe_env, self.every = _single(probe_env), every
        self.run_dir = None if run_dir is None else Path(run_dir)
        self.n_scenes, self.n_pictures, self.settings = n_scenes, n_pictures, dict(settings or {})
        self.views = named_views(views)
        self.history = History()
        self._scenes: Scenes | None = None
        self._rollouts = 0
        self._next_record = 0
        self._resumed = False
        self._capturing = ExitStack()
        self._live: tuple[Actor, CapturedPass] | None = None

    def get_state(self) -> dict[str, Any]:
        """Where recording stands, JSON-able: a resumed run records at the same steps, its pictures show all steps."""
        return {"rollouts": self._rollouts, "next_record": self._next_record, "history": self.history.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`get_state` was called; before ``learn``.

        Raises:
            ValueError: a state that no callback could have had.
        """
        counts = state["rollouts"], state["next_record"]
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"rollouts and next record are {counts}; expected whole numbers")
        self._rollouts, self._next_record = counts
        self.history = History.from_state(state["history"])
        self._resumed = True

    def _on_training_start(self) -> None:
        spec = Actor(self.model, detached=True).spec
        self.probe_env = remembering(self.probe_env, memory_of(self.model.env))
        if self._scenes is None:
            n_slots = sum(spec.capacities.values())
            self._scenes = probe_scenes(self.probe_env, n_slots, self.n_scenes, self.n_pictures)
        if not self._resumed:
            self._rollouts, self._next_record = 0, self.num_timesteps
            add_about(
                self.logger,
                schema=spec.as_dict(),
                command=shlex.join(sys.argv),
                backends=explain(self.model),
                settings=self.settings,
            )
        self._resumed = False

    def _on_rollout_start(self) -> None:
        actor = Actor(self.model)  # already in evaluation mode: a rollout is about to begin
        if actor.attention:
            self._live = actor, self._capturing.enter_context(capture_pass(actor))

    def _on_step(self) -> bool:
        if self._live is not None:
            actor, captured = self._live
            self._live = None
            self._capturing.close()
            if len(captured.features) == 1:  # an off-policy algorithm may have acted at random instead
                self._record_scalars(live_scalars(patterns_record(actor, captured)))
        return True

    def _on_rollout_end(self) -> None:
        self._rollouts += 1
        total = total_timesteps(self.model)
        due = self._rollouts == 1 or (self._rollouts % self.every == 0 and self.num_timesteps >= self._next_record)
        if due and self.num_timesteps < total:  # the last one waits for the last update
            self._next_record = self.num_timesteps + total // MAX_RECORDS
            actor, scenes = Actor(self.model), self._probe_scenes()
            self._log(make_probe(actor, scenes, self.probe_env, self.num_timesteps, episode=False))

    def _on_training_end(self) -> None:
        self._capturing.close()
        # A copy: entering evaluation mode moves the feature statistics of the network, as the next predict will.
        actor = Actor(self.model, detached=True)
        probe = make_probe(actor, self._probe_scenes(), self.probe_env, self.num_timesteps)
        render_worst(probe, self.probe_env)
        self._log(probe)
        if self.run_dir is not None:
            shutil.copyfile(record_path(self.run_dir, probe.step), self.run_dir / PROBE_FILE)
        self.logger.dump(self.num_timesteps)

    def _probe_scenes(self) -> Scenes:
        if self._scenes is None:
            raise ValueError("no probe scenes yet; pass the callback to learn(), which collects them at the start")
        return self._scenes

    def _log(self, probe: ProbeRecord) -> None:
        if probe.record.layers:
            self.history.add(probe.step, probe.record)
            probe.history = self.history
        self._record_scalars(probe.scalars)
        if self.run_dir is not None:
            probe.save(record_path(self.run_dir, probe.step))
        writer = writer_of(self.logger)
        trackers = [output for output in self.logger.output_formats if isinstance(output, Tracker)]
        drawn = pictures(probe, self.views) if trackers or writer is not None else {}
        for tag, (file, size) in drawn.items():
            if writer is not None:
                add_image(writer, tag, file, size, probe.step)
            for tracker in trackers:
                tracker.write_picture(tag, file, probe.step)

    def _record_scalars(self, found: Mapping[str, float]) -> None:
        for tag, value in found.items():
            self.logger.record(tag, np.float32(value).item(), exclude=QUIET)


def _single(env: object) -> gym.Env:
    """The environment given, or made of the id given."""
    if isinstance(env, str):
        return make_env(env, render_mode="rgb_array")
    if isinstance(env, gym.Env):
        return env
    got = with_article(type(env))
    if isinstance(env, VecEnv | gym.vector.VectorEnv):
        got = f"a vector environment ({type(env).__name__})"
    elif isinstance(env, type):
        got = f"a class ({env.__name__})"
    raise TypeError(
        f"probe_env is {got}; expected a single environment that nobody else steps: its id "
        '("AttnRL/Seek-v0"), or attn_rl.adapters.make_env(id, render_mode="rgb_array")'
    )
