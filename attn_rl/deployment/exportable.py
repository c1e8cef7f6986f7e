"""A policy as one function of arrays, in PyTorch: what every form of file is made from.

Shapes: B batch, N slots of a type, A choices, H heads, Q queries, M tokens.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common import distributions as sb3
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor, nn

from attn_rl.entities import ACTION_MASK
from attn_rl.nn.network import AttentionNetwork, run
from attn_rl.sb3.action_head import EntityActionHead, HeadInputs
from attn_rl.sb3.distributions import LeanCategorical
from attn_rl.sb3.entity_heads import EntityHeads
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.sb3.policy import EntityAttentionPolicy
from attn_rl.type_names import with_article

UNDERSTOOD = (ActorCriticPolicy, BasePolicy, EntityAttentionPolicy, EntityHeads)
ACTING_METHODS = ("extract_features", "_get_action_dist_from_latent", "get_distribution", "_predict", "predict_values")
"""Methods that say how a policy acts; one of another class, and :class:`ExportablePolicy` might not do the same."""
TOLERANCE = 1e-4
"""Between a policy and its :class:`ExportablePolicy`, which compute the same in another order."""


class NotExportable(ValueError):
    """A policy that cannot be put into a file of that form; says what is in the way."""


class ExportablePolicy(nn.Module):
    """What a policy answers to observations: the action, how likely it is, and the value.

    Called with the arrays of an observation, in the order of :attr:`inputs`, each with a leading batch dimension. Any
    number of slots will do, whatever the environment had in training, unless the network has weights per slot.

    Args:
        policy: of PPO or A2C, with one of our extractors.
        maps: also return the attention patterns.

    Attributes:
        inputs: names of the arrays: the keys of the observation; of a plain Box, the name of its one type.
        outputs: names of what is returned: ``action`` (deterministic, as ``predict`` gives it), ``probabilities``
            (B, sum of choices) or, of a Box, ``mean`` and ``std`` (B,A), ``value`` (B,), and ``map_0``, ``map_1``, ...
            (B,H,Q,M), block by block.
        resizable: whether the number of slots is free.

    Raises:
        NotExportable: a policy, an extractor or a distribution that this class does not know.
    """

    def __init__(self, policy: Any, *, maps: bool = False) -> None:
        super().__init__()
        refuse_unknown(policy)
        self.policy, self.maps = policy, maps
        self.spec = policy.pi_features_extractor.spec
        self.space, self.actions = policy.observation_space, policy.action_space
        plain = self.spec.plain
        self.inputs: tuple[str, ...] = (self.spec.types[0].name,) if plain else tuple(self.space.spaces)
        networks = [policy.pi_features_extractor.network, policy.vf_features_extractor.network]
        self.resizable = all(network.ignores_slots for network in networks)
        if maps and not isinstance(networks[0], AttentionNetwork):
            raise NotExportable(f"maps=True, but {type(networks[0]).__name__} has no attention; leave maps out")
        figures = ("mean", "std") if isinstance(self.actions, spaces.Box) else ("probabilities",)
        n_maps = len(networks[0].taps) if maps else 0
        self.outputs: tuple[str, ...] = ("action", *figures, "value", *(f"map_{i}" for i in range(n_maps)))

    def forward(self, *blocks: Tensor) -> tuple[Tensor, ...]:
        """Answer: :attr:`inputs` -> :attr:`outputs`."""
        observation = dict(zip(self.inputs, blocks, strict=True))
        patterns: list[Tensor] = []
        with ExitStack() as watching:
            for tap in self.policy.pi_features_extractor.network.taps if self.maps else ():
                handle = tap.observe(lambda pattern, tokens, present: patterns.append(pattern))
                watching.callback(handle.remove)
            latent, parts = self._encode(self.policy.pi_features_extractor, observation)
        critic = latent
        if not self.policy.share_features_extractor:
            critic, _ = self._encode(self.policy.vf_features_extractor, observation)
        mlp = self.policy.mlp_extractor
        mlp = mlp.mlp if isinstance(mlp, HeadInputs) else mlp
        value = self.policy.value_net(mlp.forward_critic(critic)).squeeze(-1)
        return (*self._act(mlp.forward_actor(latent), parts), value, *patterns)

    def _encode(self, extractor: EntityExtractor, observation: Mapping[str, Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """The readout (B,D), and what an action head needs besides: tokens, presence and mask."""
        split = self.spec.split(observation)
        readout, tokens = run(extractor.network, split.ego, split.entities, split.edges)
        nothing = readout[:, :0]
        pointed = (nothing, nothing) if extractor.pointer is None else extractor.pointed_at(tokens, split.entities)
        return extractor.project(readout), (*pointed, nothing if split.action_mask is None else split.action_mask)

    def _act(self, latent: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Action and its distribution, from the actor's latent (B,L)."""
        head, space = self.policy.action_net, self.actions
        if isinstance(space, spaces.Box):
            mean = head(latent)
            low, high = (torch.as_tensor(bound.reshape(-1)) for bound in (space.low, space.high))
            action = torch.minimum(torch.maximum(mean, low), high)
            return action.unflatten(-1, space.shape), mean, self.policy.log_std.exp().expand_as(mean)
        if isinstance(space, spaces.MultiBinary):
            likely = head(latent).sigmoid()
            return (likely > 0.5).to(torch.int8), likely  # SB3 rounds; half is even
        if isinstance(head, EntityActionHead):
            logits = head.logits(latent, *parts)
        else:
            logits = list(head(latent).split(sizes_of(space), -1))
        chosen = torch.stack([part.argmax(-1) for part in logits], -1)
        likely = torch.cat([part.softmax(-1) for part in logits], -1)
        return chosen.squeeze(-1) if isinstance(space, spaces.Discrete) else chosen, likely

    def example(self, batch: int = 3, slots: Mapping[str, int] | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """Random observations: features around what the space allows, rows there or not, some with none at all.

        Args:
            batch: how many.
            slots: per type, another number than the space has.
            seed: of the numbers.
        """
        rng = np.random.default_rng(seed)
        counts = self.spec.capacities | dict(slots or {})
        flags = {t.presence_key: t.name for t in self.spec.types if t.presence_key is not None}
        found: dict[str, np.ndarray] = {}
        for key, part in zip(self.inputs, self._parts(), strict=True):
            declared = part.shape or ()
            shape = (counts[key], *declared[1:]) if key in counts else declared
            if key in flags:
                shape = (counts[flags[key]],)
            if key == ACTION_MASK:
                shape = (self._mask_length(declared[0], counts),)
            if key in flags or key == ACTION_MASK:
                made = rng.random((batch, *shape)) < 0.6
            else:
                made = self._with_categories(key, _within(part, rng.normal(0.0, 1.0, (batch, *shape))), rng)
            found[key] = made.astype(part.dtype)
        return found

    def _with_categories(self, key: str, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Values of their own in the columns of categories."""
        names = self.spec.names.get(key, ())
        for name, values in self.spec.categories.get(key, {}).items():
            column = x[..., names.index(name)]
            column[...] = rng.integers(len(values), size=column.shape)
        return x

    def _parts(self) -> list[spaces.Space[Any]]:
        return [self.space] if self.spec.plain else list(self.space.spaces.values())

    def _mask_length(self, declared: int, counts: Mapping[str, int]) -> int:
        pointer = self.policy.pi_features_extractor.pointer
        return declared if pointer is None else declared + counts[pointer] - self.spec.capacities[pointer]


def _within(part: spaces.Space[Any], x: np.ndarray) -> np.ndarray:
    """Bring standard normal numbers (B,...) to the range of a Box, by the bounds of its first row."""
    if not isinstance(part, spaces.Box):
        return x
    low, high = (bound[:1] if bound.ndim == 2 else bound for bound in (part.low, part.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(bounded, low, -1.0).astype(np.float64), np.where(bounded, high, 1.0).astype(np.float64)
    found: np.ndarray = np.clip(0.5 * (low + high) + 0.35 * (high - low) * x, low, high)
    return found


def sizes_of(space: Any) -> list[int]:
    """Number of choices per dimension of a Discrete or MultiDiscrete space."""
    return [int(space.n)] if isinstance(space, spaces.Discrete) else [int(n) for n in space.nvec]


def refuse_unknown(policy: Any) -> None:
    """Raise where :class:`ExportablePolicy` might act otherwise than ``policy``.

    Raises:
        NotExportable: naming what it does not know.
    """
    if not isinstance(policy, ActorCriticPolicy):
        raise NotExportable(
            f"the policy is {with_article(type(policy))}; expected an actor-critic policy of Stable-Baselines3 (PPO, "
            "A2C, TRPO): what other algorithms learn is not exported yet"
        )
    for name in ACTING_METHODS:
        definer = next(cls for cls in type(policy).__mro__ if name in vars(cls))
        if name in vars(policy) or definer not in UNDERSTOOD:
            raise NotExportable(
                f"{definer.__name__}.{name} is not Stable-Baselines3's: how this policy acts is not known here"
            )
    for extractor in (policy.pi_features_extractor, policy.vf_features_extractor):
        if not isinstance(extractor, EntityExtractor):
            raise NotExportable(
                f"the policy looks through {type(extractor).__name__}; expected one of attn_rl's extractors"
            )
    known = {
        *(sb3.CategoricalDistribution, sb3.MultiCategoricalDistribution, sb3.BernoulliDistribution),
        *(sb3.DiagGaussianDistribution, LeanCategorical),
    }
    if type(policy.action_dist) not in known:
        raise NotExportable(
            f"actions are drawn from {with_article(type(policy.action_dist))}; expected a distribution that PPO uses "
            "without use_sde"
        )


def exportable_copy(policy: Any, *, maps: bool = False) -> ExportablePolicy:
    """A copy of ``policy`` to export, on the CPU and in evaluation mode, that was seen to act as ``policy`` does.

    Raises:
        NotExportable: it does not, or is not known here.
    """
    refuse_unknown(policy)
    exportable = ExportablePolicy(copy.deepcopy(policy).to("cpu"), maps=maps).eval().requires_grad_(False)
    arrays = exportable.example(batch=16)
    observation: Any = next(iter(arrays.values())) if exportable.spec.plain else arrays
    exportable.policy.set_training_mode(False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random masks may allow nothing, which a policy that acts tells
        found = dict(zip(exportable.outputs, exportable(*map(torch.as_tensor, arrays.values())), strict=True))
        tensors, _ = exportable.policy.obs_to_tensor(observation)
        value = exportable.policy.predict_values(tensors).squeeze(-1)
        figures = figures_of(exportable.policy.get_distribution(tensors))
    pairs = [(found["value"], value), *((found[name], figure) for name, figure in figures.items())]
    for (answer, expected), name in zip(pairs, ("value", *figures), strict=True):
        if not torch.allclose(answer, expected, atol=TOLERANCE, rtol=TOLERANCE):
            worst = float((answer - expected).abs().max())
            raise NotExportable(
                f"{name} is {worst:.2g} from what {type(policy).__name__} answers: some part acts otherwise when it is "
                "called on its own (a hook, a patched method); remove it, or report this"
            )
    return exportable


def figures_of(distribution: Any) -> dict[str, Tensor]:
    """The figures of an SB3 distribution by the names that :attr:`ExportablePolicy.outputs` gives them, each (B,A)."""
    inner = distribution.distribution
    if isinstance(distribution, sb3.DiagGaussianDistribution):
        return {"mean": inner.mean, "std": inner.stddev}
    parts = inner if isinstance(inner, list) else [inner]
    return {"probabilities": torch.cat([part.probs for part in parts], -1)}
