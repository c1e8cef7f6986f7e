"""check: does an environment fit, and if not, what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import gymnasium as gym
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from attn_rl.entities import EntitySpec
from attn_rl.training.check.checkers import run_checkers
from attn_rl.training.check.episodes import check_determinism, check_lengths, check_resets, check_rewards, check_seeds
from attn_rl.training.check.masks import check_masks
from attn_rl.training.check.report import CheckReport, Finding
from attn_rl.training.check.sample import Sample, play
from attn_rl.training.check.schema import describe_sample, describe_spaces
from attn_rl.training.check.slots import check_slots, slot_orders
from attn_rl.training.check.spaces import check_spaces, find_spec, tolerate_adapters
from attn_rl.training.check.speed import describe_speed
from attn_rl.training.check.values import check_values, impossible
from attn_rl.training.environment_check import make_checked
from attn_rl.training.ranges import check_value
from attn_rl.type_names import with_article

Environment = str | Callable[..., gym.Env] | gym.Env
T = TypeVar("T")
LEVELS = ("error", "warning", "note")


def check(
    env: Environment,
    env_kwargs: Mapping[str, object] | None = None,
    *,
    presence: str | int | None = None,
    ignore: Sequence[str] = (),
    steps: int = 1000,
    seconds: float = 10.0,
    seed: int = 0,
) -> CheckReport:
    """Find out whether an environment fits: play it at random, look at everything, say what to do.

    Args:
        env: a Gymnasium id, a class or function that returns a new environment, or an environment (which stays open).
        env_kwargs: arguments of the environment.
        presence: for a plain Box observation, the column that says which rows exist.
        ignore: keys of the observation that nobody shall look at.
        steps: to play.
        seconds: to play at most; a slow environment gets fewer steps.
        seed: of the first episode; episode i is reset with seed + i.

    Returns:
        The report: ``print`` it; ``report.fits()`` says whether nothing must be repaired.

    Raises:
        ValueError: no such environment, or wrong arguments of it.
        TypeError: a vector environment, or something that makes no environment.
    """
    check_value("steps", steps)
    check_value("seed", seed)
    kwargs = dict(env_kwargs or {})
    try:
        made = _make(env, kwargs)
    except _NotMade as error:
        name = env if isinstance(env, str) else getattr(env, "__name__", str(env))
        advice = "repair its constructor, or pass the arguments that it needs (--env-kwargs)"
        return CheckReport(name, {}, (Finding("error", "constructor", str(error), advice),))
    try:
        spec, findings = find_spec(made, presence, ignore)
        if spec is not None:
            sample = play(made, seed, steps, seconds)
            repeat = partial(_check_repeated, env, made, kwargs, sample, seed, seconds)
            speed = partial(describe_speed, sample, made.spec, env if isinstance(env, str) else None, kwargs)
            return _check_entities(made, spec, sample, findings, repeat, speed)
        undeclared = any(finding.name == "spaces" for finding in findings)
        schema = {} if undeclared else {"sees": str(made.observation_space), "acts": str(made.action_space)}
        return _report(made, schema, findings)
    finally:
        if made is not env:
            made.close()


def _check_entities(
    made: gym.Env,
    spec: EntitySpec,
    sample: Sample,
    findings: list[Finding],
    repeat: Callable[[], list[Finding]],
    speed: Callable[[], str],
) -> CheckReport:
    """All that can be asked of an environment whose observation holds entities."""
    schema = describe_spaces(made, spec)
    findings = [*findings, *check_spaces(made, spec), *sample.findings, *_check_sample(made, sample, spec, schema)]
    if not sample.findings:
        findings += repeat()
        schema["speed"] = speed()
    if not any(finding.level == "error" for finding in findings):
        findings += run_checkers(made, spec)
    else:
        schema["checkers"] = "Gymnasium's and Stable-Baselines3's run when the errors are repaired"
    return _report(made, schema, [tolerate_adapters(made, finding) for finding in findings])


class _NotMade(Exception):
    """The environment's own constructor raised."""


def _constructed(make: Callable[[], T]) -> T:
    try:
        return make()
    except (ValueError, DependencyNotInstalled):  # an unknown id, a wrong argument, a missing package: said already
        raise
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        reason = str(error).partition(" was raised from the environment creator")[0]
        raise _NotMade(f"making it raised {type(error).__name__}: {reason}".rstrip(": ")) from error


def _make(env: Environment, kwargs: dict[str, object]) -> gym.Env:
    if isinstance(env, str):
        return _constructed(lambda: make_checked(env, kwargs, disable_env_checker=True))
    if isinstance(env, VecEnv | VectorEnv):
        raise TypeError(f"env is a vector environment ({type(env).__name__}); pass one of the environments in it")
    if isinstance(env, gym.Env):
        if kwargs:
            raise TypeError(
                f"env is an environment already ({type(env).__name__}); leave env_kwargs out, or pass its class"
            )
        return env
    made = _constructed(lambda: env(**kwargs)) if callable(env) else env
    if not isinstance(made, gym.Env):
        what = f"env returned {with_article(type(made))}" if callable(env) else f"env is {with_article(type(env))}"
        raise TypeError(f"{what}; expected a gymnasium.Env, its class, a function that returns one, or an id")
    return made


def _check_sample(made: gym.Env, sample: Sample, spec: EntitySpec, schema: dict[str, str]) -> list[Finding]:
    """Look at what was seen; complete the schema with it."""
    if not sample.blocks:
        return []
    if sample.stopped:  # a few steps tell no averages
        return [*impossible(sample, spec, made.observation_space)]
    orders = slot_orders(sample, spec)
    for name, text in describe_sample(sample, spec, orders).items():
        schema[name] = schema.get(name, "") + text
    return [
        *check_values(sample, spec, made.observation_space),
        *check_slots(orders),
        *check_masks(made, sample, spec),
        *check_rewards(sample),
        *check_lengths(sample),
        *check_seeds(sample),
    ]


def _check_repeated(
    env: Environment, made: gym.Env, kwargs: dict[str, object], sample: Sample, seed: int, seconds: float
) -> list[Finding]:
    other = _make(env, kwargs)  # a new one forgets; the one that was played may not
    try:
        found = list(check_determinism(other, sample, seed, seconds))
        return found if found or other is made else list(check_resets(made, sample, seed, seconds))
    finally:
        if other is not made:
            other.close()


def _report(made: gym.Env, schema: dict[str, str], findings: list[Finding]) -> CheckReport:
    ordered = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    name = made.spec.id if made.spec is not None else type(made.unwrapped).__name__
    return CheckReport(name, schema, tuple(ordered))
