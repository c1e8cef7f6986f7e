"""What an SB3 agent's future depends on: from agent and environments to a checkpoint, and back."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor

from attn_rl.sb3.compat import COUNTERS, progress_remaining, statistics_window
from attn_rl.sb3.reward_scale import RewardScale
from attn_rl.training.run.checkpoint import Arrays, Checkpoint
from attn_rl.training.run.environment_state import environment_arrays, restore_environments
from attn_rl.training.run.optimizer_state import DoesNotFit, expected_state, pack_optimizer, unpack_optimizer
from attn_rl.training.run.random_state import get_generators

NEVER_NEGATIVE = ("running_var", "running_count", "pending_square", "pending_count")
"""Statistics of normalisers."""


def capture(agent: OnPolicyAlgorithm) -> Checkpoint:
    """Copy everything that decides what ``agent.learn`` does next, except other callbacks' state.

    Exact at the start of a rollout, before the first action is drawn, and after the last update.
    """
    arrays, rest = environment_arrays(agent)
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
        "rewards": reward_state(agent),
    }
    return Checkpoint(state, to_arrays(agent.policy.state_dict()), optimizer, arrays)


def restore(agent: OnPolicyAlgorithm, checkpoint: Checkpoint) -> list[str]:
    """Make ``agent``, built with the same settings, go on where :func:`capture` copied.

    The logger, which needs not be there yet, is left to :func:`restore_figures`. So are the generators: set them last
    (:func:`attn_rl.training.run.random_state.set_generators`), when nothing draws any more before the rollout.

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
    restore_rewards(agent, state.get("rewards"))
    return restore_environments(agent, checkpoint)


def reward_state(agent: OnPolicyAlgorithm) -> dict[str, Any] | None:
    """What an agent's scale of rewards depends on; None where rewards are learned from as they are."""
    scale = getattr(agent, "_reward_scale", None)
    return None if scale is None else {"statistics": dict(scale.statistics), "traces": scale.traces.tolist()}


def restore_rewards(agent: OnPolicyAlgorithm, state: dict[str, Any] | None) -> None:
    """Put what :func:`reward_state` returned back.

    Raises:
        DoesNotFit: a state of an agent that scales and one that does not, or of another number of environments.
    """
    scale: RewardScale | None = getattr(agent, "_reward_scale", None)
    if (scale is None) != (state is None):
        raise DoesNotFit(
            f"the checkpoint has {'no' if state is None else 'a'} scale of rewards; normalize_reward differs"
        )
    if scale is not None and state is not None:
        there, here = len(state["traces"][0]), scale.traces.shape[1]
        if there != here:
            raise DoesNotFit(f"the scale of rewards is of {there} environments; expected {here}")
        scale.statistics.update(state["statistics"])
        scale.traces[:] = state["traces"]


def restore_figures(agent: OnPolicyAlgorithm, checkpoint: Checkpoint) -> None:
    """Give the agent's logger the figures that waited for the next dump when :func:`capture` copied."""
    for name, (value, excluded) in checkpoint.state["logger"].items():
        agent.logger.record(name, value, tuple(excluded))


def declared(agent: OnPolicyAlgorithm) -> str:
    """Names of the features, in order, kinds that are compared and, if any, categories, edges and actions, as JSON."""
    extractor: Any = agent.policy.features_extractor
    network, spec = extractor.network, extractor.spec
    related = getattr(network, "relations", None) is not None or bool(spec.frames)
    joined = spec.ends if getattr(network, "joined", None) else {}
    actions: Any = getattr(agent.policy, "actions", None)
    return json.dumps([spec.names, spec.kinds if related else {}, *filter(None, (spec.categories, joined, actions))])


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
    own_weights = agent.policy.state_dict()
    agent.policy.load_state_dict(_fitting(with_shared(checkpoint.model, own_weights), own_weights))
    agent.policy.optimizer.load_state_dict(unpack_optimizer(checkpoint, agent.policy.optimizer))


def without_shared(arrays: Arrays, weights: Mapping[str, Tensor]) -> Arrays:
    """Each tensor once: SB3 names those of an extractor that actor and critic share three times.

    Args:
        arrays: by name.
        weights: an agent's ``state_dict``, which says what is shared.
    """
    return {name: arrays[name] for name in set(_first_names(weights).values())}


def with_shared(arrays: Arrays, weights: Mapping[str, Tensor]) -> Arrays:
    """Under all of its names again, what :func:`without_shared` left under one; the rest as it is."""
    first = _first_names(weights)
    found = {name: arrays[first[name]] for name in weights if name not in arrays and first[name] in arrays}
    return {**arrays, **found}


def _first_names(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Name -> the first name of the same memory."""
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    return {name: first.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name) for name, tensor in weights.items()}


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
    for name, array in arrays.items():
        if name.rpartition(".")[2] in NEVER_NEGATIVE and (array < 0).any():
            raise DoesNotFit(f"the weights do not fit: {name} is negative in the checkpoint, which it can never be")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def needed_bytes(agent: OnPolicyAlgorithm) -> dict[str, int]:
    """Bytes that an agent's checkpoint takes, part by part: the environments' without what their episodes did."""
    model = sum(tensor.nbytes for tensor in agent.policy.state_dict().values())
    optimizer = sum(tensor.nbytes for tensor in expected_state(agent.policy.optimizer).values())
    space = agent.observation_space
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    seen = sum(int(np.prod(part.shape or ())) * np.dtype(part.dtype).itemsize for part in parts)
    return {"model": model, "optimizer": optimizer, "environment": 4 * seen * agent.n_envs}


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


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return value.item() if isinstance(value, np.generic) else value
