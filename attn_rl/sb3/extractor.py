"""Features extractors for any Stable-Baselines3 algorithm: attention over entities, DeepSets, flat.

All three keep the same contract, so that one argument swaps them::

    PPO("MultiInputPolicy", env, policy_kwargs=dict(features_extractor_class=EntityAttentionExtractor))
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from attn_rl.actions import Actions, mask_keys, read_actions, types_of
from attn_rl.backends.choose import encode
from attn_rl.categories import Categories, value_names
from attn_rl.edges import Ends
from attn_rl.entities import ACTION_MASK, EntitySpec
from attn_rl.kinds import COMPARE, HEADING, Kinds, groups_of
from attn_rl.nn.baselines import DeepSetsNetwork, FlatNetwork
from attn_rl.nn.network import AttentionNetwork, SetNetwork
from attn_rl.nn.normalizer import Entities
from attn_rl.nn.relations.edges import Joined
from attn_rl.nn.relations.groups import Group, own_features
from attn_rl.nn.token_order import EGO
from attn_rl.sb3.structured.layout import StructuredLayout

RelationsMode = Literal["auto", "declared", "features", "off"]
"""What relations compare: ``declared`` the kinds that the environment declares, ``features`` every feature with itself
whatever is declared, ``auto`` the kinds and, where none serves and no edges do, the features; ``off`` nothing. See
``docs/relations.md``."""


EdgeMode = Literal["biased", "only", "off"]
"""What the edges in an observation do; see ``docs/relations.md``."""


class FeatureLayout(NamedTuple):
    """Where things stand in a row of features: ``[readout | slots x token | present | action mask]``.

    Without a pointer and a mask (the case of every stock algorithm) a row is the readout and nothing else.

    Attributes:
        readout: width of the readout.
        n_slots: slots N of the type that a pointer head chooses from; 0 = none.
        d_token: width D of such a slot's token.
        n_mask: length A of the action mask; 0 = none.
    """

    readout: int
    n_slots: int = 0
    d_token: int = 0
    n_mask: int = 0

    @property
    def width(self) -> int:
        """Length of a row."""
        return self.readout + self.n_slots * (self.d_token + 1) + self.n_mask

    def extras(self, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split what follows the readout: tokens (B,N,D), present (B,N) and action mask (B,A), both boolean."""
        tokens, present, mask = row.split([self.n_slots * self.d_token, self.n_slots, self.n_mask], -1)
        return tokens.unflatten(-1, (self.n_slots, self.d_token)), present > 0.5, mask > 0.5


