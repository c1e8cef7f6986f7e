"""What a run may be told: ``Args`` is the command line of ``train.py`` and ``attn-rl train``."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes

from attn_rl.adapters import plain_id
from attn_rl.adapters.current_folder import allow_current_folder
from attn_rl.training.policies import import_policy
from attn_rl.training.preset_file import preset_for
from attn_rl.training.presets import Settings, override
from attn_rl.training.ranges import check_value, did_you_mean
from attn_rl.training.run.json_form import fields_from_json
from attn_rl.training.run.resume import read_args, refuse_changes
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

OF_A_COMMAND = ("seeds", "jobs", "preset")
"""What a run folder does not keep: several runs come of it, or it has become settings."""
AS_PRESET = 0
"""Number of environments where the user gave none."""
FEW_PROCESSES = 8
"""Environments side by side where each is a process, unless told otherwise."""


@dataclass(frozen=True)
class Args:
    """Train an agent that attends over the entities in its observation."""

    env: str = "AttnRL/Seek-v0"
    """Gymnasium id; of an environment of yours with the module that registers it in front, my_module:My-v0."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment, as pairs: --env-kwargs max_entities 12 capacity 16."""
    policy: str = "attention"
    """attention, deepsets, flat, or one of yours: my_module:mine."""
    preset: Path | None = None
    """File of a preset (attn-rl tune writes one) in place of the environment's."""
    total_timesteps: int = 200_000
    """Steps over all environments; rounded up to whole rollouts."""
    seed: int = 0
    """Of the network, the actions and the environments."""
    seeds: str | None = None
    """In place of --seed, a run for each of 0-4, or of 0,2,7; ends with a table over them."""
    jobs: int = 1
    """Runs of --seeds at the same time, each a process."""
    n_envs: int = 128
    """Environments side by side."""
    processes: bool = False
    """Give each environment a process of its own, for slow ones; 8 of them unless --n-envs says otherwise."""
    run_name: str | None = None
    """Folder name; None: <env>__<policy>__<seed>__<time>."""
    runs_dir: Path = Path("runs")
    """Parent of all run folders."""
    device: str = "cpu"
    """Torch's name of the device; these networks are small, a CPU core is quick."""
    threads: int = 1
    """Cores to learn on: the kernels give the same bits on any number. Where modules run: PyTorch's threads."""
    load: str | None = None
    """Begin with the weights of this run folder or checkpoint, zoo:Seek or hf:user/name; it may have fewer slots."""
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


def parse(argv: list[str], prog: str | None = None, description: str | None = None) -> Args:
    """Read the command line in two passes: environments, policy or the run to resume choose all other defaults.

    Args:
        argv: the arguments.
        prog: name of the program, for ``--help``; None: the script's.
        description: what ``--help`` says first.

    Raises:
        ValueError: an environment, policy or run that is not there, or an argument that a run cannot have.
    """
    typed = [a for a in argv if a not in ("-h", "--help")]
    chosen, _ = tyro.cli(Args, args=typed, default=replace(Args(), n_envs=AS_PRESET), return_unknown_args=True)
    allow_current_folder(chosen.env, chosen.policy)
    chosen, stored, defaults = choose(chosen)
    args = tyro.cli(Args, args=argv, default=replace(defaults, env_kwargs={}), prog=prog, description=description)
    return complete(args, {name: literal(value) for name, value in args.env_kwargs.items()}, chosen, stored)


