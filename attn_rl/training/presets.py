"""The settings of an agent, and the values that work, per environment and policy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

PolicyName = Literal["attention", "deepsets", "flat"]
Relations = Literal["on", "declared", "learned", "off"]


@dataclass(frozen=True)
class Settings:
    """Everything that :func:`attn_rl.make_agent` can be told. The defaults are good ones; presets override them."""

    # --- the network ---
    d_model: int = 32
    """Width of a token (attention, deepsets) or of the hidden layer (flat)."""
    n_heads: int = 4
    """Attention heads; must divide d_model."""
    n_layers: int = 1
    """Attention blocks; for deepsets, hidden layers of phi. One is enough where the ego asks."""
    net_arch: tuple[int, ...] = (64,)
    """Hidden layers of the actor and of the critic after the features."""
    readout: Literal["ego", "learned", "mean", "max"] | None = None
    """Which row is read out; None: the ego's where there is one, else a learned query's."""
    similarity: Literal["dot", "cosine"] = "dot"
    """How a query and a key are compared."""
    log_count: bool = True
    """Scale scores with the log of the number of entities: stays sharp among more than were seen in training."""
    ego_conditioning: bool = True
    """Let every entity's embedding see the ego's features."""
    normalize: bool = True
    """Normalise features inside the network: per type, shared over slots, present rows only."""
    relations: Relations = "on"
    """Scores that compare like with like: the kinds that the environment declares, and (on) every feature with itself
    where entities attend to entities and nothing is declared between them; or only one of the two. See
    docs/relations.md."""
    sort_by: str | None = None
    """For flat: the feature whose ascending order the slots are put in, in every type that has it."""
    pointer: str | None = None
    """Entity type that the action chooses from (action i = slot i)."""
    presence: int | str | None = None
    """For a plain Box (N,F) observation: the column (name or index) that says which rows exist."""

    # --- PPO ---
    learning_rate: float = 3e-3
    """Adam's step size at the start; decays linearly to a tenth."""
    gamma: float = 0.99
    """Discount factor."""
    gae_lambda: float = 0.95
    """Bias-variance trade-off of the advantages."""
    n_steps: int = 32
    """Steps per environment and rollout."""
    batch_size: int = 1024
    """Samples per gradient step."""
    n_epochs: int = 4
    """Passes over a rollout."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    clip_range: float = 0.2
    """PPO's clipping of the probability ratio."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    normalize_advantage: bool = True
    """Scale each minibatch's advantages to unit variance. Where a task can be solved for good, that turns what
    little noise remains into full-size gradients, which may undo it; with rewards of order 1, off is safe."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this norm."""


PPO_SETTINGS = (
    "gamma",
    "gae_lambda",
    "n_steps",
    "batch_size",
    "n_epochs",
    "ent_coef",
    "clip_range",
    "vf_coef",
    "normalize_advantage",
    "max_grad_norm",
)


@dataclass(frozen=True)
class Preset:
    """What works on one environment.

    Attributes:
        total_timesteps: training steps.
        n_envs: environments side by side.
        every: settings of all policies.
        policies: settings of one policy, over ``every``.
        transfer: environment arguments of the zero-shot evaluations.
    """

    total_timesteps: int = 200_000
    n_envs: int = 128
    every: Mapping[str, Any] = None  # type: ignore[assignment]
    policies: Mapping[str, Mapping[str, Any]] = None  # type: ignore[assignment]
    transfer: tuple[Mapping[str, Any], ...] = ()

    def settings(self, policy: str) -> Settings:
        """The settings of one policy."""
        sized = {"d_model": 64} if policy == "flat" else {}  # about as many parameters as the others
        return replace(Settings(), **{**sized, **(self.every or {}), **(self.policies or {}).get(policy, {})})


def _counts(*counts: int) -> tuple[dict[str, int], ...]:
    return tuple({"min_entities": n, "max_entities": n, "capacity": n} for n in counts)


MOST_FORAGE = {"food": 4, "hunters": 2, "poison": 3, "walls": 3}

