"""The spaces of an environment with another number of slots, for an agent that has no such environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from attn_rl.actions import Actions, action_space, read_actions
from attn_rl.edges import EdgeType
from attn_rl.entities import ACTION_MASK, EntitySpec
from attn_rl.observation_size import check_slots
from attn_rl.sb3.action_head import ActionLayout
from attn_rl.sb3.extractor import EntityExtractor

Capacity = int | Mapping[str, int]


class SpacesOnly(VecEnv):
    """Stands where an agent needs an environment to be built, and cannot be played in."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """``render_mode`` is None; nothing else is known."""
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def reset(self) -> NoReturn:
        """Refuse."""
        raise ValueError(
            "this agent was loaded with capacity=, without an environment; agent.set_env(env) gives it one, or "
            "load(path, env=env) loads it into one"
        )

    def step_async(self, actions: np.ndarray) -> NoReturn:
        """Refuse."""
        self.reset()

    def step_wait(self) -> NoReturn:
        """Refuse."""
        self.reset()

    def set_attr(self, attr_name: str, value: object, indices: VecEnvIndices = None) -> NoReturn:
        """Refuse."""
        self.reset()

    def env_method(
        self, method_name: str, *method_args: object, indices: VecEnvIndices = None, **method_kwargs: object
    ) -> NoReturn:
        """Refuse."""
        self.reset()

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Nothing is wrapped."""
        return [False] * self.num_envs

    def close(self) -> None:
        """There is nothing to close."""


def with_capacity(model: BaseAlgorithm, capacity: Capacity) -> SpacesOnly:
    """The spaces of an agent's environment, had it been made with other capacities.

    Args:
        model: an SB3 algorithm with one of our extractors.
        capacity: slots of every entity type, or by type; types not named keep theirs, and so do edge types.

    Raises:
        ValueError: no such type, no slots, or a policy that knows no entities.
    """
    policy: object = model.policy
    extractor = getattr(policy, "features_extractor", None)
    if not isinstance(extractor, EntityExtractor):
        raise ValueError(
            f"the policy looks through {type(extractor).__name__}, which knows no entities: leave capacity= out"
        )
    spec, slots = extractor.spec, _slots(extractor.spec, capacity)
    widths = spec.widths | {t.name: len(t.features) + 2 for t in spec.edges}
    for name, n in slots.items():
        check_slots(name, n, widths[name] + 1)
    pointer, structured = getattr(policy, "pointer", None), getattr(policy, "actions", None)
    actions: spaces.Space[object] = model.action_space
    if pointer is not None:
        actions = _actions(actions, spec.capacities[pointer], slots[pointer])
    if structured:
        actions = action_space(structured, slots)
    observations = _observations(model.observation_space, spec, slots, actions)
    if structured and isinstance(observations, spaces.Dict):
        observations = spaces.Dict({**observations.spaces, **_masks(structured, observations, slots)})
    return SpacesOnly(model.n_envs, observations, actions)


def _slots(spec: EntitySpec, capacity: Capacity) -> dict[str, int]:
    wanted = capacity if isinstance(capacity, Mapping) else dict.fromkeys(spec.capacities, capacity)
    known = spec.capacities | {t.name: t.shape[0] for t in spec.edges if t.index_key is not None}
    for name, n in wanted.items():
        if name not in known:
            types = "entity and edge types" if len(known) > len(spec.types) else "entity types"
            raise ValueError(f"capacity names {name!r}; the {types} are {sorted(known)}")
        if not isinstance(n, int | np.integer):
            raise ValueError(f"capacity={n!r}; expected a whole number of slots")
        if n < 1:
            raise ValueError(f"capacity={n}; expected 1 or more slots")
    return known | {name: int(n) for name, n in wanted.items()}


def _actions(space: spaces.Space[object], old: int, new: int) -> spaces.Space[object]:
    """Of an action that points at slots: as many choices as there are slots now."""
    layout = ActionLayout.from_space(space, old)
    sizes = [new if i == layout.pointer else size for i, size in enumerate(layout.sizes)]
    return spaces.Discrete(sizes[0]) if isinstance(space, spaces.Discrete) else spaces.MultiDiscrete(sizes)


def _observations(
    space: spaces.Space[object], spec: EntitySpec, slots: Mapping[str, int], actions: spaces.Space[object]
) -> spaces.Space[object]:
    if isinstance(space, spaces.Box):
        return _rows(space, slots[spec.types[0].name])
    parts = dict(space.spaces)  # type: ignore[attr-defined]
    for entity_type in spec.types:
        parts[entity_type.name] = _rows(parts[entity_type.name], slots[entity_type.name])
        if entity_type.presence_key is not None:
            parts[entity_type.presence_key] = _flags(parts[entity_type.presence_key], slots[entity_type.name])
    for edge_type in spec.edges:
        parts |= _edges(edge_type, parts, slots)
    if spec.action_mask:
        parts[ACTION_MASK] = _flags(parts[ACTION_MASK], sum(ActionLayout.from_space(actions, 0).sizes))
    return spaces.Dict(parts)


def _edges(
    edge_type: EdgeType, parts: Mapping[str, spaces.Space[object]], slots: Mapping[str, int]
) -> dict[str, spaces.Space[object]]:
    """The parts of an edge type, with as many edges as are asked for, between as many slots."""
    rows, columns = (slots.get(end, 1) for end in (edge_type.source, edge_type.target))  # the ego is one
    shape = (rows, columns) if edge_type.index_key is None else (slots[edge_type.name],)
    found: dict[str, spaces.Space[object]] = {}
    if edge_type.index_key is not None:
        ends = (2, *shape) if edge_type.ends_first else (*shape, 2)
        found[edge_type.index_key] = spaces.Box(-1, max(rows, columns) - 1, ends, parts[edge_type.index_key].dtype)  # type: ignore[arg-type]
    if edge_type.attr_key is not None:
        box: Any = parts[edge_type.attr_key]
        low, high = (bound.reshape(-1, bound.shape[-1]) for bound in (box.low, box.high))
        low, high = (np.broadcast_to(x, (*shape, len(x))) for x in (low.min(0), high.max(0)))
        found[edge_type.attr_key] = spaces.Box(low, high, dtype=box.dtype)
    if edge_type.mask_key is not None:
        flags: Any = parts[edge_type.mask_key]
        binary = isinstance(flags, spaces.MultiBinary)
        found[edge_type.mask_key] = (
            spaces.MultiBinary(shape if len(shape) > 1 else shape[0])
            if binary
            else spaces.Box(0, 1, shape, flags.dtype)
        )
    return found


def _masks(
    structured: Actions, parts: Mapping[str, spaces.Space[object]], slots: Mapping[str, int]
) -> dict[str, spaces.Space[object]]:
    """The masks of structured actions, for as many slots."""
    arguments = read_actions(structured)
    shapes = {a.mask: a.shape_of_mask(slots, arguments) for a in arguments.values() if a.mask}
    return {key: _flags(parts[key], shape) for key, shape in shapes.items()}


def _rows(box: spaces.Box, n: int) -> spaces.Box:
    """A row's bounds are the widest that any slot had."""
    return spaces.Box(np.tile(box.low.min(0), (n, 1)), np.tile(box.high.max(0), (n, 1)), dtype=box.dtype)


def _flags(space: spaces.Space[object], shape: int | tuple[int, ...]) -> spaces.Space[object]:
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary(shape)
    return spaces.Box(0, 1, shape if isinstance(shape, tuple) else (shape,), space.dtype)  # type: ignore[arg-type]
