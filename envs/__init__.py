"""Environments made of entities; importing this package registers them.

``gym.make("envs:AttnRL/Seek-v0")`` makes one game, ``gym.make_vec("envs:AttnRL/Seek-v0", num_envs=64)``
a batch of them in NumPy.
"""

from gymnasium.envs.registration import register

NAMES = ("Boxes", "CherryPick", "Dodge", "Forage", "Match", "Route", "Seek", "Tiles", "Triage")
"""The environments' names; the id of ``Seek`` is ``AttnRL/Seek-v0``."""

for _name in NAMES:
    _module = f"envs.{_name.lower()}"
    register(
        id=f"AttnRL/{_name}-v0",
        entry_point=f"{_module}:{_name}Env",
        vector_entry_point=f"{_module}:{_name}VectorEnv",
    )
