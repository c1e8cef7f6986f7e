"""Whether the masks let the agent act."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium as gym
import numpy as np

from attn_rl.entities import ACTION_MASK, EntitySpec
from attn_rl.training.check.report import Finding
from attn_rl.training.check.sample import Sample, rows_of
from attn_rl.vec_envs.guarded import choices_of

ONE_VALID = "let the mask allow what can be done, at least one choice, or end the episode before"
NEVER_VALID = "1 is what may be chosen, 0 what may not: fill the mask, or turn it round"


def check_masks(env: gym.Env, sample: Sample, spec: EntitySpec) -> Iterator[Finding]:
    """Masks of observations that an action follows; the last one of an episode may forbid everything."""
    parts = choices_of(env.action_space)
    if not spec.action_mask or not parts or sample.blocks[ACTION_MASK].shape[1:] != (parts[-1].stop,):
        return
    masks = sample.blocks[ACTION_MASK][~sample.last] > 0.5
    empty = np.any([~masks[:, part].any(1) for part in parts], axis=0)
    if len(masks) and not masks.any():
        what = f"action_mask never allowed anything in {len(masks)} observations; choice 0 is all that is ever taken"
        yield Finding("error", "mask", what, NEVER_VALID)
        return
    if empty.any():
        what = f"action_mask allows nothing in {empty.mean():.1%} of the observations; choice 0 is taken with certainty"
        yield Finding("warning", "mask", what, ONE_VALID)
    if masks.all():
        what = f"action_mask allowed every action in all {len(masks)} observations"
        yield Finding("note", "mask", what, "leave it out if no action is ever invalid")
    yield from _forbidden_entities(masks, sample, spec, parts)
    yield from _two_masks(env, sample)


def _forbidden_entities(masks: np.ndarray, sample: Sample, spec: EntitySpec, parts: list[slice]) -> Iterator[Finding]:
    """Where choice i seems to be slot i: observations that allow only slots in which nothing is.

    Where several types have as many slots as there are choices, the mask may mean any of them: it must fit one.
    """
    rows = rows_of(spec, sample.blocks)
    for part in parts:
        fitting = [t.name for t in spec.types if t.capacity == part.stop - part.start]
        shares = {name: _share_forbidden(masks[:, part], rows[name][1][~sample.last]) for name in fitting}
        if shares and min(shares.values()) > 0:
            name = min(shares, key=lambda name: shares[name])
            what = f"in {shares[name]:.1%} of the observations action_mask allows only slots of {name} that are empty"
            advice = f"if action i means slot i, allow those where {name} are; otherwise ignore this"
            yield Finding("warning", "mask", what, advice)


def _share_forbidden(mask: np.ndarray, present: np.ndarray) -> float:
    """Share of the observations that allow something, and nothing of what is there; both (S,N)."""
    return float((mask.any(1) & present.any(1) & ~(mask & present).any(1)).mean())


def _two_masks(env: gym.Env, sample: Sample) -> Iterator[Finding]:
    if env.has_wrapper_attr("action_masks"):
        asked = np.asarray(env.get_wrapper_attr("action_masks")()).ravel() > 0.5
        seen = sample.blocks[ACTION_MASK][-1].ravel() > 0.5
        if not np.array_equal(asked, seen):
            what = f"action_masks() says {asked.astype(int)}, the observation's action_mask {seen.astype(int)}"
            yield Finding("error", "mask", what, "return the same from both: MaskablePPO asks the one, PPO the other")
