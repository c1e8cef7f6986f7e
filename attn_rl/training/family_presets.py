"""The presets of environments in other projects, which cannot carry ours: HighwayEnv, MinAtar, MiniGrid."""

from __future__ import annotations

from collections.abc import Mapping

# Steps are dear here (20 to 60 a second), so few environments, short rollouts and many passes over each; untuned.
_DRIVING = {
    "total_timesteps": 50_000,
    "n_envs": 8,
    "settings": {"batch_size": 64, "n_epochs": 10, "gamma": 0.9, "learning_rate": 2e-3},
}
# Untuned.
_MINATAR = {
    "total_timesteps": 1_000_000,
    "n_envs": 32,
    "settings": {"n_steps": 64, "batch_size": 512, "learning_rate": 2e-3},
}
# Untuned, as first measured. Two layers: cells look at the words of the mission, then the ego looks at the cells.
_MINIGRID = {
    "total_timesteps": 300_000,
    "n_envs": 32,
    "settings": {
        **{"n_layers": 2, "gamma": 0.99, "learning_rate": 2e-3, "n_steps": 64, "batch_size": 512},
        **{"normalize_advantage": True, "normalize_reward": False},
    },
}
FAMILY_PRESETS: dict[tuple[str, str], Mapping[str, object]] = {
    **{
        ("minigrid", f"MiniGrid-{name}-v0"): _MINIGRID
        for name in (
            *("DoorKey-5x5", "Fetch-5x5-N2", "FourRooms", "GoToDoor-5x5", "KeyCorridorS3R1", "PutNear-6x6-N2"),
            *("RedBlueDoors-6x6", "Unlock"),
        )
    },
    ("minigrid", "MiniGrid-Fetch-8x8-N3-v0"): {**_MINIGRID, "transfer": ({"numObjs": 6}, {"numObjs": 12})},
    **{
        ("minatar", f"MinAtar/{game}-v{version}"): _MINATAR
        for game in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
        for version in (0, 1)
    },
    ("highway_env", "highway-v0"): _DRIVING,
    ("highway_env", "highway-fast-v0"): _DRIVING,
    ("highway_env", "intersection-v0"): _DRIVING,
    ("highway_env", "intersection-v1"): _DRIVING,
    ("highway_env", "intersection-v2"): _DRIVING,
}
"""(Package that holds the environment's class, id) -> plain data."""
