"""Train an agent that attends over entities, evaluate it, and show where it looks.

python train.py                                          # attention on Seek, about half a minute

python train.py --policy flat                            # the same with a flat MLP

python train.py --env envs:AttnRL/Match-v0 --env-kwargs rule odd

python train.py --env envs:AttnRL/Dodge-v0 --seed 3 --n-heads 2

python train.py --resume runs/NAME                       # killed or interrupted: go on as if nothing had happened

tensorboard --logdir runs                                # and look at it
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from stable_baselines3.common.logger import configure
from tyro.conf import OmitArgPrefixes

from attn_rl import AttentionCallback, explain, make_agent, make_vec_env
from attn_rl.adapters import make_env
from attn_rl.cli import literal
from attn_rl.console import one_line_errors
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.environment_check import check_environment
from attn_rl.training.guarded_ppo import keeping_what_is_refused
from attn_rl.training.loading import find_checkpoint
from attn_rl.training.policies import import_policy, used_settings
from attn_rl.training.presets import Settings, find_preset
from attn_rl.training.progress import ProgressCallback
from attn_rl.training.ranges import check_fields, check_products
from attn_rl.training.report import report
from attn_rl.training.run.agent_state import needed_bytes, restore_figures, restore_weights
from attn_rl.training.run.checkpoint import Checkpoint
from attn_rl.training.run.folder import create_run_folder, describe_run, owned, write_whole
from attn_rl.training.run.interrupts import InterruptRequest, leaving_at_once
from attn_rl.training.run.json_form import fields_from_json
from attn_rl.training.run.resume import go_on, read_args, refuse_changes
from attn_rl.training.run.save_callback import SaveCallback, explaining_disk_trouble, resume_command
from attn_rl.training.run.stored_environment import refuse_foreign_module, refuse_stored_arguments
from attn_rl.vec_envs.guarded import MAX_ABS_REWARD

CHANGEABLE = (
    "total_timesteps",
    "threads",
    "device",
    "eval_episodes",
    "save_every",
    "keep",
    "record_every",
    "max_abs_reward",
)
"""What a resumed run may do otherwise."""


@dataclass(frozen=True)
class Args:
    """Train an agent that attends over the entities in its observation."""

    env: str = "envs:AttnRL/Seek-v0"
    """Gymnasium id, with the module that registers it in front."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment, as pairs: --env-kwargs max_entities 12 capacity 16."""
    policy: str = "attention"
    """attention, deepsets, flat, or one of yours: my_module:mine."""
    total_timesteps: int = 200_000
    """Steps over all environments; rounded up to whole rollouts."""
    seed: int = 0
    """Of the network, the actions and the environments."""
    n_envs: int = 128
    """Environments side by side."""
    run_name: str | None = None
    """Folder name; None: <env>__<policy>__<seed>__<time>."""
    runs_dir: Path = Path("runs")
    """Parent of all run folders."""
    device: str = "cpu"
    """Torch's name of the device; these networks are small, a CPU core is quick."""
    threads: int = 1
    """Torch threads; with networks this small more threads are slower."""
    load: Path | None = None
    """Begin with the weights of this run folder or checkpoint, which may have fewer entity slots."""
    resume: Path | None = None
    """Go on with this run folder, exactly where its newest checkpoint stands."""
    save_every: int = 10
    """Rollouts between checkpoints."""
    keep: int = 3
    """Checkpoints to keep."""
    max_abs_reward: float = MAX_ABS_REWARD
    """A larger reward, either sign, stops the run; so does an observation outside its space."""
    worker_timeout: float = 120.0
    """Seconds that an environment in a process of its own may take for a step."""
    worker_restarts: int = 0
    """Dead or hung environment processes to replace before giving up."""
    eval_episodes: int = 1000
    """Episodes per row of the final table, rounded up to a multiple of 100 (slow environments: 8); 0 skips it."""
    record_every: int = 20
    """Rollouts between two recordings of the attention; the first and the last are always recorded."""
    settings: Annotated[Settings, OmitArgPrefixes] = field(default_factory=Settings)
    """Network and PPO; the defaults shown are the environment's preset."""


def parse(argv: list[str]) -> Args:
    """Read the command line in two passes: environment, policy or the run to resume choose all other defaults."""
    chosen, _ = tyro.cli(Args, args=[a for a in argv if a not in ("-h", "--help")], return_unknown_args=True)
    chosen = replace(chosen, policy=import_policy(chosen.policy))
    stored = None if chosen.resume is None else resumed_args(chosen.resume)
    defaults = preset_args(chosen) if stored is None else replace(stored, env_kwargs={})
    args = tyro.cli(Args, args=argv, default=defaults, description=__doc__)
    args = replace(args, policy=args.policy.rpartition(":")[2])  # a module named by a file stays unimported
    typed = {name: as_json(name, literal(value)) for name, value in args.env_kwargs.items()}
    if stored is None:
        return replace(args, env_kwargs=typed)
    args = replace(args, env_kwargs=stored.env_kwargs | typed)
    refuse_changes(asdict(stored), asdict(args), CHANGEABLE)
    if chosen.env != args.env:
        refuse_foreign_module(args.env)
    refuse_stored_arguments(args.env, args.env_kwargs, args.n_envs, repeated=typed)
    return args


