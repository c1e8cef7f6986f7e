"""What the spaces and the metadata say, before a step is played."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl.actions import masks_in
from attn_rl.adapters import family_of
from attn_rl.entities import ACTION_MASK, EntitySpec, env_metadata
from attn_rl.observation_size import check_observations
from attn_rl.sb3.policy import EntityAttentionPolicy
from attn_rl.training.agent import check_actions, policy_kwargs
from attn_rl.training.check.report import Finding
from attn_rl.training.presets import read_preset
from attn_rl.type_names import with_article
from attn_rl.vec_envs.guarded import choices_of
from attn_rl.vec_envs.wrapper_check import check_wrappers
from attn_rl.wrappers.advice import find_rows, require_fixed_shapes

PICTURE = 32
"""Rows and columns from which a table of integers is taken for a picture."""
PICTURE_ADVICE = "list the things in it, one row each, or use CnnPolicy of Stable-Baselines3 for the picture"


def check_declared(env: gym.Env) -> Iterator[Finding]:
    """Spaces that are missing, are none, or cannot be read."""
    for name in ("observation_space", "action_space"):
        advice = f"set self.{name} in the constructor, to one of gymnasium.spaces"
        try:
            space = getattr(env, name)
        except (Exception, SystemExit) as error:  # a property may raise anything
            yield Finding("error", "spaces", f"{name} cannot be read: {type(error).__name__}: {error}", advice)
        else:
            if not isinstance(space, spaces.Space):
                yield Finding("error", "spaces", f"{name} is {with_article(type(space))}, expected a Space", advice)


def _several_agents(env: gym.Env) -> list[tuple[str, str]]:
    """What and why, for an environment that plays several agents at once, or one like several."""
    seen, acts = env.observation_space, env.action_space
    if not (isinstance(seen, spaces.Tuple) and isinstance(acts, spaces.Tuple) and len(seen) == len(acts) > 0):
        return []
    if len(seen) == 1:
        what = "observation and action are Tuples of 1: it plays one agent, packed like several"
        unpack = "a gymnasium.Wrapper whose reset and step hand on observation[0], reward[0] and (action,)"
        return [(what, f"unpack it: {unpack}, with the spaces' only parts as its spaces")]
    what = f"observation and action are Tuples of {len(seen)}: it plays {len(seen)} agents at once"
    advice = (
        "wrap it so that one agent is played and the others are a part of the environment, or give every agent an "
        "environment of its own (PettingZoo's ParallelEnv and SuperSuit); an agent's observation then lists the things "
        "around it, one row (N,F) each"
    )
    return [(what, advice)]


def find_spec(
    env: gym.Env, presence: str | int | None, ignore: Sequence[str] = ()
) -> tuple[EntitySpec | None, list[Finding]]:
    """The entities in an environment's observation, and what is wrong with how they are declared."""
    if undeclared := list(check_declared(env)):
        return None, undeclared
    space = env.observation_space
    check_observations(space, 1)
    try:
        require_fixed_shapes(space)
        unseen = (*ignore, *masks_in(space, env_metadata(env).get("actions")))
        spec = EntitySpec.from_space(space, edges=env_metadata(env).get("edges"), ignore=unseen)
    except ValueError as error:
        reasons = _several_agents(env) or find_rows(space, ignore) or [(str(error), "correct the observation space")]
        if without := _family_wrapper(env):
            reasons = [("as it is, the observation holds no table of rows (N,F)", without)]
        return None, [Finding("error", "entities", *reason) for reason in reasons]
    try:
        spec = EntitySpec.from_env(env, presence, ignore)
    except ValueError as error:
        where = "the environment's metadata" + ("" if presence is None else ", or presence=")
        return (spec if presence is None else None), [Finding("error", "metadata", str(error), f"correct {where}")]
    return spec, []


def check_spaces(env: gym.Env, spec: EntitySpec) -> list[Finding]:
    """Names, pictures, actions, masks and wrappers."""
    findings = [*_unnamed(env, spec), *_pictures(env, spec), *_whole_numbers(env, spec), *_on_a_map(env, spec)]
    if without := _family_wrapper(env):
        findings.append(Finding("note", "adapter", "there is a wrapper for environments of this package", without))
    findings += _refused(
        "metadata", lambda: _check_preset(env, spec), "correct the preset in the environment's metadata"
    )
    findings += _refused("actions", lambda: check_actions(env.action_space), "choose another action space")
    presence = spec.types[0].presence_column
    venv = DummyVecEnv([lambda: env])
    findings += _refused("wrappers", lambda: check_wrappers(venv, presence), "remove that wrapper")
    return [*findings, *_mask_size(env, spec)]


def _check_preset(env: gym.Env, spec: EntitySpec) -> None:
    """Raise where the metadata's preset cannot be read, or no policy be built from it."""
    data = env_metadata(env).get("preset")
    if data is not None:
        settings = read_preset(data, "the environment").settings("attention")
        kwargs: dict[str, Any] = policy_kwargs(spec, "attention", settings, env_metadata(env).get("actions"))
        EntityAttentionPolicy(env.observation_space, env.action_space, lambda _: settings.learning_rate, **kwargs)


