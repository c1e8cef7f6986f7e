"""Refuse environment wrappers that treat a set of entities as if it were a vector or an image."""

from __future__ import annotations

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack, VecNormalize

from attn_rl.edge_keys import is_edge_key


def check_wrappers(env: VecEnv, presence: str | int | None = None) -> None:
    """Raise where a wrapper around ``env`` would silently spoil what the policy sees.

    A policy is handed the observation space only and cannot tell; whoever holds the environment can.
    ``VecNormalize(norm_obs=False)``, ``VecNormalize`` of ego blocks alone and ``VecFrameStack`` over rows that all
    exist are harmless and pass.

    Args:
        env: the environment as the algorithm will get it.
        presence: for a plain Box, the column that says which rows exist.

    Raises:
        ValueError: entities or their presence are normalised slot by slot, or frames with a presence column stacked.
    """
    if _is_wrapped(env, gym.wrappers.NormalizeObservation):
        raise ValueError(_SLOT_BY_SLOT.format("NormalizeObservation", "the observation", "remove the wrapper"))
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecNormalize) and (blocks := _normalized_blocks(env)):
            kept = "pass norm_obs=False (rewards may stay normalised) or only 1-D Boxes in norm_obs_keys"
            raise ValueError(_SLOT_BY_SLOT.format("VecNormalize", blocks, kept))
        if isinstance(env, VecFrameStack) and presence is not None:
            raise ValueError(
                f"VecFrameStack repeats the presence column {presence!r} once per frame and the oldest frame's would "
                "count; turn the observation into a Dict with a presence key (attn_rl.wrappers) and put the past into "
                "the entities' features"
            )
        env = env.venv


_SLOT_BY_SLOT = (
    "{} scales {} with statistics per slot: the policy would no longer treat entities alike, and absent rows and "
    "presence would no longer be zeros and ones; {}. The policy normalises inside the network (normalize=True)"
)


def _is_wrapped(env: VecEnv, wrapper: type[gym.Wrapper]) -> bool:
    try:
        return any(env.env_is_wrapped(wrapper))
    except AttributeError:  # what it wraps cannot be asked, see attn_rl.entities.env_metadata
        return False


def _normalized_blocks(env: VecNormalize) -> list[str]:
    """The keys of entities, presence and masks that ``env`` normalises; ``"the observation"`` for a plain Box."""
    if not env.norm_obs:
        return []
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        return ["the observation"]
    vectors = {key for key, block in space.spaces.items() if len(block.shape or ()) == 1}
    flags = {key for key in vectors if key.endswith("_present") or key == "action_mask" or is_edge_key(key)}
    return sorted(set(env.norm_obs_keys or ()) - (vectors - flags))
