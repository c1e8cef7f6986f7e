"""What RLlib has learned, as plain data: out of a running algorithm, or out of a checkpoint of one."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_OPTIMIZER, COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.rl_module import RLModule

from attn_rl.ray.module import EntityRLModule
from attn_rl.sb3.reward_scale import FIELDS

MODULES = Path("learner_group", COMPONENT_LEARNER, COMPONENT_RL_MODULE)
"""Where a checkpoint of an algorithm keeps its modules, a folder each."""
POLICY = "policy."
"""Before the name of each of the policy's tensors."""


@dataclass(frozen=True)
class Trained:
    """A module's training.

    Attributes:
        run: what a run folder says of it.
        weights: the policy's tensors by name, each once.
        num_timesteps: environment steps so far.
        reward_statistics: what rewards are scaled by.
        optimizer: state of Adam, as PyTorch's ``state_dict``; None = unknown.
    """

    run: dict[str, Any]
    weights: dict[str, np.ndarray]
    num_timesteps: int
    reward_statistics: dict[str, float]
    optimizer: dict[str, Any] | None = None


def read_trained(source: Algorithm | str | Path, module_id: str | None, trust: bool) -> Trained:
    """Read what a module has learned.

    Args:
        source: the algorithm, or the folder of one of its checkpoints.
        module_id: which module; None = the only one.
        trust: unpickle a checkpoint.

    Raises:
        ValueError: several modules and no ``module_id``, no checkpoint there, or one that is not trusted.
    """
    if isinstance(source, Algorithm):
        return _of_algorithm(source, module_id)
    folder = Path(source)
    if not (folder / MODULES).is_dir():
        raise ValueError(
            f"{folder} is no checkpoint of an RLlib algorithm: it has no {MODULES}; give what save() wrote"
        )
    if not trust:
        raise ValueError(
            f"{folder} is a checkpoint of RLlib, which is pickled: reading it executes the code its author put there. "
            "Pass trust=True if you know where it comes from"
        )
    found = sorted(path.name for path in (folder / MODULES).iterdir() if path.is_dir())
    module_id = _only(found, module_id)
    module = RLModule.from_checkpoint(str((folder / MODULES / module_id).resolve()))
    return _trained(module, module.get_state(), _stored_optimizer(folder / MODULES.parent, module_id))


def _of_algorithm(algorithm: Algorithm, module_id: str | None) -> Trained:
    state: dict[str, Any] = algorithm.learner_group.get_state()[COMPONENT_LEARNER]
    weights: dict[str, Any] = state[COMPONENT_RL_MODULE]
    module_id = _only(list(weights), module_id)
    spec = algorithm.config.get_multi_rl_module_spec(
        spaces=algorithm.spaces, inference_only=False
    ).module_specs[module_id]  # fmt: skip
    return _trained(spec.build(), weights[module_id], _optimizer_of(state.get(COMPONENT_OPTIMIZER, {}), module_id))


def _only(found: list[str], module_id: str | None) -> str:
    if module_id is None and len(found) == 1:
        return found[0]
    if module_id not in found:
        raise ValueError(f"module_id={module_id!r}; choose one of the modules there: {', '.join(map(repr, found))}")
    return module_id


def _trained(module: RLModule, state: Mapping[str, Any], optimizer: dict[str, Any] | None) -> Trained:
    if not isinstance(module, EntityRLModule):
        raise ValueError(f"the module is a {type(module).__name__}, expected an EntityRLModule; see ppo_config")
    policy = {name: value for name, value in state.items() if name.startswith(POLICY)}
    return Trained(
        run=module.model_config["run"],
        weights={name.removeprefix(POLICY): np.asarray(value) for name, value in policy.items()},
        num_timesteps=int(state["num_timesteps"]),
        reward_statistics=dict(zip(FIELDS, map(float, state["reward_statistics"]), strict=True)),
        optimizer=optimizer,
    )


def _stored_optimizer(learner: Path, module_id: str) -> dict[str, Any] | None:
    for path in sorted(learner.glob("*state.pkl")):
        state = pickle.loads(path.read_bytes())
        if COMPONENT_OPTIMIZER in state:
            return _optimizer_of(state[COMPONENT_OPTIMIZER], module_id)
    return None


def _optimizer_of(states: Mapping[str, Any], module_id: str) -> dict[str, Any] | None:
    """The state of a module's optimiser, with tensors."""
    own = [found["state"] for found in states.values() if found["module_id"] == module_id]
    if not own:
        return None
    moments = {
        index: {name: torch.tensor(np.array(value)) for name, value in entry.items()}  # RLlib's share its memory
        for index, entry in own[0]["state"].items()
    }
    return {"state": moments, "param_groups": own[0]["param_groups"]}
