"""Environments made of entities; importing this package, as ``import attn_rl`` does, registers them.

``gym.make("AttnRL/Seek-v0")`` makes one game, ``gym.make_vec("AttnRL/Seek-v0", num_envs=64)`` a batch of them in NumPy.
Where nothing has imported attn_rl, put it in front: ``gym.make("attn_rl:AttnRL/Seek-v0")``.

An installed package, and a checkout too, has this folder as ``attn_rl.envs``.
"""

from gymnasium.envs.registration import register, registry

NAMES = (
    "Boxes",
    "CherryPick",
    "Dodge",
    "Forage",
    "Hidden",
    "Intersection",
    "JobShop",
    "Match",
    "Mines",
    "Pick",
    "Recall",
    "Remember",
    "Route",
    "Seek",
    "Squad",
    "Tiles",
    "Triage",
)
"""The environments' names; the id of ``Seek`` is ``AttnRL/Seek-v0``."""

for _name in NAMES:
    _id, _module = f"AttnRL/{_name}-v0", f"{__name__}.{_name.lower()}"
    if _id not in registry:  # a checkout can import this file as attn_rl.envs and as envs
        register(_id, entry_point=f"{_module}:{_name}Env", vector_entry_point=f"{_module}:{_name}VectorEnv")
