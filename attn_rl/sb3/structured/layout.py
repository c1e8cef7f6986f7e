"""What a structured action head needs, side by side in one row of features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from attn_rl.actions import Actions, Argument, action_space, read_actions, types_of
from attn_rl.entities import EntitySpec
from attn_rl.nn.normalizer import Entities


class Scene(NamedTuple):
    """What actions are chosen by.

    Attributes:
        latent: the actor's (B,L).
        tokens: per entity type (B,N,D).
        present: which of them are there (B,N), boolean.
        masks: per key of the observation, boolean (B,...).
    """

    latent: Tensor
    tokens: dict[str, Tensor]
    present: dict[str, Tensor]
    masks: dict[str, Tensor]


class StructuredLayout:
    """Where things stand in a row of features: ``[readout | tokens | present | masks]``, type by type.

    Args:
        actions: the declaration.
        spec: of the observation.
        space: of the observation.
        readout: width of the readout.
        d_token: width D of a token.

    Raises:
        ValueError: the declaration names a type that is not there, or a mask of another shape.
    """

    n_mask = 0
    n_slots = 0

    def __init__(self, actions: Actions, spec: EntitySpec, space: gym.Space[Any], readout: int, d_token: int) -> None:
        self.arguments: dict[str, Argument] = read_actions(actions)
        self.action_space = action_space(actions, spec.capacities)
        self.capacities = dict(spec.capacities)
        self.types, self.readout, self.d_token = types_of(self.arguments), readout, d_token
        self.masks = {a.mask: self._mask_shape(a, space) for a in self.arguments.values() if a.mask is not None}

    def _mask_shape(self, argument: Argument, space: gym.Space[Any]) -> tuple[int, ...]:
        expected = argument.shape_of_mask(self.capacities, self.arguments)
        parts = space.spaces if isinstance(space, spaces.Dict) else {}
        found = parts[argument.mask].shape if argument.mask in parts else None
        if found != expected:
            raise ValueError(
                f"actions[{argument.name!r}] has mask={argument.mask!r}, which is "
                f"{'of shape ' + str(found) if found is not None else 'not in the observation'}; expected flags of "
                f"shape {expected}: MultiBinary({expected})"
            )
        return expected

    @property
    def sizes(self) -> list[int]:
        """Lengths of the parts after the readout."""
        slots = [self.capacities[name] for name in self.types]
        return [n * self.d_token for n in slots] + slots + [math.prod(shape) for shape in self.masks.values()]

    @property
    def width(self) -> int:
        """Length of a row."""
        return self.readout + sum(self.sizes)

    def columns(self, tokens: Tensor | None, entities: Entities, observation: Mapping[str, Tensor]) -> list[Tensor]:
        """What follows the readout.

        Args:
            tokens: of all entities (B,M,D); None where nothing points.
            entities: per type, features and presence.
            observation: with the masks.
        """
        found = []
        if self.types:
            if tokens is None:
                raise ValueError("actions of entities need their tokens, but the network returns none; use another one")
            parts = dict(zip(entities, tokens.split([x.shape[1] for x, _ in entities.values()], 1), strict=True))
            # Of an absent row each backend makes something else, and one is pointed at where nothing can be.
            found = [parts[name].masked_fill(~entities[name][1].unsqueeze(-1), 0.0).flatten(1) for name in self.types]
            found += [entities[name][1].to(tokens.dtype) for name in self.types]
        return found + [(observation[key] > 0.5).flatten(1).float() for key in self.masks]

    def scene(self, latent: Tensor, columns: Tensor) -> Scene:
        """Take apart what :meth:`columns` put together: columns (B, width - readout)."""
        parts = columns.split(self.sizes, -1)
        n = len(self.types)
        return Scene(
            latent,
            {name: part.unflatten(-1, (-1, self.d_token)) for name, part in zip(self.types, parts[:n], strict=True)},
            {name: part > 0.5 for name, part in zip(self.types, parts[n : 2 * n], strict=True)},
            {
                key: part.unflatten(-1, shape) > 0.5
                for (key, shape), part in zip(self.masks.items(), parts[2 * n :], strict=True)
            },
        )


def joined(parts: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor:
    """Parts (B,N,...) of several types as one."""
    found = [parts[name] for name in names]
    return found[0] if len(found) == 1 else torch.cat(found, 1)
