"""Policies of every kind that can be exported, with weights and statistics as after training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import MultiInputActorCriticPolicy

from attn_rl import DeepSetsExtractor, EntityAttentionExtractor, FlatExtractor
from attn_rl.nn.normalizer import RunningNormalizer
from tests.sb3.policies import make_policy, observation_space

COLOURS = {"colour": {"ego": ("f0", "f1"), "items": ("f1", "f2")}}
PLACES = {"place": {"compare": "position", "items": ("f0", "f1")}}
FAR_PLACES = {"place": {"compare": "position", "items": ("f0", "f1"), "far": ("f3", "f4")}}
SORTS = {"sort": {"compare": "category", "ego": ("f0", "f1"), "items": (("f0", "f1"), ("f1", "f2"))}}
CATEGORIES = {"ego": {"f1": 4}, "items": {"f0": ("red", "green", "blue"), "f2": ("0", "1", "2", "3")}}
SAME = {"same": {"ego": ("f1",), "items": ("f2",)}}
BOX = spaces.Box(np.float32([[-0.5, -2.0]]), np.float32([[0.5, 0.3]]), dtype=np.float32)


class Case:
    """How a policy is built.

    Args:
        action_space: of it.
        network: keywords of the extractor.
        space: keywords of ``observation_space``, or a space.
        policy: keywords of the policy.
    """

    def __init__(self, action_space: spaces.Space, network: dict | None = None, space: Any = None, **policy: Any):
        self.action_space, self.network, self.policy = action_space, network or {}, policy
        self.space = space if isinstance(space, spaces.Space) else observation_space(7, **(space or {}))

    def make(self, seed: int = 0) -> Any:
        torch.manual_seed(seed)
        made = make_policy(self.space, self.action_space, features_extractor_kwargs=self.network, **self.policy)
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if name != "log_std":
                    parameter.add_(0.1 * torch.randn_like(parameter))
            for part in made.modules():
                if isinstance(part, RunningNormalizer):
                    part.running_mean.normal_(std=0.3)
                    part.running_var.uniform_(0.3, 3.0)
        return made


CASES = {
    "plain": Case(spaces.Discrete(5)),
    "pointer-masks": Case(spaces.Discrete(7), space={"n_mask": 7}, pointer="items"),
    "what-to-whom": Case(spaces.MultiDiscrete([3, 7]), space={"n_mask": 10, "far": True}, pointer="items"),
    "masks": Case(spaces.Discrete(4), space={"n_mask": 4}),
    "box": Case(BOX, {"n_layers": 2}),
    "switches": Case(spaces.MultiBinary(3)),
    "two-choices": Case(spaces.MultiDiscrete([2, 3])),
    "two-layers": Case(spaces.Discrete(5), {"n_layers": 2, "log_count": False}, {"far": True}),
    "colours": Case(spaces.Discrete(5), {"relations": "declared", "kinds": COLOURS}),
    "places": Case(spaces.Discrete(5), {"relations": "declared", "kinds": PLACES, "n_layers": 2}),
    "far-places": Case(
        spaces.Discrete(7),
        {"relations": "auto", "kinds": FAR_PLACES | COLOURS, "n_layers": 2},
        {"far": True},
        pointer="items",
    ),
    "categories": Case(spaces.Discrete(5), {"relations": "auto", "categories": CATEGORIES, "n_layers": 2}),
    "same-categories": Case(spaces.Discrete(5), {"relations": "declared", "categories": CATEGORIES, "kinds": SAME}),
    "sorts": Case(spaces.Discrete(5), {"relations": "declared", "kinds": SORTS}),
    "features": Case(spaces.Discrete(5), {"relations": "auto", "readout": "mean"}),
    "learned-query": Case(spaces.Discrete(5), {"readout": "learned"}),
    "no-ego": Case(spaces.Discrete(5), {"n_layers": 2}, {"ego": False}),
    "no-lead": Case(spaces.Discrete(5), {"readout": "max"}, {"ego": False}),
    "mean": Case(spaces.Discrete(5), {"readout": "mean"}),
    "max-cosine": Case(spaces.Discrete(5), {"readout": "max", "similarity": "cosine", "n_layers": 2}),
    "cosine": Case(spaces.Discrete(5), {"similarity": "cosine", "features_dim": 11}),
    "bare": Case(spaces.Discrete(5), {"normalize": False, "ego_conditioning": False}, net_arch=[]),
    "two-networks": Case(spaces.Discrete(5), share_features_extractor=False, net_arch={"pi": [11, 7], "vf": []}),
    "relu": Case(spaces.Discrete(5), activation_fn=torch.nn.ReLU),
    "stock": Case(
        spaces.Discrete(5), policy=MultiInputActorCriticPolicy, features_extractor_class=EntityAttentionExtractor
    ),
    "deepsets": Case(spaces.Discrete(7), pointer="items", features_extractor_class=DeepSetsExtractor),
    "deepsets-no-ego": Case(
        spaces.Discrete(5), {"n_layers": 2}, {"ego": False}, features_extractor_class=DeepSetsExtractor
    ),
    "table": Case(spaces.Discrete(5), {"presence": 1}, spaces.Box(-1, 1, (7, 4), np.float32)),
    "rows-all-there": Case(spaces.Discrete(5), space=spaces.Box(-1, 1, (7, 4), np.float32)),
}
"""By name; the number of slots is free in all."""

FLAT = Case(spaces.Discrete(5), features_extractor_class=FlatExtractor)
"""Its number of slots is not."""
