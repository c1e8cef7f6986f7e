"""The state of an agent's environments as arrays and JSON, and back: only what these environments would have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from attn_rl.sb3.compat import forget_seeds, go_on_from, last_episode_starts, last_observation
from attn_rl.training.run.checkpoint import Arrays, Checkpoint
from attn_rl.training.run.optimizer_state import DoesNotFit
from attn_rl.training.run.random_state import why_no_bit_generator
from attn_rl.training.run.stored_environment import why_no_data
from attn_rl.type_names import with_article
from attn_rl.vec_envs.adapter import VectorEnvAdapter
from attn_rl.vec_envs.guarded import GuardedVecEnv
from attn_rl.vec_envs.memory import VecMemory, find_memory
from attn_rl.vec_envs.observation_form import GuardError
from attn_rl.vec_envs.replayable import ReplayableEnv, Resumable

EPISODES_LOST = "every running episode was restarted: the environments cannot tell their state"
IMPOSSIBLE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What an environment raises that is given a state which it could not have had."""

LAST = "last_obs."
STARTS = "episode_starts"
MEMORY = "memory."


def environment_arrays(agent: OnPolicyAlgorithm) -> tuple[Arrays, Any]:
    """Everything about the environments that decides an agent's future: arrays, and JSON with their names in place."""
    env = agent.get_env()
    state, memory = environment_state(env), find_memory(env)
    arrays, rest = split_arrays(state)
    if memory is not None and state is not None:
        arrays |= {f"{MEMORY}{name}": x for name, x in memory.get_state().items()}
    arrays |= {f"{LAST}{key}": block.copy() for key, block in _blocks(last_observation(agent)).items()}
    arrays[STARTS] = np.array(last_episode_starts(agent))
    return arrays, rest


def environment_state(env: VecEnv | None) -> dict[str, Any] | None:
    """State of the environments: arrays and JSON-able values, nested; None where they cannot tell.

    A native batch tells it in one piece, separate copies one by one (:class:`ReplayableEnv`).
    """
    adapter = None if env is None else env.unwrapped
    if _is_native(adapter):
        return {"batch": adapter.get_state()}
    if env is not None and all(env.env_is_wrapped(ReplayableEnv)):
        return {str(i): state for i, state in enumerate(env.env_method("get_state"))}
    return None


def restore_environments(agent: OnPolicyAlgorithm, checkpoint: Checkpoint) -> list[str]:
    """Put the environments where :func:`environment_arrays` found them.

    Returns:
        What could not be restored exactly, one sentence each.

    Raises:
        DoesNotFit: a state of other environments than these, or an impossible one.
    """
    env = agent.get_env()
    if env is None:
        raise ValueError("the agent has no environment; build it with one")
    blocks = _last_observation(env, checkpoint.environment)
    saved = _joined(checkpoint)
    forget_seeds(env.unwrapped)  # the agent's seed must not fall on a later reset
    if isinstance(env, GuardedVecEnv):
        env.steps = agent.num_timesteps // env.num_envs
    if saved is None:
        go_on_from(agent, env.reset(), np.ones(env.num_envs, bool))
        return [EPISODES_LOST]
    go_on_from(agent, blocks.get("", blocks), checkpoint.environment[STARTS])
    seen = _restore_memory(find_memory(env), checkpoint.environment, blocks)
    if _is_native(env.unwrapped):
        _restore_batch(env.unwrapped, saved, seen)
        return []
    for i in range(env.num_envs):
        _refuse_impossible_episode(saved.get(str(i)), env.action_space, i)
    replayed = [_replay(env, i, saved[str(i)]) for i in range(env.num_envs)]
    return [_begin_anew(agent, i, said["observation"]) for i, said in enumerate(replayed) if not said["exact"]]


def _restore_memory(memory: VecMemory | None, arrays: Arrays, blocks: Arrays) -> Arrays:
    """Put what is remembered back; returns what was last observed without its past."""
    if memory is None:
        return blocks
    saved = {name.removeprefix(MEMORY): x for name, x in arrays.items() if name.startswith(MEMORY)}
    own = memory.get_state()
    difference = _difference(saved, own, "memory")
    if difference is not None:
        raise DoesNotFit(f"the memory of the checkpoint does not fit: {difference}")
    memory.set_state(saved)
    _refuse_other(memory.recall(), blocks, "the memory")
    now = {name.removeprefix("now."): x for name, x in saved.items() if name.startswith("now.")}
    return now


