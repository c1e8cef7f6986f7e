"""One forward pass of any Stable-Baselines3 model: what it would do, what it thinks it is worth, and why not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from attn_rl.entities import EntitySpec, SplitObservation
from attn_rl.inspection.record.outputs import (
    Outputs,
    acting_extractor,
    acting_net,
    check_known_path,
    compute_outputs,
    is_actor_critic,
    is_recurrent,
)
from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.sb3.extractor import EntityExtractor

Observation = Mapping[str, Any] | np.ndarray


class PatternEdit(Protocol):
    """Replaces a pattern (B,H,Q,K) of layer ``layer`` while it is in use."""

    def __call__(self, layer: int, pattern: Tensor) -> Tensor: ...


class Actor:
    """The acting half of a model: its policy, the extractor it looks through, and one pass through both.

    Works for PPO, A2C, TRPO, MaskablePPO (actor and critic), RecurrentPPO (the same, with the state of its LSTMs), DQN
    and QR-DQN (policy = softmax of the Q values), SAC, TQC and CrossQ (Gaussian before squashing), TD3 and DDPG (a
    Gaussian of unit width around the action); gSDE too. Recording is per extractor: a target network or a critic with
    an extractor of its own stays unobserved.

    Args:
        model: an SB3 algorithm or its policy. It is put into evaluation mode, as ``predict`` does.
        detached: look at a copy, so that not even the mode of ``model`` changes.

    Raises:
        ValueError: the policy looks through no extractor of this package, or gets from features to actions in a way
            that is not known.
    """

    def __init__(self, model: BaseAlgorithm | BasePolicy, *, detached: bool = False) -> None:
        policy: Any = model.policy if isinstance(model, BaseAlgorithm) else model
        policy = getattr(policy, "_orig_mod", policy)  # what torch.compile has wrapped
        self.policy = _copy(policy) if detached else policy
        self.policy.set_training_mode(False)
        self.extractor = acting_extractor(self.policy)
        check_known_path(self.policy)
        self.spec: EntitySpec = self.extractor.spec
        modules = self.extractor.network.modules()
        self.attention = [module for module in modules if isinstance(module, MultiHeadAttention)]

    def tensors(self, obs: Observation) -> dict[str, Tensor] | Tensor:
        """Turn one observation or a batch into tensors with a batch dimension."""
        tensors: dict[str, Tensor] | Tensor = self.policy.obs_to_tensor(obs)[0]
        return tensors

    def lstm_tensors(self, given: np.ndarray | None, n_states: int) -> Tensor | None:
        """Where the LSTMs stand (B,4,layers,width), see :class:`Outputs`; None for a policy without any.

        Args:
            given: recorded states; None = the start of an episode, all zeros, as ``predict`` without a state.
            n_states: B.

        Raises:
            ValueError: states of another shape, or for a policy without LSTM.
        """
        if not is_recurrent(self.policy):
            if given is not None:
                raise ValueError(f"lstm_states are given, but {type(self.policy).__name__} has no LSTM; leave them out")
            return None
        layers, _, width = self.policy.lstm_hidden_state_shape
        expected = (n_states, 4, layers, width)
        if given is None:
            return torch.zeros(expected, device=self.policy.device)
        if given.shape != expected:
            raise ValueError(
                f"lstm_states has shape {given.shape}, expected {expected}: pass next_lstm_states of the record of "
                "the step before"
            )
        return torch.as_tensor(given, dtype=torch.float32, device=self.policy.device)

    def to_env(self, action: np.ndarray) -> object:
        """One deterministic action of a record as ``predict`` would hand it to the environment."""
        space: object = self.policy.action_space
        if not isinstance(space, spaces.Box):
            return action
        if not self.policy.squash_output:
            return np.clip(action, space.low, space.high).reshape(space.shape)
        drawn = is_actor_critic(self.policy) or hasattr(acting_net(self.policy), "get_action_dist_params")
        squashed = np.tanh(action) if drawn else action  # TD3's action is squashed already
        return self.policy.unscale_action(squashed).reshape(space.shape)

    def act(
        self,
        obs: dict[str, Tensor] | Tensor,
        lstm_states: Tensor | None = None,
        *,
        keep: Tensor | None = None,
        edit: PatternEdit | None = None,
    ) -> Outputs:
        """Compute the policy and the value of a batch, in one pass.

        Args:
            obs: from :meth:`tensors`.
            lstm_states: from :meth:`lstm_tensors`.
            keep: boolean (B,N) over all slots; False = this entity is taken out of the observation.
            edit: what to do to each pattern before it is used; None = leave it.
        """
        with ExitStack() as stack:
            if keep is not None:
                stack.enter_context(_removed(self.policy, keep))
            if edit is not None:
                stack.enter_context(_edited(self.attention, edit))
            return compute_outputs(self.policy, obs, lstm_states)


def take_rows(obs: dict[str, Tensor] | Tensor, rows: Tensor) -> dict[str, Tensor] | Tensor:
    """The observations of the given rows, repeats allowed: (B,...) -> (len(rows),...)."""
    if isinstance(obs, Mapping):
        return {key: block[rows] for key, block in obs.items()}
    return obs[rows]


def _copy(policy: Any) -> Any:
    """A policy of its own weights. The last distribution may hang on a graph, which cannot be copied."""
    holders = [module for module in policy.modules() if hasattr(module, "action_dist")]
    return copy.deepcopy(policy, {id(holder.action_dist): copy.copy(holder.action_dist) for holder in holders})


# ---- interventions -----------------------------------------------------------------------------------------------


class _Removing:
    """An EntitySpec that finds some entities absent."""

    def __init__(self, spec: EntitySpec, keep: Tensor) -> None:
        self._spec, self._keep = spec, keep

    def split(self, observation: Any) -> SplitObservation:
        split = self._spec.split(observation)
        kept = self._keep.split(list(self._spec.capacities.values()), -1)
        entities = {
            name: (x, present & kept_rows)
            for (name, (x, present)), kept_rows in zip(split.entities.items(), kept, strict=True)
        }
        return split._replace(entities=entities)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spec, name)


@contextmanager
def _removed(policy: nn.Module, keep: Tensor) -> Iterator[None]:
    """Take entities out of what *every* extractor of the policy sees, whether or not presence is observed."""
    extractors: list[Any] = [module for module in policy.modules() if isinstance(module, EntityExtractor)]
    specs = [extractor.spec for extractor in extractors]
    for extractor, spec in zip(extractors, specs, strict=True):
        extractor.spec = _Removing(spec, keep)
    try:
        yield
    finally:
        for extractor, spec in zip(extractors, specs, strict=True):
            extractor.spec = spec


@contextmanager
def _edited(attention: list[MultiHeadAttention], edit: PatternEdit) -> Iterator[None]:
    def hook_of(layer: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
        return lambda module, inputs, pattern: edit(layer, pattern)

    handles = [module.tap.register_forward_hook(hook_of(layer)) for layer, module in enumerate(attention)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