PRESETS: dict[str, Preset] = {
    "Match": Preset(
        total_timesteps=50_000,
        policies={
            "attention": {"learning_rate": 5e-3},
            "deepsets": {"learning_rate": 8e-3},
            "flat": {"learning_rate": 5e-3, "d_model": 58},
        },
        transfer=_counts(16, 32),
    ),
    "Match[rule=odd]": Preset(
        total_timesteps=100_000,
        every={"normalize_advantage": False},
        policies={
            "attention": {"learning_rate": 3e-3, "n_layers": 2},
            "deepsets": {"learning_rate": 5e-3, "d_model": 44},
            "flat": {"learning_rate": 2e-3, "d_model": 80},
        },
        transfer=_counts(16, 31),
    ),
    "Seek": Preset(
        every={"gamma": 0.95, "learning_rate": 8e-3},
        transfer=_counts(16, 32),
    ),
    "Dodge": Preset(
        every={"gamma": 0.97, "learning_rate": 8e-3, "normalize": False},  # features come scaled
        policies={
            "attention": {"learning_rate": 5e-3, "ego_conditioning": False},
            "flat": {"learning_rate": 5e-3},
        },
        transfer=_counts(12, 16),
    ),
    "Boxes": Preset(
        total_timesteps=300_000,
        every={"gamma": 0.95, "pointer": "items", "ego_conditioning": False, "learning_rate": 4e-3},
        policies={
            "deepsets": {"learning_rate": 5e-3},
            "flat": {"learning_rate": 5e-3, "d_model": 72},
        },
        transfer=({"min_depth": 4, "max_depth": 4, "capacity": 16},),
    ),
    "Forage": Preset(
        total_timesteps=300_000,
        every={"gamma": 0.97, "learning_rate": 5e-3},
        policies={"flat": {"d_model": 74}},
        transfer=({"min_entities": MOST_FORAGE, "max_entities": {name: 2 * n for name, n in MOST_FORAGE.items()}},),
    ),
    "Triage": Preset(
        every={"pointer": "enemies", "learning_rate": 8e-3},
        policies={"flat": {"d_model": 88}},
        transfer=({"min_entities": 6, "max_entities": 12, "capacity": 12}, *_counts(16)),
    ),
    "Route": Preset(every={"pointer": "cities", "gamma": 1.0}, transfer=_counts(12)),
    "CherryPick": Preset(total_timesteps=250_000, every={"pointer": "cherries", "gamma": 1.0, "learning_rate": 4e-3}),
    "Tiles": Preset(total_timesteps=10_000, n_envs=64, every={"n_steps": 4, "batch_size": 64, "gamma": 0.0}),
    "MiniGrid-Fetch-8x8-N3": Preset(
        n_envs=32,
        every={"gamma": 0.95, "learning_rate": 2e-3, "batch_size": 256},
        transfer=({"numObjs": 6}, {"numObjs": 12}),
    ),
    # Steps are dear here (20 to 60 a second), so few environments, short rollouts and many passes over each; untuned.
    **dict.fromkeys(
        ("highway", "highway-fast", "intersection"),
        Preset(50_000, 8, every={"batch_size": 64, "n_epochs": 10, "gamma": 0.9, "learning_rate": 2e-3}),
    ),
}


def find_preset(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> Preset:
    """The preset of an environment, or the general one.

    Args:
        env_id: a Gymnasium id, e.g. ``"envs:AttnRL/Seek-v0"``.
        env_kwargs: its arguments; variants such as ``rule="odd"`` have presets of their own.
    """
    name = env_id.split(":")[-1].split("/")[-1].rsplit("-v", 1)[0]
    for key, value in (env_kwargs or {}).items():
        if f"{name}[{key}={value}]" in PRESETS:
            return PRESETS[f"{name}[{key}={value}]"]
    return PRESETS.get(name, Preset())


def override(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Change some settings.

    Raises:
        ValueError: a name that does not exist, with the nearest one that does.
    """
    known = [field.name for field in fields(Settings)]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {known}"
            raise ValueError(f"there is no setting {name!r}; {hint}")
    return replace(settings, **changes)
