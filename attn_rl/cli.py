"""attn-rl: train an agent, and what to do before and after. ``train.py`` is ``attn-rl train`` as a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from attn_rl.adapters.current_folder import allow_current_folder
from attn_rl.console import one_line_errors
from attn_rl.deployment.command import Export, run_export
from attn_rl.training.share.command import Card, card
from attn_rl.training.share.trained_agent import TrainedAgent, opened
from attn_rl.training.tune.command import Tune, run_tune


@dataclass(frozen=True)
class Train:
    """Train an agent, evaluate it, and show where it looks; attn-rl train --help has its options."""


@dataclass(frozen=True)
class Inspect:
    """Write everything recorded of a run's attention into one HTML file, to send to a colleague."""

    run: Positional[Path]
    """Run folder."""
    html: Path = Path("attention.html")
    """File to write."""


@dataclass(frozen=True)
class Evaluate(TrainedAgent):
    """Play a trained policy on held-out seeds, also among more entities than it was trained on."""

    episodes: int = 1000
    """How many episodes; rounded up to a multiple of the environments played side by side (100, slow ones 8)."""


@dataclass(frozen=True)
class Solve(TrainedAgent):
    """Solve instances on held-out seeds: the policy's own solution of each, and the best of several samples."""

    samples: int = 16
    """Episodes to sample for each instance; the best one counts."""
    starts: int = 0
    """Greedy solutions of each instance that begin with different actions, the likeliest ones; the best counts."""
    beam: int = 0
    """Sequences of actions that a beam search keeps of each instance; 0: none."""
    instances: int = 100
    """How many instances."""
    seed: int = 0
    """Of the sampled actions."""


@dataclass(frozen=True)
class Record(TrainedAgent):
    """Record where a trained policy looks, in fresh probe scenes, without training."""

    out: Path = Path("probe.npz")
    """File to write: a picture of scenes if its name ends in .png, else the record, as ProbeRecord.load reads it."""
    n_scenes: int = 32
    """Probe scenes."""


@dataclass(frozen=True)
class Presets:
    """Print presets in the format of RL Zoo's hyperparameter files: attn-rl presets > ppo.yml."""

    envs: Positional[tuple[str, ...]] = ()
    """Gymnasium ids; none: all that this project registers."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environments, as pairs: --env-kwargs rule odd."""


@dataclass(frozen=True)
class Check:
    """Does an environment fit? Plays it at random and says what to do; exit code 1 where something must be repaired."""

    env: Positional[str]
    """Gymnasium id, with its module in front: my_module:My-v0."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment, as pairs."""
    presence: str | None = None
    """For a plain Box (N,F) observation: the column (name or index) that says which rows exist."""
    ignore: tuple[str, ...] = ()
    """Keys of the observation that are neither entities nor ego, and that nobody shall look at."""
    steps: int = 1000
    """Steps to play; at most ten seconds."""
    strict: bool = False
    """Exit code 1 for warnings too."""


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Solve, tyro.conf.subcommand("solve")]
    | Annotated[Record, tyro.conf.subcommand("record")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Card, tyro.conf.subcommand("card")]
    | Annotated[Presets, tyro.conf.subcommand("presets")]
    | Annotated[Tune, tyro.conf.subcommand("tune")]
)


def main() -> None:
    """Entry point of ``attn-rl`` and ``python -m attn_rl``."""
    actions: dict[type, Callable[[Any], None]] = {
        Inspect: inspect,
        Evaluate: evaluate,
        Solve: solve,
        Record: record,
        Export: run_export,
        Check: check,
        Card: card,
        Presets: presets,
        Tune: run_tune,
    }
    if sys.argv[1:2] == ["train"]:  # the defaults of its options depend on the environment
        train(sys.argv[2:])
        return
    with one_line_errors():
        command: Any = tyro.cli(Command, prog="attn-rl", description=__doc__)
        allow_current_folder(
            getattr(command, "env", None), getattr(command, "policy", None), *getattr(command, "envs", ())
        )
        actions[type(command)](command)


TRAINING = """Train an agent that attends over entities, evaluate it, and show where it looks.

attn-rl train                                            # attention on Seek, about half a minute

attn-rl train --env my_module:My-v0                      # my_module.py may lie in this folder

attn-rl train --env AttnRL/Dodge-v0 --seeds 0-4 --jobs 2 # five runs, and a table over them

attn-rl train --resume runs/NAME                         # killed or interrupted: go on as if nothing had happened

tensorboard --logdir runs                                # and look at it
"""


