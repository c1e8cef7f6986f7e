"""What an SB3 agent's future depends on: from agent and environments to a checkpoint, and back."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from attn_rl.sb3.compat import (
    COUNTERS,
    forget_seeds,
    go_on_from,
    last_episode_starts,
    last_observation,
    progress_remaining,
    statistics_window,
)
from attn_rl.training.run.checkpoint import Arrays, Checkpoint
from attn_rl.training.run.random_state import get_generators
from attn_rl.vec_envs.adapter import VectorEnvAdapter
from attn_rl.vec_envs.guarded import GuardedVecEnv
from attn_rl.vec_envs.replayable import ReplayableEnv

EPISODES_LOST = "every running episode was restarted: the environments cannot tell their state"


class DoesNotFit(ValueError):
    """Trained weights cannot serve an environment."""


# ---- the whole -----------------------------------------------------------------------------------


def capture(agent: OnPolicyAlgorithm) -> Checkpoint:
    """Copy everything that decides what ``agent.learn`` does next, except other callbacks' state.

    Exact at the start of a rollout, before the first action is drawn, and after the last update.
    """
    env = agent.get_env()
    arrays, rest = split_arrays(environment_state(env))
    arrays |= {f"last_obs.{key}": block.copy() for key, block in _blocks(last_observation(agent)).items()}
    arrays["episode_starts"] = np.array(last_episode_starts(agent))
    optimizer, groups = pack_optimizer(agent.policy.optimizer.state_dict())
    state = {
        "counters": {name: getattr(agent, name) for name in COUNTERS},
        "schedules": schedules(agent),
        "episodes": [_plain(info) for info in agent.ep_info_buffer or ()],
        "successes": [bool(success) for success in agent.ep_success_buffer or ()],
        "logger": pending_figures(agent),
        "optimizer": groups,
        "environment": rest,
        "generators": get_generators(),
        "declared": declared(agent),
    }
    return Checkpoint(state, to_arrays(agent.policy.state_dict()), optimizer, arrays)


def restore(agent: OnPolicyAlgorithm, checkpoint: Checkpoint) -> list[str]:
    """Make ``agent``, built with the same settings, go on where :func:`capture` copied.

    The generators are left alone: set them last (:func:`attn_rl.training.run.random_state.set_generators`), when
    nothing draws any more before the rollout.

    Returns:
        What could not be restored exactly, one sentence each.

    Raises:
        DoesNotFit: the checkpoint is of another network, optimiser or environment.
    """
    state = checkpoint.state
    restore_weights(agent, checkpoint)
    for name in COUNTERS:
        setattr(agent, name, state["counters"][name])
    if schedules(agent) != state["schedules"]:
        raise DoesNotFit(f"schedules: the checkpoint has {state['schedules']}, this agent {schedules(agent)}")
    agent.ep_info_buffer = deque(state["episodes"], maxlen=statistics_window(agent))
    agent.ep_success_buffer = deque(state["successes"], maxlen=statistics_window(agent))
    for name, (value, excluded) in state["logger"].items():
        agent.logger.record(name, value, tuple(excluded))
    return _restore_environment(agent, checkpoint)


def declared(agent: OnPolicyAlgorithm) -> str:
    """Names of the features, in their order, and the kinds that are compared, as JSON."""
    extractor: Any = agent.policy.features_extractor
    related = getattr(extractor.network, "relations", None) is not None
    return json.dumps([extractor.spec.names, extractor.spec.kinds if related else {}])


def restore_weights(agent: OnPolicyAlgorithm, checkpoint: Checkpoint) -> None:
    """Put weights, normaliser statistics and optimiser state into an agent.

    Raises:
        DoesNotFit: a missing, unknown or differently shaped tensor; features or kinds of other names or in another
            order, which weights that happen to have the same shapes would be put to silently.
    """
    told, own = checkpoint.state.get("declared"), declared(agent)  # checkpoints of before do not tell
    if told is not None and told != own:
        raise DoesNotFit(
            f"the environment declares other features or kinds, or in another order, than the one that was trained in: "
            f"{own} instead of {told}. Declare them in the environment's metadata as they were"
        )
    agent.policy.load_state_dict(_fitting(checkpoint.model, agent.policy.state_dict()))
    current = agent.policy.optimizer.state_dict()["param_groups"]
    parameters = [p for group in agent.policy.optimizer.param_groups for p in group["params"]]
    agent.policy.optimizer.load_state_dict(unpack_optimizer(checkpoint, current, parameters))


def _fitting(arrays: Arrays, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    got = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    expected = {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in wanted.items()}
    for name in sorted(got.keys() | expected.keys()):
        if got.get(name) != expected.get(name):
            raise DoesNotFit(
                f"the weights do not fit: {name} is {got.get(name, 'missing')} in the checkpoint, "
                f"{expected.get(name, 'unknown')} in this agent. The policy's shapes depend on the number of slots (a "
                "flat extractor, or a flat action head over slots), or settings, entity types, features, kinds or "
                "actions differ. Use the attention or deepsets policy, with pointer= where actions are slots"
            )
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


# ---- the optimiser ---------------------------------------------------------------------------------


def pack_optimizer(state_dict: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
    """Split an optimiser's state into arrays ``"<parameter index>.<name>"`` and JSON."""
    arrays = {
        f"{index}.{name}": value.detach().cpu().numpy().copy()
        for index, entry in state_dict["state"].items()
        for name, value in entry.items()
    }
    return arrays, {"param_groups": state_dict["param_groups"]}