def as_json(name: str, value: Any) -> Any:
    """An argument as JSON has it: the environment gets the same value at first and after a resume."""
    try:
        return json.loads(json.dumps(value, default=str))
    except TypeError as error:
        raise ValueError(f"--env-kwargs {name}: {value!r} has no form in JSON: {error}") from error


def preset_args(chosen: Args) -> Args:
    """The defaults of a new run."""
    preset = find_preset(chosen.env, chosen.env_kwargs)
    return Args(
        env=chosen.env,
        policy=chosen.policy,
        total_timesteps=preset.total_timesteps,
        n_envs=preset.n_envs,
        settings=preset.settings(chosen.policy),
    )


def resumed_args(folder: Path) -> Args:
    """The arguments that a run was started with."""
    stored = read_args(folder)
    plain = {name: value for name, value in stored.items() if name not in ("settings", "env_kwargs", "resume")}
    known = fields_from_json(Args, plain, "args") | {name: stored[name] for name in ("settings", "env_kwargs")}
    return Args(**known | {"runs_dir": folder.parent, "resume": folder})


def train(args: Args) -> Path:
    """Train, evaluate, save; returns the run folder."""
    check_fields(args)
    check_fields(args.settings)
    check_products({**vars(args), **vars(args.settings)})
    torch.set_num_threads(args.threads)
    check_environment(args.env, args.env_kwargs)
    workers = {"worker_timeout": args.worker_timeout, "worker_restarts": args.worker_restarts}
    env = make_vec_env(args.env, args.n_envs, args.seed, args.env_kwargs, **workers)
    limits = {"max_abs_reward": args.max_abs_reward}
    settings = asdict(args.settings)
    if args.resume is not None:
        settings = used_settings(args.policy, settings)
    agent = make_agent(env, args.policy, seed=args.seed, device=args.device, **limits, **settings)
    if args.load is not None and args.resume is None:  # a resumed run has its weights, wherever they began
        restore_weights(agent, find_checkpoint(args.load, needed_bytes(agent)))

    folder = args.resume or create_run_folder(args.runs_dir, args.env, args.policy, args.seed, args.run_name)
    config = to_json(replace(args, resume=None))
    with explaining_disk_trouble(folder), owned(folder, new=args.resume is None):
        resumed = None if args.resume is None else go_on(agent, folder)
        describe_run(folder, config | {"backends": explain(agent).splitlines()})
        agent.set_logger(configure(str(folder), ["tensorboard"]))
        if resumed is not None:
            restore_figures(agent, resumed)
        with leaving_at_once(f"Go on with: {resume_command(folder)}"):
            seconds = learn(agent, args, folder, config, resumed)
            write_whole(folder / "model.zip", agent.save)
            report(agent, config, folder, seconds)
    return folder


def learn(agent: EntityPPO, args: Args, folder: Path, config: dict[str, Any], resumed: Checkpoint | None) -> float:
    """Learn under the progress bar, saving checkpoints on the way; returns the seconds it took."""
    if resumed is not None and agent.num_timesteps >= args.total_timesteps:
        return resumed.state["seconds"]
    progress = ProgressCallback()
    with InterruptRequest() as request, closing(progress), keeping_what_is_refused(folder):
        probe_env = make_env(args.env, render_mode="rgb_array", **args.env_kwargs)
        attention = AttentionCallback(probe_env, folder, args.record_every, settings=asdict(args.settings))
        saving = SaveCallback(folder, config, args.save_every, args.keep, [attention], resumed, request)
        left = args.total_timesteps - agent.num_timesteps
        agent.learn(left, callback=[progress, attention, saving], reset_num_timesteps=resumed is None)
    return saving.seconds


def to_json(args: Args) -> dict[str, Any]:
    """The arguments as a checkpoint stores them."""
    return json.loads(json.dumps(asdict(args), default=str))


def main(argv: list[str]) -> None:
    """What the command line does; an error that its user can do something about is one line."""
    with one_line_errors():
        args = parse(argv)
    with one_line_errors(goes_on="training goes on, its figures are in the run folder"):
        train(args)


if __name__ == "__main__":
    main(sys.argv[1:])