def train(argv: list[str]) -> None:
    """Train; its errors are one line each."""
    with one_line_errors():  # Ctrl-C while torch is imported
        from attn_rl.training.train import main
    main(argv, "attn-rl train", TRAINING)


def inspect(command: Inspect) -> None:
    """Write the page."""
    from attn_rl.inspection.tensorboard.page.page import write_page
    from attn_rl.regular_files import refuse_irregular, refuse_missing_folder

    refuse_missing_folder(command.html)
    if command.run.is_dir():
        refuse_irregular(command.run)
    print(f"wrote {write_page(command.run, command.html, lambda reason: print(reason, file=sys.stderr))}")


def evaluate(command: Evaluate) -> None:
    """Print one row as JSON."""
    from attn_rl.training import evaluation
    from attn_rl.training.loading import load
    from attn_rl.training.ranges import check_value
    from attn_rl.vec_envs.adapter import make_vec_env

    check_value("episodes", command.episodes)
    with opened(command) as (folder, env_id, env_kwargs):
        model = load(folder, env=make_vec_env(env_id, 1, env_kwargs=env_kwargs))
    row = evaluation.evaluate(model, env_id, env_kwargs, episodes=command.episodes, stochastic=True)
    print(json.dumps(vars(row), indent=2))


def solve(command: Solve) -> None:
    """Print a row each for the greedy policy, for whatever else was asked for and for the scripted policy, as JSON."""
    import torch

    from attn_rl.training.loading import load
    from attn_rl.training.ranges import check_value
    from attn_rl.training.solve import solve
    from attn_rl.vec_envs.adapter import make_vec_env

    for name in ("samples", "starts", "beam", "instances", "seed"):
        check_value(name, getattr(command, name))
    with opened(command) as (folder, env_id, env_kwargs):
        env = make_vec_env(env_id, command.instances, env_kwargs=env_kwargs)
        model = load(folder, env=env)
    torch.manual_seed(command.seed)
    print(json.dumps(solve(model, env, command.samples, starts=command.starts, beam=command.beam).means(), indent=2))


def record(command: Record) -> None:
    """Record probe scenes and an episode."""
    from attn_rl.adapters import make_env
    from attn_rl.inspection.draw.gallery import scenes as scenes_view
    from attn_rl.inspection.measure.probe import make_probe
    from attn_rl.inspection.record.actor import Actor
    from attn_rl.inspection.record.frame import Picture
    from attn_rl.inspection.record.scenes import probe_scenes
    from attn_rl.regular_files import refuse_missing_folder, refuse_to_replace
    from attn_rl.training.loading import agent_memory, load
    from attn_rl.training.ranges import check_value
    from attn_rl.vec_envs.adapter import make_vec_env
    from attn_rl.vec_envs.memory import remembering

    check_value("n_scenes", command.n_scenes)
    refuse_missing_folder(command.out)
    refuse_to_replace(command.out)
    with opened(command) as (folder, env_id, env_kwargs):
        model = load(folder, env=make_vec_env(env_id, 1, env_kwargs=env_kwargs))
    actor = Actor(model, detached=True)
    env = remembering(make_env(env_id, render_mode="rgb_array", **env_kwargs), agent_memory(model))
    n_slots = sum(actor.spec.capacities.values())
    scenes = probe_scenes(env, n_slots, command.n_scenes, command.n_scenes)
    probe = make_probe(actor, scenes, env, model.num_timesteps)
    if command.out.suffix == ".png":
        command.out.write_bytes(Picture(scenes_view(probe)).png)
    else:
        probe.save(command.out)
    print("\n".join([*probe.verdicts, f"wrote {command.out}"]))


def check(command: Check) -> None:
    """Print the report."""
    from attn_rl.training.arguments import literal
    from attn_rl.training.check.check import check

    env_kwargs = {name: literal(value) for name, value in command.env_kwargs.items()}
    presence = None if command.presence is None else literal(command.presence)
    report = check(command.env, env_kwargs, presence=presence, ignore=command.ignore, steps=command.steps)
    print(report)
    if not report.fits(command.strict):
        sys.exit(1)


def presets(command: Presets) -> None:
    """Print YAML."""
    import gymnasium as gym

    from attn_rl.training.arguments import literal
    from attn_rl.training.environment_check import check_environment
    from attn_rl.training.rl_zoo.entries import zoo_yaml

    ids = command.envs or tuple(name for name in gym.registry if name.startswith("AttnRL/"))
    env_kwargs = {name: literal(value) for name, value in command.env_kwargs.items()}
    for env_id in ids:
        check_environment(env_id, env_kwargs)
    print(zoo_yaml(ids, env_kwargs), end="")
