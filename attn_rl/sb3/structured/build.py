"""A structured head in a policy of Stable-Baselines3: what fits, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from attn_rl.actions import Actions, mask_keys
from attn_rl.entities import ACTION_MASK
from attn_rl.sb3.structured.head import StructuredHead


def refuse_other_heads(
    actions: Actions, space: gym.Space[Any], pointer: str | None, policy: Mapping[str, Any]
) -> Actions:
    """The declaration, unless something else would also decide on the action.

    Raises:
        ValueError: a pointer, an ``action_mask`` that no argument names, two extractors or state-dependent noise.
    """
    if pointer is not None:
        raise ValueError(
            f"pointer={pointer!r} and actions={list(actions)}: the declaration says what points; leave one"
        )
    if isinstance(space, spaces.Dict) and ACTION_MASK in space.spaces and ACTION_MASK not in mask_keys(actions):
        raise ValueError(
            f"the observation has {ACTION_MASK!r}, but actions {list(actions)} name it in no mask; "
            f'give it to the argument that it is for: "mask": "{ACTION_MASK}"'
        )
    for name, allowed in (("share_features_extractor", True), ("use_sde", False)):
        if policy.get(name, allowed) != allowed:
            raise ValueError(f"{name}={policy[name]} does not go with structured actions; leave it out")
    return actions


def make_head(policy: Any) -> StructuredHead:
    """The head of a policy whose extractor was built for structured actions.

    Raises:
        ValueError: the environment's action space is not the one that is declared, or a policy of another algorithm.
    """
    if not is_sb3s(policy):
        raise ValueError(f"{type(policy).__name__} knows no structured actions; use EntityAttentionPolicy, PPO or A2C")
    layout = policy.features_extractor.layout
    found, declared = policy.action_space, layout.action_space
    same = type(found) is type(declared) and (
        found.shape == declared.shape if isinstance(found, spaces.Box) else found == declared
    )
    if not same:
        raise ValueError(
            f"the action space is {found}, but actions {list(layout.arguments)} make {declared}; give the environment "
            "attn_rl.actions.action_space(actions, capacities)"
        )
    return StructuredHead(layout, policy.mlp_extractor.mlp.latent_dim_pi).to(policy.device)


def is_sb3s(policy: object) -> bool:
    """Whether it draws and weighs actions as SB3's actor-critic policy does; sb3-contrib's maskable one does not."""
    return isinstance(policy, ActorCriticPolicy)
