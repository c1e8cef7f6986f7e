"""Switches in the environment."""

from __future__ import annotations

import os

OFF, ON = ("0", "false", "off", "no"), ("", "1", "true", "on", "yes")


def is_on(variable: str) -> bool:
    """Whether an environment variable leaves something on; it does where it is not set.

    Raises:
        ValueError: it is neither on nor off.
    """
    value = os.environ.get(variable, "").strip().lower()
    if value in OFF:
        return False
    if value in ON:
        return True
    raise ValueError(f"{variable}={os.environ[variable]!r} is unknown; {', '.join(OFF)} switch off, 1 leaves on")