def _family_wrapper(env: gym.Env) -> str | None:
    """How to make an environment of a known family with the wrapper that it lacks; None: it lacks none."""
    family = family_of(env.spec) if env.spec is not None else None
    if family is None:
        return None
    wrapper = family.load()
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, wrapper):
            return None
        layer = layer.env
    return f"make it with attn_rl.adapters.make_env({env.spec.id!r}), which adds {wrapper.__name__}"  # type: ignore[union-attr]


def tolerate_adapters(env: gym.Env, finding: Finding) -> Finding:
    """What a user cannot change, because this package's wrapper of a family has it for all environments, is a note."""
    family = family_of(env.spec) if env.spec is not None else None
    if family is None or finding.name != "constant":
        return finding
    advice = f"nothing: {family.load().__name__} has features for all environments of its package"
    return Finding("note", finding.name, finding.what, advice)


def _refused(name: str, check: Callable[[], None], advice: str) -> list[Finding]:
    try:
        check()
    except ValueError as error:
        return [Finding("error", name, *_split(error, advice))]
    return []


def _split(error: ValueError, advice: str) -> tuple[str, str]:
    """What a message says is wrong, and what to do: after its semicolon, if it has one."""
    what, _, own_advice = str(error).rstrip(".").partition("; ")
    return what, own_advice or advice


def _unnamed(env: gym.Env, spec: EntitySpec) -> Iterator[Finding]:
    if not env_metadata(env).get("entities"):
        example = dict.fromkeys(list(spec.names)[:1], ("x", "y", "..."))
        yield Finding(
            "note",
            "names",
            "features have no names; maps and tables call them f0, f1 and so on",
            f"name them in the environment's metadata, {{'entities': {example}}}",
        )


HEADINGS = ("heading", "angle", "theta", "yaw", "orientation", "direction")
PLACES = ("x", "y", "pos_x", "pos_y", "position_x", "position_y")


def _pictures(env: gym.Env, spec: EntitySpec) -> Iterator[Finding]:
    space = env.observation_space
    for key in [""] if spec.plain else spec.capacities:
        block = space[key] if isinstance(space, spaces.Dict) else space
        rows, columns = block.shape  # type: ignore[misc]
        if np.issubdtype(block.dtype, np.integer) and min(rows, columns) >= PICTURE:
            what = f"{key or 'the observation'} is {rows} x {columns} integers, which looks like a picture"
            yield Finding("warning", "picture", f"{what}: its lines would be taken for entities", PICTURE_ADVICE)


def _whole_numbers(env: gym.Env, spec: EntitySpec) -> Iterator[Finding]:
    """Integers that nobody calls categories: they may be counts, and they may be names."""
    space, found = env.observation_space, []
    for key in spec.names:
        block = space[key] if isinstance(space, spaces.Dict) else space
        if np.issubdtype(block.dtype, np.integer) and key not in spec.categories:
            found.append(key)
    if found:
        what = f"{', '.join(found)}: whole numbers, taken as measurements, of which 4 is twice 2"
        example = {found[0]: {spec.names[found[0]][0]: None}}
        yield Finding("note", "categories", what, f"where they stand for names, say so: {{'categories': {example}}}")


def _on_a_map(env: gym.Env, spec: EntitySpec) -> Iterator[Finding]:
    """An ego that faces somewhere, among entities whose places are told as its own is: on a map."""
    facing, ego = next((name for name in spec.ego_features if name in HEADINGS), None), set(spec.ego_features)
    shared = {name: tuple(f for f in t.features if f in ego and f in PLACES) for t in spec.types for name in (t.name,)}
    owners = {name: places for name, places in shared.items() if len(places) == 2}
    if facing is None or not owners or spec.frames:
        return
    (name, places), *_ = owners.items()
    kind = {"compare": "position", "heading": {"ego": (facing,)}, "ego": places, name: places}
    what = f"{name} tell their places as the ego does, on a map, and the ego has a heading ({facing})"
    yield Finding("note", "heading", what, f"declare it, and places are seen from the ego: kinds={{'place': {kind}}}")


def _mask_size(env: gym.Env, spec: EntitySpec) -> Iterator[Finding]:
    if not spec.action_mask:
        return
    parts, space = choices_of(env.action_space), env.action_space
    n_flags = int(np.prod(env.observation_space[ACTION_MASK].shape))  # type: ignore[index]
    if not parts:
        what = f"there is an action_mask, and the actions are {space}, which cannot be masked"
        yield Finding("error", "mask", what, "leave the mask out, or use Discrete or MultiDiscrete actions")
    elif n_flags != parts[-1].stop:
        what = f"action_mask has {n_flags} flags, and the actions, {space}, {parts[-1].stop} choices"
        yield Finding("error", "mask", what, "give one flag per choice, the parts of a MultiDiscrete one after another")
