"""Gymnasium's and Stable-Baselines3's own environment checkers, in our words' form."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from attn_rl.entities import EntitySpec
from attn_rl.training.check.report import Finding
from attn_rl.training.check.sample import allowed_action, find_mask

MEANT = (
    "is different from the unwrapped version",  # the wrappers are what is checked
    "has an unconventional shape",  # a table of rows is what attention takes
    "Not able to test alternative render modes",
    "`check_env(warn=...)`",
    "Casting input x to numpy array",
)
"""Parts of warnings that say nothing against an environment of entities."""
ADVICE = {
    "infinity": "give the Box the bounds that its features have, so that what lies beyond them is noticed",
    "symmetric and normalized Box action space": "wrap it in gymnasium.wrappers.RescaleAction(env, -1, 1)",
}
"""Part of a warning -> what to do about it."""
COLOUR = re.compile(r"\x1b\[\d+m")


class Sheltered(gym.Wrapper):
    """For the checkers, who do not know that absent rows may hold anything and that nobody takes forbidden actions."""

    def __init__(self, env: gym.Env, spec: EntitySpec) -> None:
        super().__init__(env)
        self._spec, self._obs = spec, None

    def reset(self, **kwargs: Any) -> Any:
        """Reset; absent rows become zeros."""
        returned = self.env.reset(**kwargs)
        self._obs, *rest = returned
        return self._clear_absent(self._obs), *rest

    def step(self, action: Any) -> Any:
        """Take the action, or the first one that is allowed; absent rows become zeros."""
        returned = self.env.step(allowed_action(self.action_space, find_mask(self.env, self._obs), action))
        self._obs, *rest = returned
        return self._clear_absent(self._obs), *rest

    def _clear_absent(self, obs: Any) -> object:
        cleared = dict(obs) if isinstance(obs, Mapping) else obs
        for entity_type in self._spec.types:
            if entity_type.presence_key is not None:
                block, absent = obs[entity_type.name], obs[entity_type.presence_key] <= 0.5
                if block[absent].any():  # True of NaN
                    cleared[entity_type.name] = np.where(absent[:, None], block.dtype.type(0), block)
        return cleared


def run_checkers(env: gym.Env, spec: EntitySpec) -> list[Finding]:
    """What both have to say; Stable-Baselines3's is asked where Gymnasium's has no complaint."""
    env = Sheltered(env, spec)
    found = list(_run("gymnasium", lambda: gymnasium_check(env, skip_render_check=True, skip_close_check=True)))
    if not any(finding.level == "error" for finding in found):
        found += _run("sb3", lambda: sb3_check(env))
    return list({finding.what: finding for finding in found}.values())


def _run(name: str, checker: Callable[[], object]) -> Iterator[Finding]:
    failed: BaseException | None = None
    with warnings.catch_warnings(record=True) as caught, redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            checker()
        except (Exception, SystemExit) as error:  # a checker, or the environment under it, raises anything
            failed = error
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        if not any(part in message for part in MEANT):
            advice = next((advice for part, advice in ADVICE.items() if part in message), f"see the checker of {name}")
            yield Finding("warning", name, _clean(message), advice)
    if failed is not None:
        what = _clean(str(failed)) or type(failed).__name__
        yield Finding("error", name, what, "repair it: algorithms and tools of others rely on this interface")


def _clean(message: str) -> str:
    text = " ".join(COLOUR.sub("", message).split())
    return text.removeprefix("WARN: ").rstrip(".")
