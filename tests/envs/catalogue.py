"""Every environment variant that the contract is tested on, with the scores its docstring states."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Variant(NamedTuple):
    """An environment id's last part, its arguments and the success rates it must show."""

    name: str
    kwargs: dict[str, Any]
    oracle: float
    """Least success rate of the scripted policy."""
    random: tuple[float, float]
    """Least and greatest success rate of a random policy."""

    @property
    def id(self) -> str:
        return f"AttnRL/{self.name}-v0"

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.kwargs.items())])


FEW = {
    "min_entities": {"food": 1, "hunters": 0, "poison": 0, "walls": 0},
    "max_entities": {"food": 5},
    "capacity": {"food": 7, "hunters": 3, "poison": 5, "walls": 4},
}
DENSE = {
    **{"spawn_probability": 1.0, "initial_vehicle_count": 13, "destination": "o3"},
    **{"duration": 11, "observe_intentions": True, "capacity": 7},
}
MIXED_SHOPS = {
    "min_entities": {"jobs": 2, "machines": 3},
    "max_entities": {"jobs": 7, "machines": 5},
    "capacity": {"jobs": 11, "machines": 5},
    "schedule": "insertion",
}
SKIRMISH = {
    "min_entities": {"units": 3, "enemies": 1},
    "max_entities": {"units": 5, "enemies": 3},
    "capacity": {"units": 7, "enemies": 3},
}
VARIANTS = [
    Variant("Boxes", {}, 1.0, (0.07, 0.13)),
    Variant("Boxes", {"min_depth": 4, "max_depth": 4, "branch_length": 2, "capacity": 23}, 1.0, (0, 0.02)),
    Variant("CherryPick", {}, 1.0, (0, 0.01)),
    Variant("CherryPick", {"min_entities": 2, "max_entities": 11, "capacity": 13}, 1.0, (0.005, 0.035)),
    Variant("Dodge", {}, 0.985, (0, 0.005)),
    Variant("Dodge", {"continuous": True, "capacity": 11}, 0.985, (0, 0.005)),
    Variant("Forage", {}, 0.96, (0, 0.01)),
    Variant("Forage", FEW, 0.95, (0.005, 0.04)),
    Variant("Hidden", {}, 1.0, (0.01, 0.1)),
    Variant("Hidden", {"min_entities": 2, "max_entities": 11, "capacity": 13, "sight": 0.9}, 1.0, (0, 0.1)),
    Variant("Intersection", {}, 0.42, (0.14, 0.23)),
    Variant("Intersection", DENSE, 0.25, (0.1, 0.45)),
    Variant("JobShop", {}, 0.985, (0.06, 0.12)),
    Variant("JobShop", {"max_entities": 7, "min_entities": 2, "schedule": "non-delay"}, 0.985, (0, 1)),
    Variant("JobShop", MIXED_SHOPS, 0.985, (0, 1)),
    Variant("JobShop", {"features": "operations", "min_entities": 3, "max_entities": 5}, 0.985, (0, 1)),
    Variant("Match", {}, 1.0, (0.22, 0.28)),
    Variant("Match", {"rule": "odd"}, 1.0, (0.22, 0.28)),
    Variant("Match", {"rule": "odd", "levels": 7, "max_entities": 31, "capacity": 37}, 1.0, (0.22, 0.28)),
    Variant("Mines", {}, 0.99, (0.005, 0.04)),
    Variant("Mines", {"min_entities": 1, "max_entities": 13, "capacity": 17, "map_size": 0}, 0.99, (0.005, 0.05)),
    Variant("Pick", {}, 1.0, (0, 0.01)),
    Variant("Pick", {"min_entities": 3, "max_entities": 5, "capacity": 7, "take": 3}, 1.0, (0.005, 0.08)),
    Variant("Recall", {}, 1.0, (0, 0.01)),
    Variant("Recall", {"min_entities": 2, "max_entities": 7, "capacity": 11, "lag": 7}, 1.0, (0, 0.01)),
    Variant("Remember", {}, 1.0, (0.22, 0.28)),
    Variant("Remember", {"max_entities": 7, "capacity": 11, "length": 5}, 1.0, (0.22, 0.28)),
    Variant("Route", {}, 1.0, (0, 0.03)),
    Variant("Route", {"min_entities": 2, "max_entities": 7, "capacity": 11, "report_gap": True}, 1.0, (0.3, 0.5)),
    Variant("Seek", {}, 1.0, (0.005, 0.04)),
    Variant("Seek", {"min_entities": 32, "max_entities": 41, "capacity": 64, "penalty": 0.5}, 1.0, (0, 0.04)),
    Variant("Squad", {}, 0.93, (0, 0.03)),
    Variant("Squad", SKIRMISH, 0.9, (0, 0.2)),
    Variant("Tiles", {}, 1.0, (0.10, 0.15)),
    Variant("Tiles", {"min_entities": 5, "max_entities": 7, "capacity": 11}, 1.0, (0.10, 0.15)),
    Variant("Triage", {}, 1.0, (0, 0.01)),
    Variant("Triage", {"min_entities": 6, "max_entities": 13, "capacity": 17}, 1.0, (0, 0.01)),
]


def play(env: Any, policy: str, episodes: int, seed: int = 0) -> tuple[float, float]:
    """Play the first ``episodes // num_envs`` episodes of each sub-environment.

    Returns:
        Success rate, mean return. Counting the same number of episodes of each sub-environment
        keeps short episodes from being over-represented.
    """
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    quota = episodes // env.num_envs
    played, success, total = np.zeros(env.num_envs, int), 0.0, 0.0
    while (played < quota).any():
        actions = env.oracle(obs) if policy == "oracle" else env.action_space.sample()
        obs, reward, terminated, truncated, infos = env.step(actions)
        counts = played < quota
        total += float(reward[counts].sum())
        if (terminated | truncated).any():
            success += float(infos["final_info"]["is_success"][counts].sum())
            played += terminated | truncated
    return success / (quota * env.num_envs), total / (quota * env.num_envs)
