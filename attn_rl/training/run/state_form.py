"""What the JSON of a checkpoint must look like before anything of it is used."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

from attn_rl.sb3.compat import COUNTERS
from attn_rl.sb3.reward_scale import FIELDS, TRACES
from attn_rl.training import presets
from attn_rl.training.presets import Settings, override
from attn_rl.training.ranges import check_products, check_value
from attn_rl.training.run.checkpoint import DamagedCheckpoint
from attn_rl.training.run.json_form import WrongForm, fields_from_json, from_json
from attn_rl.training.run.random_state import why_no_generators
from attn_rl.training.run.written_files import are_digests, are_sizes

STATE: dict[str, Any] = {
    "counters": dict[str, float],
    "schedules": dict[str, float],
    "episodes": list[dict[str, Any]],
    "successes": list[bool],
    "logger": dict[str, tuple[Any, list[str]]],
    "optimizer": dict[str, list[dict[str, Any]]],
    "environment": dict[str, Any] | None,
    "generators": dict[str, Any],
    "config": dict[str, Any],
    "rollouts": int,
    "seconds": float,
    "callbacks": dict[str, dict[str, Any]],
    "events": dict[str, int],
}
"""Entry of ``state.json`` -> its type; ``declared``, ``records``, ``digests`` and ``rewards`` may be absent."""

CONFIG = {
    "env": str,
    "env_kwargs": dict[str, Any],
    "n_envs": int,
    "policy": str,
    "seed": int,
    "settings": dict[str, Any],
}
"""What must be known to rebuild agent and environments, and its type."""


def refuse_wrong_state(state: dict[str, Any]) -> None:
    """Raise where the state of a checkpoint could not have been written by a run.

    Raises:
        DamagedCheckpoint: naming the entry, what it is and what is expected.
    """
    try:
        for name, hint in STATE.items():
            from_json(state.get(name), hint, name)
        from_json(state.get("declared"), str | None, "declared")
        from_json(state.get("rewards"), dict[str, Any] | None, "rewards")
        refuse_wrong_config(state["config"])
    except (WrongForm, ValueError) as error:
        raise DamagedCheckpoint(f"the checkpoint's state is impossible: {error}") from error
    for wrong in (
        _why_no_counts(state),
        _why_no_figures(state),
        _why_no_rewards(state),
        why_no_generators(state["generators"]),
    ):
        if wrong is not None:
            raise DamagedCheckpoint(f"the checkpoint's state is impossible: {wrong}")
    for entry in ("events", "records"):
        if not are_sizes(state.get(entry, {}), entry):
            raise DamagedCheckpoint(f"the checkpoint's {entry} are no file names with sizes")
    if not are_digests(state.get("digests", {})):
        raise DamagedCheckpoint("the checkpoint's digests are no SHA-256 of 64 digits")


def refuse_wrong_config(config: dict[str, object]) -> None:
    """Raise where the arguments of a run out of a file are of other types than a run's, or too large.

    Raises:
        ValueError: naming the argument.
    """
    for name, hint in CONFIG.items():
        from_json(config.get(name), hint, f"config[{name!r}]")
    for name, value in config.items():
        check_value(name, value)
    settings_of(config)


def settings_of(config: dict[str, object]) -> Settings:
    """Settings from JSON, where tuples have become lists.

    Raises:
        ValueError: a name that does not exist, or a value of another type or too large.
    """
    stored = from_json(config.get("settings"), dict[str, Any], "settings")
    complete = presets.from_json(stored)  # names, ranges, words of before
    translated = stored | {name: getattr(complete, name) for name in ("relations", "normalize_reward")}
    settings = override(Settings(), fields_from_json(Settings, translated, "settings"))
    check_products({**config, **vars(settings)})
    return settings


def _why_no_counts(state: dict[str, Any]) -> str | None:
    counters = state["counters"]
    if sorted(counters) != sorted(COUNTERS):
        return f"counters are {sorted(counters)}; expected {sorted(COUNTERS)}"
    for name, value in {**counters, "rollouts": state["rollouts"]}.items():
        whole = type(value) is int or name == "_current_progress_remaining"
        if not whole or not (0 <= value <= 1 << 53 or (name == "_current_progress_remaining" and -1 <= value <= 1)):
            return f"{name} is {value!r}; expected a number of 0 or more"
    if not 0 < state["seconds"] < math.inf:
        return f"seconds are {state['seconds']!r}; expected more than 0"
    return None


def _why_no_figures(state: dict[str, Any]) -> str | None:
    for info in state["episodes"]:
        if not all(_is_figure(info.get(name)) for name in ("r", "l")):
            return f"an episode is {info!r}; expected its return r and length l"
    for name, (value, _) in state["logger"].items():
        if not isinstance(value, (bool, str)) and not _is_figure(value):
            return f"the figure {name!r} is {value!r}; expected a number or text"
    if set(state["optimizer"]) != {"param_groups"}:
        return f"the optimiser holds {sorted(state['optimizer'])}; expected param_groups"
    return None


def _why_no_rewards(state: dict[str, Any]) -> str | None:
    rewards = state.get("rewards")
    if rewards is None:
        return None
    statistics, traces = rewards.get("statistics"), rewards.get("traces")
    whole = isinstance(statistics, dict) and sorted(statistics) == sorted(FIELDS) and _is_table(traces, len(TRACES))
    numbers = [*statistics.values(), *itertools.chain(*traces)] if whole else [math.nan]
    if not all(_is_figure(number) and math.isfinite(number) for number in numbers):
        return f"the scale of rewards is {str(rewards)[:80]}; expected finite {', '.join(FIELDS)} and traces"
    if statistics["count"] < 0 or statistics["squares"] < 0:
        return f"the scale of rewards has {statistics}; count and squares are never negative"
    return None


def _is_table(value: object, n_rows: int) -> bool:
    """Whether it is a list of so many lists, all of one length."""
    return (
        isinstance(value, list)
        and len(value) == n_rows
        and all(isinstance(row, list) and len(row) == len(value[0]) for row in value)
    )


def _is_figure(value: object) -> bool:
    """Whether NumPy can compute with it; whole numbers of JSON have no bound."""
    return type(value) is float or (type(value) is int and abs(value) <= sys.maxsize)