def from_keywords(chosen: Args, changes: Mapping[str, Any]) -> Args:
    """What :func:`parse` makes of a command line, of keywords.

    Args:
        chosen: ``env``, ``env_kwargs``, ``policy``, ``n_envs``, ``resume`` and ``processes``, which choose all others.
        changes: other fields of :class:`Args`, and settings.

    Raises:
        ValueError: as :func:`parse`, or a keyword that does not exist.
    """
    own = [field.name for field in fields(Args) if field.name not in ("settings", "seeds", "jobs")]
    known = [*own, *(field.name for field in fields(Settings))]
    for name in changes:
        if name not in known:
            raise ValueError(f"train() takes no argument {name!r}; {did_you_mean(name, known)}")
    typed = chosen.env_kwargs
    chosen, stored, defaults = choose(chosen)
    settings = override(defaults.settings, {name: value for name, value in changes.items() if name not in own})
    args = replace(defaults, settings=settings, **{name: value for name, value in changes.items() if name in own})
    return complete(args, typed, chosen, stored)


def choose(chosen: Args) -> tuple[Args, Args | None, Args]:
    """What was chosen, with plain names; the arguments of the run to resume if any; the defaults that follow."""
    chosen = replace(chosen, env=plain_id(chosen.env), policy=import_policy(chosen.policy))
    stored = None if chosen.resume is None else resumed_args(chosen.resume)
    return chosen, stored, preset_args(chosen) if stored is None else stored


def complete(args: Args, typed: Mapping[str, Any], chosen: Args, stored: Args | None) -> Args:
    """The arguments of a run, once environment and policy have plain names and a resumed run was asked for no other.

    Args:
        args: all that was asked for.
        typed: arguments of the environment that the user gave.
        chosen: as :func:`choose` returns it.
        stored: the arguments of the run to resume.
    """
    policy = args.policy.rpartition(":")[2]  # a module named by a file stays unimported
    typed = {name: as_json(name, value) for name, value in typed.items()}
    known = {} if stored is None else stored.env_kwargs
    args = replace(args, env=plain_id(args.env), policy=policy, env_kwargs=known | typed)
    if stored is None:
        return args
    refuse_changes(asdict(stored), asdict(args), CHANGEABLE)
    if chosen.env != args.env:
        refuse_foreign_module(args.env)
    refuse_stored_arguments(args.env, args.env_kwargs, args.n_envs, repeated=typed, processes=args.processes)
    return args


def preset_args(chosen: Args) -> Args:
    """The defaults of a new run."""
    preset = preset_for(chosen.preset, chosen.env, chosen.env_kwargs)
    n_envs = min(preset.n_envs, FEW_PROCESSES) if chosen.processes else preset.n_envs
    if chosen.n_envs != AS_PRESET:
        check_value("n_envs", chosen.n_envs)
        n_envs = chosen.n_envs
    return Args(
        env=chosen.env,
        policy=chosen.policy,
        preset=chosen.preset,
        total_timesteps=preset.total_timesteps,
        n_envs=n_envs,
        processes=chosen.processes,
        settings=preset.settings(chosen.policy, n_envs),
    )


def resumed_args(folder: Path) -> Args:
    """The arguments that a run was started with."""
    stored = read_args(folder)
    plain = {name: value for name, value in stored.items() if name not in ("settings", "env_kwargs", "resume")}
    known = fields_from_json(Args, plain, "args") | {name: stored[name] for name in ("settings", "env_kwargs")}
    return Args(**known | {"runs_dir": folder.parent, "resume": folder, "seeds": None, "jobs": 1})


def literal(text: str) -> Any:
    """Read a number, a bool or None where the text is one: "8" -> 8, "odd" -> "odd"."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # {[1]: 2}; nested too deep
        return text


def as_json(name: str, value: Any) -> Any:
    """An argument as JSON has it: the environment gets the same value at first and after a resume."""
    try:
        return json.loads(json.dumps(value, default=str))
    except TypeError as error:
        raise ValueError(f"--env-kwargs {name}: {value!r} has no form in JSON: {error}") from error


def to_json(args: Args) -> dict[str, Any]:
    """The arguments as a run folder and its checkpoints store them."""
    stored: dict[str, Any] = json.loads(json.dumps(asdict(args), default=str))
    return {name: value for name, value in stored.items() if name not in OF_A_COMMAND} | {"resume": None}