def unpack_optimizer(
    checkpoint: Checkpoint, current: list[dict[str, Any]], parameters: list[torch.nn.Parameter]
) -> dict[str, Any]:
    """Put together a ``state_dict`` again.

    Args:
        checkpoint: with what :func:`pack_optimizer` returned.
        current: parameter groups of the optimiser that will take it.
        parameters: its parameters, in order.

    Raises:
        DoesNotFit: other parameters, options or shapes.
    """
    saved = checkpoint.state["optimizer"]["param_groups"]
    if [(sorted(g), g["params"]) for g in saved] != [(sorted(g), g["params"]) for g in current]:
        raise DoesNotFit("the optimiser's parameter groups are not those of this agent")
    groups = [
        {name: tuple(value) if isinstance(now[name], tuple) else value for name, value in group.items()}
        for group, now in zip(saved, current, strict=True)
    ]
    state: dict[int, dict[str, Tensor]] = {}
    for key, array in checkpoint.optimizer.items():
        index, name = key.split(".", 1)
        if not index.isdecimal() or int(index) >= len(parameters):
            raise DoesNotFit(f"optimiser tensor {key!r} belongs to no parameter")
        if array.shape not in ((), tuple(parameters[int(index)].shape)):
            raise DoesNotFit(f"optimiser tensor {key!r} has shape {array.shape}, its parameter another")
        state.setdefault(int(index), {})[name] = torch.from_numpy(array)
    return {"state": state, "param_groups": groups}


# ---- the environments ------------------------------------------------------------------------------


def environment_state(env: VecEnv | None) -> dict[str, Any] | None:
    """State of the environments: arrays and JSON-able values, nested; None where they cannot tell.

    A native batch tells it in one piece, separate copies one by one (:class:`ReplayableEnv`).
    """
    adapter = None if env is None else env.unwrapped
    if isinstance(adapter, VectorEnvAdapter) and hasattr(adapter.env.unwrapped, "get_state"):
        return {"batch": adapter.get_state()}
    if env is not None and all(env.env_is_wrapped(ReplayableEnv)):
        return {str(i): state for i, state in enumerate(env.env_method("get_state"))}
    return None


def _restore_environment(agent: OnPolicyAlgorithm, checkpoint: Checkpoint) -> list[str]:
    env = agent.get_env()
    if env is None:
        raise ValueError("the agent has no environment; build it with one")
    forget_seeds(env.unwrapped)  # the agent's seed must not fall on a later reset
    if isinstance(env, GuardedVecEnv):
        env.steps = agent.num_timesteps // env.num_envs
    if checkpoint.state["environment"] is None:
        go_on_from(agent, env.reset(), np.ones(env.num_envs, bool))
        return [EPISODES_LOST]
    blocks = {
        key.removeprefix("last_obs."): block
        for key, block in checkpoint.environment.items()
        if key.startswith("last_obs.")
    }
    go_on_from(agent, blocks.get("", blocks), checkpoint.environment["episode_starts"])
    saved = join_arrays(checkpoint.environment, checkpoint.state["environment"])
    if "batch" in saved:
        env.unwrapped.set_state(saved["batch"])  # type: ignore[attr-defined]
        return []
    replayed = [env.env_method("set_state", saved[str(i)], indices=[i])[0] for i in range(env.num_envs)]
    return [_begin_anew(agent, i, said["observation"]) for i, said in enumerate(replayed) if not said["exact"]]


def _begin_anew(agent: OnPolicyAlgorithm, index: int, obs: Any) -> str:
    """Make a new episode's first observation the last one; say so."""
    last, first = _blocks(last_observation(agent)), _blocks(obs)
    for key, block in last.items():
        block[index] = first[key]
    last_episode_starts(agent)[index] = True
    return f"environment {index}: replaying its actions led elsewhere; its running episode was restarted"


def split_arrays(nested: Any, path: str = "env") -> tuple[Arrays, Any]:
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


def join_arrays(arrays: Arrays, rest: Any) -> Any:
    """Undo :func:`split_arrays`."""
    if not isinstance(rest, dict):
        return rest
    if rest.keys() == {"array"}:
        return arrays[rest["array"]]
    return {name: join_arrays(arrays, value) for name, value in rest.items()}


# ---- small things ------------------------------------------------------------------------------------


def to_arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    """Copy tensors to NumPy."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def schedules(agent: OnPolicyAlgorithm) -> dict[str, float]:
    """Learning rate and clipping at the beginning, now and at the end."""
    moments = {"first": 1.0, "now": progress_remaining(agent), "last": 0.0}
    found = {f"learning_rate.{name}": float(agent.lr_schedule(at)) for name, at in moments.items()}
    clip_range = getattr(agent, "clip_range", None)
    if callable(clip_range):
        found |= {f"clip_range.{name}": float(clip_range(at)) for name, at in moments.items()}
    return found


def pending_figures(agent: OnPolicyAlgorithm) -> dict[str, list[Any]]:
    """Figures that were recorded and wait for the next dump: SB3 dumps an update's figures after the next rollout."""
    logger = agent.logger
    waiting = logger.name_to_value.items()
    return {
        name: [_plain(value), list(logger.name_to_excluded[name])]
        for name, value in waiting
        if isinstance(value, (bool, int, float, str, np.generic))
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _blocks(obs: Any) -> Arrays:
    return dict(obs) if isinstance(obs, Mapping) else {"": np.asarray(obs)}