class EntityExtractor(BaseFeaturesExtractor):
    """What the three extractors share: observation -> entities -> network -> features (B, features_dim).

    Args:
        observation_space: a Dict of entity blocks or a plain 2-D Box; see ``docs/observations.md``.
        features_dim: width of the features; None = the network's own (``d_model``), without a further layer.
        names: feature names per key (``EntitySpec.from_env`` reads them off the environment).
        kinds: features of the same kind, per kind and type; see ``docs/relations.md``.
        presence: for a plain Box, the column that says which rows exist.
        categories: features whose numbers are names, per key; see ``docs/observations.md``.
        edges: which entity types each edge type joins; see ``docs/relations.md``.
        ignore: keys of the observation that nobody shall look at.
        pointer: entity type whose tokens the action head of :class:`EntityAttentionPolicy` chooses from; the policy
            sets it.
        masked: append the observation's ``action_mask`` for that head; the policy sets it.
        actions: append what structured actions need (``docs/actions.md``); the policy sets it.
        network: keywords of the network.
    """

    layout: FeatureLayout  # or, for structured actions, a StructuredLayout

    def __init__(
        self,
        observation_space: gym.Space[object],
        features_dim: int | None = None,
        *,
        names: Mapping[str, Sequence[str]] | None = None,
        kinds: Kinds | None = None,
        presence: str | int | None = None,
        categories: Categories | None = None,
        edges: Ends | None = None,
        ignore: Sequence[str] = (),
        pointer: str | None = None,
        masked: bool = False,
        actions: Actions | None = None,
        **network: Any,
    ) -> None:
        ignore = tuple(dict.fromkeys((*ignore, *mask_keys(actions))))
        spec = EntitySpec.from_space(observation_space, names, kinds, presence, categories, edges, ignore)
        chosen_among = types_of(read_actions(actions)) if actions else ()
        built = self.make_network(spec, pointer or next(iter(chosen_among), None), network)
        width = features_dim or built.d_out
        layout: Any = FeatureLayout(width)
        if pointer is not None:
            layout = layout._replace(n_slots=_capacity(spec, pointer), d_token=built.d_model)
        if masked:
            layout = layout._replace(n_mask=_mask_length(observation_space))
        if actions:
            layout = StructuredLayout(actions, spec, observation_space, width, built.d_model if chosen_among else 0)
        super().__init__(observation_space, layout.width)
        self.spec, self.layout, self.pointer, self.network = spec, layout, pointer, built
        self.project = (
            nn.Identity() if width == built.d_out else nn.Sequential(nn.Linear(built.d_out, width), nn.ReLU())
        )

    def make_network(self, spec: EntitySpec, pointer: str | None, network: dict[str, Any]) -> SetNetwork:
        """Build the network; the one method that a subclass defines.

        Args:
            spec: what the observation holds; ``spec.expanded`` says what the network gets, with a column for each value
                of a category.
            pointer: entity type whose tokens are needed; None = tokens are not.
            network: keywords of the network.
        """
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw the network's weights anew: Stable-Baselines3's orthogonal re-initialisation is not meant for them."""
        self.network.reset_parameters()

    def forward(self, observations: Mapping[str, Tensor] | Tensor) -> Tensor:
        """Turn observations, batched tensors as Stable-Baselines3 hands them over, into features (B, features_dim)."""
        split = self.spec.split(observations)
        readout, tokens = encode(self.network, split.ego, split.entities, split.edges)
        columns = [self.project(readout)]
        if isinstance(self.layout, StructuredLayout):
            columns += self.layout.columns(tokens, split.entities, observations)
        if self.pointer is not None:
            pointed, present = self.pointed_at(tokens, split.entities)
            columns += [pointed.flatten(1), present.to(readout.dtype)]
        if self.layout.n_mask and split.action_mask is not None:
            columns.append(split.action_mask.to(readout.dtype))
        return columns[0] if len(columns) == 1 else torch.cat(columns, -1)

    def pointed_at(self, tokens: Tensor | None, entities: Entities) -> tuple[Tensor, Tensor]:
        """What a pointer chooses from: the tokens (B,N,D) of its type, and which of them are there (B,N).

        Args:
            tokens: the entities' (B,M,D), of all types.
            entities: per type, features and presence.
        """
        if tokens is None:
            raise ValueError(f"pointer={self.pointer!r}, but {type(self.network).__name__} returns no entity tokens")
        start = 0
        for name, (x, present) in entities.items():
            if name == self.pointer:
                return tokens[:, start : start + x.shape[1]], present
            start += x.shape[1]
        raise KeyError(self.pointer)  # unreachable: the constructor checked it


class EntityAttentionExtractor(EntityExtractor):
    """Multi-head self-attention over the entities of an observation.

    Observations (B, ...) become features (B, features_dim). Arguments are those of :class:`EntityExtractor`; further
    keywords (``d_model``, ``n_heads``, ``n_layers``, ``relations``, ...) go to
    :class:`attn_rl.nn.network.AttentionNetwork`.

    Raises:
        ValueError: an observation without entities, or a keyword out of its range.
        TypeError: a keyword that the network does not have.
    """

    def make_network(self, spec: EntitySpec, pointer: str | None, network: dict[str, Any]) -> SetNetwork:
        if spec.kinds and "relations" not in network:
            warnings.warn(
                "kinds are given, but relations are off by default: pass relations='declared' to compare them",
                stacklevel=3,
            )
        groups = comparable_groups(spec) + [own_features(*each) for each in spec.expanded.features.items()]
        joined = {found.name: Joined(found.source, found.target, found.features) for found in spec.edges}
        given = {"entity_rows": pointer is not None, "groups": groups, "unscaled": spec.one_hot, "joined": joined}
        return AttentionNetwork(spec.expanded.widths, _ego_width(spec), **{**given, **network})


class DeepSetsExtractor(EntityExtractor):
    """DeepSets over the entities: ego-conditioned, layer-normalised, mean and max.

    Arguments are those of :class:`EntityExtractor`; further keywords go to
    :class:`attn_rl.nn.baselines.DeepSetsNetwork`.
    """

    def make_network(self, spec: EntitySpec, pointer: str | None, network: dict[str, Any]) -> SetNetwork:
        network = {"entity_rows": pointer is not None, "unscaled": spec.one_hot, **network}
        return DeepSetsNetwork(spec.expanded.widths, _ego_width(spec), **network)


class FlatExtractor(EntityExtractor):
    """The observation as one flat vector, slot by slot: the MLP that sets are compared with.

    Arguments are those of :class:`EntityExtractor`; further keywords go to
    :class:`attn_rl.nn.baselines.FlatNetwork`. ``sort_by={"items": "distance"}`` puts the slots of a type into ascending
    order of a feature.

    Raises:
        ValueError: ``pointer`` is given: there are no tokens to point at.
    """

    def make_network(self, spec: EntitySpec, pointer: str | None, network: dict[str, Any]) -> SetNetwork:
        if pointer is not None:
            raise ValueError(
                f"pointer={pointer!r}: a flat extractor has no entity tokens to point at; use another policy"
            )
        sort_by = {name: _column(spec, name, feature) for name, feature in (network.pop("sort_by", None) or {}).items()}
        network = {"capacities": spec.capacities, "sort_by": sort_by, "unscaled": spec.one_hot, **network}
        return FlatNetwork(spec.expanded.widths, _ego_width(spec), **network)


def comparable_groups(spec: EntitySpec) -> list[Group]:
    """The groups of features that the spec's kinds declare comparable, by column."""
    found = [(kind, owner, names) for kind, owners in spec.kinds.items() for owner, names in groups_of(owners)]
    short = [f"{owner}.{_shared_prefix(names) or kind}" for kind, owner, names in found]
    groups = []
    for (kind, owner, names), label in zip(found, short, strict=True):
        if short.count(label) > 1:  # two groups of one name: told apart by kind and features
            label = f"{owner}.{kind}({'+'.join(names)})"
        columns = _columns_of(spec, kind, owner, names)
        compare, facing = spec.kinds[kind].get(COMPARE, "value"), _facing(spec, kind, owner)
        groups.append(Group(kind, compare, owner, label, columns, (), HEADING in spec.kinds[kind], facing))
    return groups