def _replay(env: VecEnv, index: int, saved: Mapping[str, object]) -> dict[str, object]:
    try:
        replayed: dict[str, object] = env.env_method("set_state", saved, indices=[index])[0]
        return replayed
    except IMPOSSIBLE as error:
        last = str(error).strip().splitlines()[-1:]
        raise DoesNotFit(f"environment {index} does not take the checkpoint's state: {last}") from error


def _is_native(adapter: object) -> TypeGuard[VectorEnvAdapter]:
    return isinstance(adapter, VectorEnvAdapter) and isinstance(adapter.env.unwrapped, Resumable)


def _last_observation(env: VecEnv, arrays: Arrays) -> Arrays:
    """The last observation, after a look at keys, shapes, dtypes and values."""
    space = env.observation_space
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    wanted = {f"{LAST}{key}": ((env.num_envs, *(part.shape or ())), part.dtype) for key, part in parts.items()}
    wanted[STARTS] = ((env.num_envs,), np.dtype(bool))
    for name, (shape, dtype) in wanted.items():
        got = arrays.get(name)
        if got is None or got.shape != shape or got.dtype != dtype:
            what = "missing" if got is None else f"{got.dtype} of shape {got.shape}"
            raise DoesNotFit(f"the checkpoint's {name} is {what}; expected {dtype} of shape {shape}")
    blocks = {key: arrays[f"{LAST}{key}"] for key in parts}
    if isinstance(env, GuardedVecEnv):
        try:
            env.check_observation(blocks.get("", blocks), "the checkpoint's last observation", range(env.num_envs))
        except GuardError as error:
            raise DoesNotFit(str(error)) from error
    return blocks


def _joined(checkpoint: Checkpoint) -> Any:
    """The nested state with its arrays; every random generator in it looked at."""
    rest = checkpoint.state.get("environment")
    try:
        saved = join_arrays(checkpoint.environment, rest)
    except (KeyError, TypeError) as error:
        raise DoesNotFit(f"the environments' state names an array that the checkpoint lacks: {error}") from error
    if saved is not None and not isinstance(saved, dict):
        raise DoesNotFit(f"the environments' state is {with_article(type(saved))}; expected an object")
    for name, state in _bit_generators(saved, "environment"):
        why = why_no_bit_generator(state)
        if why is not None:
            raise DoesNotFit(f"the random generator {name} of the checkpoint is impossible: {why}")
    return saved


def _bit_generators(nested: object, path: str) -> list[tuple[str, object]]:
    if not isinstance(nested, Mapping):
        return []
    own = [(path, nested)] if "bit_generator" in nested else []
    return own + [found for name, each in nested.items() for found in _bit_generators(each, f"{path}.{name}")]


def _restore_batch(adapter: VectorEnvAdapter, saved: dict[str, object], blocks: Arrays) -> None:
    """Put a native batch back, after comparing the state with one of its own, and look at what is then seen."""
    adapter.reset()
    state: dict[str, Any] = {"batch": saved.get("batch")}
    difference = _difference(state, {"batch": adapter.get_state()}, "environment")
    if difference is not None:
        raise DoesNotFit(f"the environments' state does not fit: {difference}")
    try:
        adapter.set_state(state["batch"])
        game: object = adapter.env.unwrapped
        seen = _blocks(game.observation()) if hasattr(game, "observation") else blocks
    except IMPOSSIBLE as error:
        raise DoesNotFit(f"the environments do not take the checkpoint's state: {error}") from error
    _refuse_other(seen, blocks, "the environments' state")


def _refuse_other(seen: Mapping[str, np.ndarray], blocks: Arrays, what: str) -> None:
    for key, block in blocks.items():
        if not np.array_equal(seen[key], block, equal_nan=block.dtype.kind == "f"):
            raise DoesNotFit(f"{what} and the last observation {key!r} of the checkpoint do not belong together")


