"""Presets as files: what ``attn-rl tune`` finds and ``train.py --preset FILE`` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attn_rl.regular_files import read_regular
from attn_rl.training.presets import Preset, find_preset, read_preset
from attn_rl.training.run.folder import write_json

MAX_BYTES = 1 << 20


def preset_for(preset: str | Path | Mapping[str, Any] | None, env_id: str, env_kwargs: Mapping[str, Any]) -> Preset:
    """The preset that was asked for.

    Args:
        preset: a file, plain data as :func:`attn_rl.training.presets.register_preset` takes it, or None: the
            environment's own.
        env_id, env_kwargs: the environment's.

    Raises:
        ValueError: no such file, no preset in it, or no such environment.
    """
    if preset is None:
        return find_preset(env_id, env_kwargs)
    data = preset if isinstance(preset, Mapping) else read_preset_file(Path(preset))
    return read_preset(data, env_id, env_kwargs)


def read_preset_file(path: Path) -> dict[str, Any]:
    """Plain data of a preset.

    Raises:
        ValueError: no such file, or no JSON object in it.
    """
    if not path.is_file():
        raise ValueError(f"--preset {path}: there is no such file; attn-rl tune ENV writes one")
    try:
        data = json.loads(read_regular(path, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--preset {path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"--preset {path} holds {data!r}, expected an object such as {{'settings': {{...}}}}")
    tuples = {
        name: _with_tuples(value) if name == "settings" else {k: _with_tuples(v) for k, v in value.items()}
        for name, value in data.items()
        if name in ("settings", "policies") and isinstance(value, dict)
    }
    return data | tuples


def write_preset_file(path: Path, preset: Mapping[str, Any]) -> None:
    """Write plain data of a preset, whole or not at all."""
    write_json(path, preset)


def _with_tuples(settings: Any) -> Any:
    """Settings out of JSON, which has lists for tuples."""
    if not isinstance(settings, dict):
        return settings
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