def _facing(spec: EntitySpec, kind: str, owner: str) -> tuple[int, ...] | None:
    """Where cosine and sine of an owner's heading stand; None where no entity of the kind has one."""
    headings = {name: names for name, names in spec.kinds[kind].get(HEADING, {}).items() if name != EGO}
    if not headings or owner not in headings:
        return () if headings else None
    names, features = headings[owner], spec.expanded.features[owner]
    return tuple(map(features.index, names if len(names) == 2 else (names[0], f"{names[0]}_sine")))


def _columns_of(spec: EntitySpec, kind: str, owner: str, names: Sequence[str]) -> tuple[int, ...]:
    """Where a group's features stand; of a category, the columns of the values that all groups of its kind have."""
    features = spec.expanded.features | {EGO: spec.expanded.ego_features}
    common = spec.common_values(kind)
    columns = (value_names(name, common[place]) for place, name in enumerate(names)) if common else [names]
    return tuple(features[owner].index(column) for found in columns for column in found)


def _shared_prefix(names: Sequence[str]) -> str:
    """What all names have before their last underscore: ("lock_r", "lock_g") -> "lock"; a single name is its own."""
    stems = {name.rpartition("_")[0] for name in names} if len(names) > 1 else set(names)
    return stems.pop() if len(stems) == 1 else ""


def _ego_width(spec: EntitySpec) -> int:
    return len(spec.expanded.ego_features)


def _capacity(spec: EntitySpec, pointer: str) -> int:
    if pointer not in spec.capacities:
        raise ValueError(f"pointer={pointer!r} is no entity type; choose one of {list(spec.capacities)}")
    return spec.capacities[pointer]


def _mask_length(space: gym.Space[object]) -> int:
    shape = space[ACTION_MASK].shape if isinstance(space, spaces.Dict) and ACTION_MASK in space.spaces else None
    if shape is None or len(shape) != 1:
        raise ValueError(f"masked=True, but the observation has no 1-D key {ACTION_MASK!r}")
    return shape[0]


def _column(spec: EntitySpec, name: str, feature: str) -> int:
    features = spec.expanded.features.get(name, ())
    if feature not in features:
        raise ValueError(f"sort_by={{{name!r}: {feature!r}}}: expected a type and one of its features {features}")
    return features.index(feature)
