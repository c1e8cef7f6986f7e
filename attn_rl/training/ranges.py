"""Which values settings and arguments may have, all in one place; checked where they are made."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, NamedTuple, get_args

from attn_rl.sb3.extractor import EdgeMode, RelationsMode
from attn_rl.wrappers.memory.age import MOST_AGE

MAX_WIDTH, MAX_HIDDEN_LAYERS = 8192, 16
"""Of ``d_model`` and ``net_arch``; like all upper bounds far beyond what helps, and below what fills the memory before
anything else complains."""


MAX_WEIGHTS = 1 << 28
"""Weights of the blocks of a network, 8 x d_model^2 x n_layers: a gigabyte."""
MAX_ROLLOUT = 1 << 26
"""Steps of a rollout over all environments."""


class Range(NamedTuple):
    """Numbers from ``least`` to ``most``, both allowed unless ``above``: then ``least`` itself is not."""

    least: float
    most: float = math.inf
    whole: bool = False
    above: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        try:
            number = float(value)
        except OverflowError:  # a whole number beyond all floats
            return False
        return (number > self.least or (number == self.least and not self.above)) and number <= self.most

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        start = f"{kind} above {self.least:g}" if self.above else f"{kind} of {self.least:g} or more"
        if self.most == math.inf:
            return start
        return (
            f"{start}, at most {self.most:,.0f}" if self.above else f"{kind} from {self.least:,.0f} to {self.most:,.0f}"
        )


RANGES = {
    # the network
    "d_model": Range(1, MAX_WIDTH, whole=True),
    "n_heads": Range(1, 1024, whole=True),
    "n_layers": Range(0, 64, whole=True),  # DeepSets may have none
    # memory
    "memory_steps": Range(0, MOST_AGE, whole=True),
    "memory_sightings": Range(0, MOST_AGE, whole=True),
    # PPO
    "learning_rate": Range(0, 1),
    "gamma": Range(0, 1),
    "gae_lambda": Range(0, 1),
    "n_steps": Range(1, 1 << 20, whole=True),
    "batch_size": Range(1, 1 << 24, whole=True),
    "n_epochs": Range(1, 1000, whole=True),
    "ent_coef": Range(0, 1000),
    "clip_range": Range(0, 100, above=True),
    "vf_coef": Range(0, 1000),
    "max_grad_norm": Range(0, above=True),
    "shared_baseline": Range(1, 1 << 16, whole=True),
    # a run
    "total_timesteps": Range(1, 10**12, whole=True),
    "seed": Range(0, 2**32 - 1, whole=True),
    "n_envs": Range(1, 1 << 16, whole=True),
    "jobs": Range(1, 256, whole=True),
    "threads": Range(1, 1024, whole=True),
    "save_every": Range(1, whole=True),
    "keep": Range(1, whole=True),
    "record_every": Range(1, whole=True),
    "eval_episodes": Range(0, 10_000_000, whole=True),
    "max_abs_reward": Range(0, above=True),
    "worker_timeout": Range(0, above=True),
    "worker_restarts": Range(0, whole=True),
    # attn-rl
    "episodes": Range(1, 10_000_000, whole=True),
    "trials": Range(1, 100_000, whole=True),
    "n_scenes": Range(1, 10_000, whole=True),
    "samples": Range(0, 1_000_000, whole=True),
    "starts": Range(0, 1_000_000, whole=True),
    "beam": Range(0, 1_000_000, whole=True),
    "instances": Range(1, 100_000, whole=True),
    "steps": Range(1, 1_000_000, whole=True),
}
CHOICES: dict[str, tuple[object, ...]] = {
    "relations": get_args(RelationsMode),
    "edge_attention": get_args(EdgeMode),
    "similarity": ("dot", "cosine"),
    **dict.fromkeys(
        (
            *("edge_values", "log_count", "ego_conditioning", "normalize", "normalize_advantage", "normalize_reward"),
            *("memory_actions", "memory_rewards"),
        ),
        (True, False),
    ),
}
OLD_RELATIONS = {"on": "auto", "learned": "features"}
"""What ``relations`` were called in runs of before."""


def check_fields(settings: Any) -> None:
    """Check every field of a dataclass that has a range or choices here.

    Raises:
        ValueError: naming the first that is wrong, what it is and what was expected.
    """
    for name in (field.name for field in fields(settings)):
        check_value(name, getattr(settings, name))


def check_value(name: str, value: object) -> None:
    """Check one value by the name of its field; names that are not known here pass.

    Raises:
        ValueError: with what was expected.
    """
    if name in RANGES and value not in RANGES[name]:
        raise ValueError(f"{name}={value!r}, expected {RANGES[name]}{_hint(name, value)}")
    if name in CHOICES and not any(value is choice or value == choice for choice in CHOICES[name]):
        if name == "relations" and value in OLD_RELATIONS:
            raise ValueError(f"relations={value!r} is called {OLD_RELATIONS[value]!r} now")
        raise ValueError(f"{name}={value!r} is unknown; {did_you_mean(value, CHOICES[name])}")
    if name == "net_arch":
        _check_net_arch(value)


def check_schedule(name: str, schedule: Callable[[float], float]) -> None:
    """Check a schedule in place of the number ``name`` at the start, half-way and at the end, where it may be 0.

    Raises:
        ValueError: with what was expected.
    """
    for left in (1.0, 0.5, 0.0):
        expected = f"expected a function of what is left of the training, from 1 to 0, that returns {RANGES[name]}"
        try:
            value = float(schedule(left))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}={schedule!r} cannot be asked for {left} ({error}); {expected}") from error
        if value != 0 and value not in RANGES[name]:
            raise ValueError(f"{name}={schedule!r} returns {value} for {left}; {expected}")


def check_products(values: Mapping[str, object]) -> None:
    """Check what would fill the memory together, though each value is in its range.

    Args:
        values: settings and arguments of a run by name; others are ignored.

    Raises:
        ValueError: naming the values, what they make and what is expected.
    """
    _check_product(values, {"d_model": 2, "n_layers": 1}, MAX_WEIGHTS // 8)
    _check_product(values, {"n_envs": 1, "n_steps": 1}, MAX_ROLLOUT)


def _check_product(values: Mapping[str, Any], powers: Mapping[str, int], most: int) -> None:
    total = math.prod(values.get(name, 1) ** power for name, power in powers.items())
    if total > most:
        got = ", ".join(f"{name}={values[name]:,}" for name in powers if name in values)
        rule = " x ".join(name if power == 1 else f"{name}^{power}" for name, power in powers.items())
        raise ValueError(f"{got} are too large together; expected {rule} of at most {most:,}, got {total:,}")


def did_you_mean(name: object, known: Sequence[object]) -> str:
    """The end of a message about an unknown name: the nearest one that there is, or all."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(map(repr, known))}"


def _hint(name: str, value: object) -> str:
    if callable(value):
        return "; only learning_rate and clip_range may be schedules"
    if value is None and name == "max_grad_norm":
        return "; float('inf') switches clipping off"
    return "; 'auto' is SAC's" if name == "ent_coef" and value == "auto" else ""


def _check_net_arch(value: object) -> None:
    towers = list(value.values()) if isinstance(value, Mapping) and set(value) <= {"pi", "vf"} else [value]
    widths = Range(1, MAX_WIDTH, whole=True)
    for layers in towers:
        if (
            not isinstance(layers, list | tuple)
            or len(layers) > MAX_HIDDEN_LAYERS
            or any(n not in widths for n in layers)
        ):
            raise ValueError(
                f"net_arch={value!r}, expected at most {MAX_HIDDEN_LAYERS} widths of hidden layers, each {widths}, "
                "such as [64] or dict(pi=[64], vf=[128, 64])"
            )
