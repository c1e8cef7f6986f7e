"""The settings of an agent, and the values that work, per environment and policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from gymnasium.envs.registration import EnvSpec, load_env_creator

from attn_rl.adapters import find_spec
from attn_rl.sb3.extractor import EdgeMode, RelationsMode
from attn_rl.training.adaptive import adapted
from attn_rl.training.family_presets import FAMILY_PRESETS
from attn_rl.training.policies import find_policy
from attn_rl.training.ranges import OLD_RELATIONS, check_fields, check_value, did_you_mean


@dataclass(frozen=True)
class Settings:
    """Settings of network and PPO, keywords of :func:`attn_rl.make_agent`; an environment's preset overrides them."""

    # --- the network ---
    d_model: int = 32
    """Width of a token (attention, deepsets) or of the hidden layer (flat)."""
    n_heads: int = 4
    """Attention heads; must divide d_model."""
    n_layers: int = 1
    """Attention blocks; for deepsets, hidden layers of phi. One is enough where the ego asks."""
    net_arch: tuple[int, ...] = (64,)
    """Hidden layers of the actor and of the critic after the features; in Python also dict(pi=[64], vf=[128])."""
    readout: str | None = None
    """Which row is read out: ego, learned, mean, max or one that was registered (docs/extending.md); None: the ego's
    where there is one, else a learned query's."""
    attention: str = "multihead"
    """Attention layer, by its name; others are registered (docs/extending.md)."""
    block: str = "pre_norm"
    """Transformer block, by its name; others are registered."""
    embedding: str = "mlp"
    """Embedding of features, by its name; others are registered."""
    similarity: Literal["dot", "cosine"] = "dot"
    """How a query and a key are compared."""
    log_count: bool = True
    """Scale scores with the log of the number of entities: stays sharp among more than were seen in training."""
    ego_conditioning: bool = True
    """Let every entity's embedding see the ego's features."""
    normalize: bool = True
    """Normalise features inside the network: per type, shared over slots, present rows only."""
    relations: RelationsMode = "auto"
    """Scores that compare like with like: the kinds that the environment declares (declared), every feature with
    itself (features), or both: features where entities attend to entities and nothing is declared between them, no
    edges either (auto). See docs/relations.md."""
    edge_attention: EdgeMode = "biased"
    """What the edges in an observation do: add to the scores of the pairs that they join (biased), also let entities
    look along them alone (only), or nothing (off). See docs/relations.md."""
    edge_values: bool = False
    """Also tell every layer's output along which edges its heads look."""
    sort_by: str | None = None
    """For flat: the feature whose ascending order the slots are put in, in every type that has it."""
    pointer: str | None = None
    """Entity type that the action chooses from (action i = slot i)."""
    presence: int | str | None = None
    """For a plain Box (N,F) observation: the column (name or index) that says which rows exist."""
    ignore: tuple[str, ...] = ()
    """Keys of the observation that are neither entities nor ego, and that nobody shall look at."""

    # --- the past as entities, see docs/memory.md ---
    memory_steps: int = 0
    """Remember the observations of so many steps; 0: none."""
    memory_sightings: int = 0
    """Remember of each entity type the last sightings of so many things that are not seen now; 0: none."""
    memory_actions: bool = False
    """With memory_steps, also remember what was done."""
    memory_rewards: bool = False
    """With memory_steps, also remember what it brought."""
    memory_identity: tuple[str, ...] = ()
    """With memory_sightings, the features by which a thing is recognised; none: the environment's declaration."""

    # --- PPO ---
    learning_rate: float = 3e-3
    """Adam's step size at the start; decays linearly to a tenth. In Python also a schedule."""
    gamma: float = 0.99
    """Discount factor."""
    gae_lambda: float = 0.95
    """Bias-variance trade-off of the advantages."""
    n_steps: int = 32
    """Steps per environment and rollout."""
    batch_size: int = 1024
    """Samples per gradient step."""
    n_epochs: int = 4
    """Passes over a rollout; 10 with at most 8 environments."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    clip_range: float = 0.2
    """PPO's clipping of the probability ratio."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    normalize_advantage: bool = False
    """Scale each minibatch's advantages to unit variance. Where rewards are rare, or a task can be solved for good,
    that turns what little noise there is into full-size gradients."""
    normalize_reward: bool = True
    """Divide rewards by the running spread of discounted returns: whatever their unit and whenever they are paid, they
    are learned from alike."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    shared_baseline: int = 1
    """So many environments in a row play the same games, and are judged against each other; 1: each for itself. For
    games of a fixed length that differ in how hard they are. Fewer where that does not divide n_envs."""


PPO_SETTINGS = (
    *("gamma", "gae_lambda", "n_steps", "batch_size", "n_epochs", "ent_coef", "clip_range", "vf_coef"),
    *("normalize_advantage", "normalize_reward", "max_grad_norm", "shared_baseline"),
)


@dataclass(frozen=True)
class Preset:
    """What works on one environment.

    Attributes:
        total_timesteps: training steps.
        n_envs: environments side by side.
        all_policies: settings of all policies.
        policies: settings of one policy, over ``all_policies``.
        transfer: environment arguments of the zero-shot evaluations.
    """

    total_timesteps: int = 200_000
    n_envs: int = 128
    all_policies: Mapping[str, object] = field(default_factory=dict)
    policies: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    transfer: tuple[Mapping[str, object], ...] = ()

    def settings(self, policy: str, n_envs: int | None = None) -> Settings:
        """The settings of one policy; where the preset names none, what suits ``n_envs`` (None: its own)."""
        named = {**self.all_policies, **self.policies.get(policy, {})}
        return override(Settings(), {**find_policy(policy).defaults, **(named or adapted(n_envs or self.n_envs))})


KEYS = ("total_timesteps", "n_envs", "settings", "policies", "transfer", "variants")
"""What the plain data of a preset may hold."""
REGISTERED: dict[str, Mapping[str, object]] = {}
"""Environment id -> plain data, from :func:`register_preset`."""


def register_preset(env_id: str, preset: Mapping[str, object]) -> None:
    """Give an environment that you cannot edit a preset; one of your own carries it as ``metadata["preset"]``.

    Args:
        env_id: Gymnasium id; a module in front is dropped.
        preset: plain data with any of ``total_timesteps``, ``n_envs``, ``settings`` (of all policies), ``policies``
            (name -> settings over these), ``transfer`` (arguments of each zero-shot evaluation; a number n stands for n
            entities in n slots) and ``variants`` (``"argument=value"`` -> a preset in place of this one).

    Raises:
        ValueError: data of another form, or settings that do not exist.
    """
    read_preset(preset, env_id)
    REGISTERED[env_id.rpartition(":")[2]] = preset


def find_preset(env_id: str, env_kwargs: Mapping[str, object] | None = None) -> Preset:
    """The preset of an environment, or the general one.

    Args:
        env_id: a Gymnasium id, e.g. ``"AttnRL/Seek-v0"``.
        env_kwargs: its arguments; variants such as ``rule="odd"`` have presets of their own.

    Raises:
        ValueError: there is no such environment, or its preset is no preset.
    """
    return preset_of(find_spec(env_id), env_kwargs)


def preset_of(spec: EnvSpec, env_kwargs: Mapping[str, object] | None = None) -> Preset:
    """As :func:`find_preset`, of an environment's specification.

    What was registered for the id comes first, then what the environment's class declares in its metadata: a name alone
    says nothing, somebody else's ``Match`` is another game.
    """
    data = REGISTERED.get(spec.id) or FAMILY_PRESETS.get((_package(spec), spec.id)) or _declared(spec)
    return read_preset(data, spec.id, env_kwargs)


def read_preset(data: Mapping[str, Any], env_id: str, env_kwargs: Mapping[str, object] | None = None) -> Preset:
    """A preset from the plain data that :func:`register_preset` describes.

    Raises:
        ValueError: data of another form, or settings that do not exist.
    """
    where = f"the preset of {env_id}"
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} is {data!r}, expected a mapping with any of {KEYS}")
    for key in data:
        if key in (field.name for field in fields(Settings)):
            raise ValueError(f"{where} has no place for the setting {key!r}; write 'settings': {{{key!r}: ...}}")
        if key not in KEYS:
            raise ValueError(f"{where} has no place for {key!r}; {did_you_mean(key, KEYS)}")
    for name, value in (env_kwargs or {}).items():
        if f"{name}={value}" in data.get("variants", {}):
            return read_preset(data["variants"][f"{name}={value}"], env_id)
    steps, n_envs = data.get("total_timesteps", Preset.total_timesteps), data.get("n_envs", Preset.n_envs)
    shared, policies = data.get("settings", {}), data.get("policies", {})
    try:
        check_value("total_timesteps", steps)
        check_value("n_envs", n_envs)
        for changes in (shared, *policies.values()):
            override(Settings(), changes)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error
    return Preset(steps, n_envs, shared, policies, tuple(map(_transfer, data.get("transfer", ()))))


def _transfer(change: int | Mapping[str, object]) -> Mapping[str, object]:
    return dict.fromkeys(("min_entities", "max_entities", "capacity"), change) if isinstance(change, int) else change


def _package(spec: EnvSpec) -> str:
    """The top-level package of the environment's class."""
    entry = spec.entry_point
    module = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return module.split(":")[0].split(".")[0]