def _difference(got: object, own: object, path: str) -> str | None:
    """Where two nested states differ in keys, types, shapes or dtypes."""
    if isinstance(own, Mapping):
        if not isinstance(got, Mapping) or got.keys() != own.keys():
            names = sorted(got) if isinstance(got, Mapping) else type(got).__name__
            return f"{path} has {names}; expected {sorted(own)}"
        return next(filter(None, (_difference(got[name], own[name], f"{path}.{name}") for name in own)), None)
    if isinstance(own, np.ndarray):
        if not isinstance(got, np.ndarray) or (got.shape, got.dtype) != (own.shape, own.dtype):
            what = f"{got.dtype} of shape {got.shape}" if isinstance(got, np.ndarray) else type(got).__name__
            return f"{path} is {what}; expected {own.dtype} of shape {own.shape}"
        return None
    if got is None or own is None or type(got) is type(own):
        return None
    return f"{path} is {type(got).__name__}; expected {type(own).__name__}"


def _refuse_impossible_episode(saved: object, space: spaces.Space[object], index: int) -> None:
    """Raise where a copy's episode could not have been played: how it began, and every action."""
    where = f"environment {index}: the checkpoint's episode"
    if not isinstance(saved, Mapping) or not isinstance(saved.get("begun"), Mapping):
        raise DoesNotFit(f"{where} does not say how it began")
    begun, actions = saved["begun"], saved.get("actions")
    if begun.keys() not in ({"options", "seed"}, {"options", "source"}):
        raise DoesNotFit(f"{where} began from {sorted(begun)}; expected options, and a seed or a source")
    seed, source = begun.get("seed", 0), begun.get("source", {"np_random": {"bit_generator": ""}})
    if type(seed) is not int or not 0 <= seed < 1 << 64:
        raise DoesNotFit(f"{where} began from the seed {seed!r}; expected a whole number")
    if not isinstance(source, Mapping) or source.keys() not in ({"state"}, {"np_random"}):
        raise DoesNotFit(f"{where} began from another source than a state or a generator")
    if not isinstance(next(iter(source.values())), Mapping):
        raise DoesNotFit(f"{where} began from a source that is no state")
    why = why_no_data(begun["options"], {}, {}, "options")
    if why is not None:
        raise DoesNotFit(f"{where} was reset with options that are more than data: {why}. Start a new run with --load")
    if not isinstance(saved.get("seen"), str) or not isinstance(actions, np.ndarray):
        raise DoesNotFit(f"{where} lacks its actions or what was seen after them")
    if not all(_is_action(action, space) for action in actions):
        raise DoesNotFit(f"{where} holds an action outside {space}")


def _is_action(action: np.ndarray, space: spaces.Space[object]) -> bool:
    if isinstance(space, spaces.Box):
        return space.contains(np.asarray(action))
    return np.asarray(action).dtype.kind in "iub" and space.contains(action)


def _begin_anew(agent: OnPolicyAlgorithm, index: int, obs: object) -> str:
    """Make a new episode's first observation the last one; say so."""
    memory = find_memory(agent.get_env())
    last, first = _blocks(last_observation(agent)), _blocks(obs if memory is None else memory.begin_anew(index, obs))
    for key, block in last.items():
        block[index] = first[key]
    last_episode_starts(agent)[index] = True
    return f"environment {index}: replaying its actions led elsewhere; its running episode was restarted"


def split_arrays(nested: object, path: str = "env") -> tuple[Arrays, Any]:
    """Take the arrays out of nested dicts: ({path: array}, the rest with the paths in their place)."""
    if isinstance(nested, np.ndarray):
        return {path: nested}, {"array": path}
    if not isinstance(nested, Mapping):
        return {}, nested
    arrays: Arrays = {}
    rest = {}
    for name, value in nested.items():
        found, rest[name] = split_arrays(value, f"{path}.{name}")
        arrays |= found
    return arrays, rest


def join_arrays(arrays: Arrays, rest: object) -> Any:
    """Undo :func:`split_arrays`."""
    if not isinstance(rest, dict):
        return rest
    if rest.keys() == {"array"}:
        return arrays[rest["array"]]
    return {name: join_arrays(arrays, value) for name, value in rest.items()}


def _blocks(obs: object) -> Arrays:
    return dict(obs) if isinstance(obs, Mapping) else {"": np.asarray(obs)}
