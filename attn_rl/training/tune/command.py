"""``attn-rl tune``: search settings, write the best ones as a preset file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

PRESET = "preset.json"


@dataclass(frozen=True)
class Tune:
    """Search settings in many short trainings; the result is a preset file for attn-rl train --preset FILE.

    Called again with the same folder, it goes on: trials that ended count, those that a kill cut off begin anew.
    """

    env: Positional[str]
    """Gymnasium id, with its module in front if need be: my_module:My-v0."""
    trials: int = 20
    """Trainings in all."""
    policy: str = "attention"
    """attention, deepsets, flat, or one of yours: my_module:mine."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment, as pairs."""
    search: tuple[str, ...] = ("learning_rate", "ent_coef")
    """Settings to search: also gamma, gae_lambda, n_steps, n_epochs, clip_range, normalize_advantage, d_model, n_heads,
    n_layers."""
    total_timesteps: int | None = None
    """Steps of a trial; none: the preset's. Worse trials are stopped after a ninth or a third of them."""
    preset: Path | None = None
    """Preset file to start from; none: the environment's preset."""
    jobs: int = 1
    """Trials at the same time, each a process of one core."""
    seed: int = 0
    """Of the first trial; the others follow."""
    eval_episodes: int = 500
    """Held-out episodes that a trial is judged by."""
    on: Literal["auto", "ray", "optuna"] = "auto"
    """Ray Tune (a machine or a cluster) or Optuna (a journal file); auto: Ray where it is installed."""
    folder: Path | None = None
    """Where the sweep lives; none: tuned/<env>__<policy>."""


def run_tune(command: Tune) -> None:
    """Run the sweep, print what was found, write the preset."""
    from attn_rl.training.arguments import literal
    from attn_rl.training.environment_check import check_environment
    from attn_rl.training.policies import import_policy
    from attn_rl.training.preset_file import write_preset_file
    from attn_rl.training.ranges import check_value
    from attn_rl.training.tune.space import search_space
    from attn_rl.training.tune.trial import Sweep

    for name in ("jobs", "seed", "eval_episodes", "trials"):
        check_value(name, getattr(command, name))
    env_kwargs = {name: literal(value) for name, value in command.env_kwargs.items()}
    check_environment(command.env, env_kwargs)
    policy = import_policy(command.policy)
    space = search_space(command.search, policy)
    short = command.env.split(":")[-1].split("/")[-1]
    folder = command.folder or Path("tuned") / f"{short}__{policy}"
    folder.mkdir(parents=True, exist_ok=True)
    sweep = Sweep(
        command.env, env_kwargs, policy, command.preset, command.total_timesteps, command.seed, command.eval_episodes
    )
    run = _engine(command.on)
    found = sorted(run(sweep, space, command.trials, command.jobs, folder), key=lambda each: -each[1])
    if not found:
        raise ValueError(f"no trial was trained to its end; look into {folder}, or allow more --trials")
    for changes, score in found[:5]:
        print(f"{score:.3f}  " + "  ".join(f"{name}={_short(value)}" for name, value in changes.items()))
    write_preset_file(folder / PRESET, tuned_preset(sweep, found[0][0]))
    kwargs = "".join(f" {name} {value}" for name, value in env_kwargs.items())
    print(f"wrote {folder / PRESET}; train with it: attn-rl train --env {command.env}"
          + (f" --env-kwargs{kwargs}" if kwargs else "")
          + (f" --policy {command.policy}" if policy != "attention" else "")
          + f" --preset {folder / PRESET}")  # fmt: skip


def tuned_preset(sweep: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data: the preset that the sweep started from, with what was found for its policy on top."""
    base = sweep.base()
    policies = {name: dict(settings) for name, settings in base.policies.items()}
    policies[sweep.policy] = {**policies.get(sweep.policy, {}), **changes}
    return {
        "total_timesteps": sweep.total_timesteps or base.total_timesteps,
        "n_envs": base.n_envs,
        "settings": dict(base.all_policies),
        "policies": policies,
        "transfer": [dict(change) for change in base.transfer],
    }


def _engine(asked: str) -> Callable[..., list[tuple[dict[str, Any], float]]]:
    """What runs the trials.

    Raises:
        ValueError: it is not installed.
    """
    there = {name: importlib.util.find_spec(name) is not None for name in ("ray", "optuna")}
    chosen = asked if asked != "auto" else ("ray" if there["ray"] else "optuna")
    if not there[chosen]:
        extra = "ray" if chosen == "ray" else "tune"
        raise ValueError(f"a sweep on {chosen} needs {chosen}; install it with: pip install 'attn_rl[{extra}]'")
    if chosen == "ray":
        from attn_rl.training.tune.on_ray import sweep_on_ray

        return sweep_on_ray
    from attn_rl.training.tune.on_optuna import sweep_on_optuna

    return sweep_on_optuna


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