def _declared(spec: EnvSpec) -> Mapping[str, object]:
    """``metadata["preset"]`` of the environment's class, single or batched; empty where there is none."""
    for entry in (spec.entry_point, spec.vector_entry_point):
        made_by: object = load_env_creator(entry) if isinstance(entry, str) else entry
        metadata = getattr(made_by, "metadata", None)
        if isinstance(metadata, Mapping) and "preset" in metadata:
            declared: Mapping[str, object] = metadata["preset"]
            return declared
    return {}


def override(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Change some settings.

    Raises:
        ValueError: a name that does not exist, with the nearest one that does, or a value out of its range.
    """
    known = [field.name for field in fields(Settings)]
    for name in changes:
        if name not in known:
            raise ValueError(f"there is no setting {name!r}; {did_you_mean(name, known)}")
    changed = replace(settings, **changes)
    check_fields(changed)
    return changed


def from_json(stored: Mapping[str, object]) -> Settings:
    """Settings as they were stored: JSON has lists for tuples, and runs of before have other words for relations.

    Raises:
        ValueError: a name that does not exist or a value out of its range.
    """
    changes: dict[str, object] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
    changes = {"normalize_reward": False, **changes}  # younger than some runs
    if "relations" in changes:
        changes["relations"] = OLD_RELATIONS.get(str(changes["relations"]), changes["relations"])
    return override(Settings(), changes)
