"""Policies and observation batches for the tests of heads and policies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from attn_rl import EntityAttentionPolicy

Observation = dict[str, Tensor]


def observation_space(n: int = 7, *, n_mask: int = 0, ego: bool = True, far: bool = False) -> spaces.Dict:
    """``items`` (n,3), optionally a type ``far`` (2,5) before them, ego (2,) and a mask."""
    found: dict[str, spaces.Space] = {
        "items": spaces.Box(-1, 1, (n, 3), np.float32),
        "items_present": spaces.MultiBinary(n),
    }
    if far:
        found |= {"far": spaces.Box(-1, 1, (2, 5), np.float32), "far_present": spaces.MultiBinary(2)}
    if ego:
        found["ego"] = spaces.Box(-1, 1, (2,), np.float32)
    if n_mask:
        found["action_mask"] = spaces.MultiBinary(n_mask)
    return spaces.Dict(found)


def observe(space: spaces.Dict, batch: int = 5, density: float = 0.6) -> Observation:
    """A random batch; the first observation has nothing present, the last everything."""
    found = {}
    for key, block in space.spaces.items():
        if isinstance(block, spaces.Box):
            found[key] = torch.randn(batch, *block.shape)
        else:
            found[key] = (torch.rand(batch, *block.shape) < density).float()
            found[key][0], found[key][-1] = 0.0, 1.0
    return found


def make_policy(
    space: spaces.Dict, action_space: spaces.Space, policy: type = EntityAttentionPolicy, **keywords: Any
) -> Any:
    """A policy whose heads have left their nearly uniform start."""
    made = policy(space, action_space, lambda _: 1e-3, **keywords)
    with torch.no_grad():
        for parameter in made.action_net.parameters():
            parameter.normal_(std=0.3)
    return made.eval()


def probabilities(policy: Any, observation: Observation) -> list[Tensor]:
    """Per action dimension (B, choices)."""
    found = policy.get_distribution(observation).distribution
    return [part.probs for part in (found if isinstance(found, list) else [found])]
