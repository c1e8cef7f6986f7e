"""``attn_rl.train``, and what ``train.py`` and ``attn-rl train`` do: one run, top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from attn_rl.adapters import make_env
from attn_rl.backends.explain import explain
from attn_rl.console import one_line_errors
from attn_rl.entities import env_metadata
from attn_rl.inspection.tensorboard.callback import AttentionCallback
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.agent import make_agent
from attn_rl.training.arguments import AS_PRESET, Args, from_keywords, parse, to_json
from attn_rl.training.curves import Curves, CurvesCallback
from attn_rl.training.diagnosis import diagnose
from attn_rl.training.environment_check import check_environment
from attn_rl.training.guarded_ppo import keeping_what_is_refused
from attn_rl.training.loading import find_checkpoint
from attn_rl.training.plan import plan
from attn_rl.training.policies import used_settings
from attn_rl.training.progress import ProgressCallback
from attn_rl.training.ranges import check_fields, check_products
from attn_rl.training.report import report
from attn_rl.training.run.agent_state import needed_bytes, restore_figures, restore_weights
from attn_rl.training.run.checkpoint import Checkpoint
from attn_rl.training.run.folder import create_run_folder, describe_run, owned, write_whole
from attn_rl.training.run.interrupts import InterruptRequest, leaving_at_once
from attn_rl.training.run.resume import go_on
from attn_rl.training.run.save_callback import SaveCallback, explaining_disk_trouble, give_back, resume_command
from attn_rl.training.seeds import train_seeds
from attn_rl.training.share.sources import local_path
from attn_rl.type_names import with_article
from attn_rl.vec_envs.adapter import VectorEnvAdapter, make_vec_env


def train(
    env: str | None = None,
    policy: str | None = None,
    *,
    resume: str | Path | None = None,
    preset: str | Path | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    processes: bool = False,
    **changes: Any,
) -> Path:
    """Train an agent in a run folder: checkpoints, TensorBoard, the final table. What ``attn-rl train`` does.

    Args:
        env: Gymnasium id, with the module that registers it in front if need be (``"my_module:My-v0"``); None: Seek,
            or the run's that is resumed.
        policy: attention, deepsets, flat, or a registered one; None: attention, or the run's.
        resume: go on with this run folder, exactly where its newest checkpoint stands. An environment whose module was
            not imported must be repeated.
        preset: file of a preset, as ``attn-rl tune`` writes one; None: the environment's.
        env_kwargs: arguments of the environment.
        processes: give each environment a process of its own, for slow ones.
        changes: other options of ``attn-rl train --help``, with underscores: ``total_timesteps=50_000``, ``seed=3``,
            ``runs_dir="runs"``, ``n_layers=2``.

    Returns:
        The run folder; :func:`attn_rl.load` makes an agent of it.

    Raises:
        ValueError: an environment, policy or run that is not there; an argument that does not exist or has a wrong
            value.
        TypeError: an environment that is no id.
    """
    if not isinstance(env, str | None):
        raise TypeError(
            f"env is {with_article(type(env))}; expected an id: gymnasium.register() gives an environment one"
        )
    typed = {"runs_dir": Path, "load": str}
    known = {name: make(changes[name]) for name, make in typed.items() if changes.get(name) is not None}
    chosen = Args(
        env=env or Args.env,
        policy=policy or Args.policy,
        resume=None if resume is None else Path(resume),
        preset=None if preset is None else Path(preset),
        env_kwargs=dict(env_kwargs or {}),
        processes=processes,
        n_envs=changes.get("n_envs", AS_PRESET),
    )
    with _restoring_threads():
        return run(from_keywords(chosen, changes | known))


def run(args: Args) -> Path:
    """Check what was asked for, train, evaluate, save; returns the run folder."""
    check_fields(args)
    check_fields(args.settings)
    check_products({**vars(args), **vars(args.settings)})
    torch.set_num_threads(args.threads)
    check_environment(args.env, args.env_kwargs)
    workers: dict[str, Any] = {"worker_timeout": args.worker_timeout, "worker_restarts": args.worker_restarts}
    in_processes = SubprocVecEnv if args.processes else None
    with closing(make_vec_env(args.env, args.n_envs, args.seed, args.env_kwargs, in_processes, **workers)) as env:
        switch_off_what_only_evaluation_needs(env)
        limits: dict[str, Any] = {"max_abs_reward": args.max_abs_reward}
        settings = asdict(args.settings)
        if args.resume is not None:
            settings = used_settings(args.policy, settings)
        agent = make_agent(env, args.policy, seed=args.seed, device=args.device, **limits, **settings)
        if args.load is not None and args.resume is None:  # a resumed run has its weights, wherever they began
            with local_path(args.load) as source:
                restore_weights(agent, find_checkpoint(source, needed_bytes(agent)))
        return run_agent(agent, args)


def switch_off_what_only_evaluation_needs(env: VecEnv | gym.Env[Any, Any]) -> None:
    """Set to False what ``metadata["evaluation_only"]`` names: costly reports that training has no use for."""
    for name in env_metadata(env).get("evaluation_only", ()):
        if isinstance(env, gym.Env):
            env.set_wrapper_attr(name, False)
        elif isinstance(env.unwrapped, VectorEnvAdapter):
            env.set_attr(name, False)
        else:  # SB3's own set_attr stops at the outermost wrapper
            env.env_method("set_wrapper_attr", name, False)


def run_agent(agent: EntityPPO, args: Args) -> Path:
    """Train an agent in its run folder, or go on there; evaluate, save."""
    folder = args.resume or create_run_folder(args.runs_dir, args.env, args.policy, args.seed, args.run_name)
    config = to_json(args)
    with explaining_disk_trouble(folder, args.env), owned(folder, new=args.resume is None):
        resumed = None if args.resume is None else go_on(agent, folder)
        lines = plan(agent, args)
        describe_run(folder, config | {"backends": explain(agent).splitlines(), "plan": lines})
        print("\n".join(lines), flush=True)
        agent.set_logger(configure(str(folder), ["tensorboard"]))
        if resumed is not None:
            restore_figures(agent, resumed)
        with leaving_at_once(f"Go on with: {resume_command(folder, args.env)}"):
            seconds, curves = learn(agent, args, folder, config, resumed)
            write_whole(folder / "model.zip", agent.save)
            report(agent, config, folder, seconds, diagnose(curves, vars(args.settings)))
    return folder


def learn(
    agent: EntityPPO, args: Args, folder: Path, config: dict[str, Any], resumed: Checkpoint | None
) -> tuple[float, Curves]:
    """Learn under the progress bar, saving checkpoints on the way; returns the seconds it took, and the curves."""
    watching = CurvesCallback()
    if resumed is not None and agent.num_timesteps >= args.total_timesteps:
        give_back([watching], resumed)
        return resumed.state["seconds"], watching.curves
    progress = ProgressCallback()
    with InterruptRequest() as request, closing(progress), keeping_what_is_refused(folder):
        probe_env = make_env(args.env, render_mode="rgb_array", **args.env_kwargs)
        switch_off_what_only_evaluation_needs(probe_env)
        attention = AttentionCallback(probe_env, folder, args.record_every, settings=asdict(args.settings))
        saving = SaveCallback(folder, config, args.save_every, args.keep, [attention, watching], resumed, request)
        left = args.total_timesteps - agent.num_timesteps
        agent.learn(left, callback=[progress, attention, watching, saving], reset_num_timesteps=resumed is None)
    return saving.seconds, watching.curves


def main(argv: list[str], prog: str | None = None, description: str | None = None) -> None:
    """What the command line does; an error that its user can do something about is one line."""
    with one_line_errors():
        args = parse(argv, prog, description)
    with one_line_errors(goes_on="training goes on, its figures are in the run folder"):
        if args.seeds is None:
            run(args)
        else:
            train_seeds(argv, args)


@contextmanager
def _restoring_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
