"""Who takes part in the speed benchmark, and in which settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from attn_rl import EntityAttentionPolicy, EntitySpec, make_vec_env
from attn_rl.backends.choose import force
from attn_rl.sb3.entity_heads import DEFAULT_NET_ARCH
from attn_rl.sb3.ppo import EntityPPO
from benchmarks.crowd import batched, one_by_one
from benchmarks.rivals import EgoAttentionExtractor, MultiheadAttentionExtractor, TransformerEncoderExtractor

NET_ARCH = [64, 64]


@dataclass(frozen=True)
class Setting:
    """Where a row is measured: the crowd and PPO's sizes."""

    n_envs: int
    n_steps: int
    batch_size: int
    n_epochs: int
    n_slots: int = 16
    n_features: int = 8
    presence: float = 0.5
    d_model: int = 64

    @property
    def shape(self) -> tuple[int, int, float]:
        """Of the crowd: slots, features, share of slots present."""
        return self.n_slots, self.n_features, self.presence


SETTINGS = {
    "large": Setting(n_envs=64, n_steps=32, batch_size=1024, n_epochs=4),
    "default": Setting(n_envs=1, n_steps=2048, batch_size=64, n_epochs=10),
}


def make_ppo(setting: Setting, env: VecEnv, policy: Any, algorithm: type[PPO] = PPO, **policy_kwargs: Any) -> PPO:
    """The agent of a row."""
    policy_kwargs.setdefault("net_arch", NET_ARCH)
    return algorithm(
        policy,
        env,
        n_steps=setting.n_steps,
        batch_size=setting.batch_size,
        n_epochs=setting.n_epochs,
        policy_kwargs=policy_kwargs,
        device="cpu",
        seed=0,
    )


def rival(extractor: type, n_layers: int) -> Callable[[Setting], PPO]:
    """Stock SB3 with a naive extractor."""

    def build(setting: Setting) -> PPO:
        width = setting.d_model
        settings = {"d_model": width, "n_heads": 4, "n_layers": n_layers, "d_feedforward": 2 * width}
        return make_ppo(
            setting,
            one_by_one(setting.n_envs, *setting.shape),
            "MlpPolicy",
            features_extractor_class=extractor,
            features_extractor_kwargs=settings,
        )

    return build


def ours(net_arch: list[int] | None = None, *, kernels: bool = True, **network: int) -> Callable[[Setting], PPO]:
    """Our policy, batched; sizes not given are the setting's. Without ``kernels``: as where there is no compiler."""

    def build(setting: Setting) -> PPO:
        agent = make_ppo(
            setting,
            batched(setting.n_envs, *setting.shape),
            EntityAttentionPolicy,
            EntityPPO,
            features_extractor_kwargs={"presence": setting.n_features - 1, "d_model": setting.d_model, **network},
            net_arch=net_arch or NET_ARCH,
        )
        if not kernels:
            force(agent.policy, "trimmed")
        return agent

    return build


def entities(env_id: str, n_layers: int, relations: str, **env_kwargs: Any) -> Callable[[Setting], PPO]:
    """Our policy on an environment of ours, with the setting's slots, half of them present: what relations cost."""

    def build(setting: Setting) -> PPO:
        least = max(setting.n_slots // 4, 3)  # Match's odd needs three
        counts = {"min_entities": least, "max_entities": max(3 * setting.n_slots // 4, least)}
        slots = {"capacity": setting.n_slots, **counts, **env_kwargs}
        env = make_vec_env(env_id, setting.n_envs, env_kwargs=slots)
        spec = EntitySpec.from_env(env)
        told = {"names": spec.names, "kinds": None if relations == "auto" else spec.kinds}
        network = {"d_model": setting.d_model, "n_layers": n_layers, "relations": relations}
        return make_ppo(setting, env, EntityAttentionPolicy, EntityPPO, features_extractor_kwargs=told | network)

    return build


SEEK, MATCH = "AttnRL/Seek-v0", "AttnRL/Match-v0"
ROWS: dict[str, Callable[[Setting], PPO]] = {
    "mlp": lambda setting: make_ppo(setting, one_by_one(setting.n_envs, *setting.shape), "MlpPolicy"),
    "mlp-batched": lambda setting: make_ppo(setting, batched(setting.n_envs, *setting.shape), "MlpPolicy"),
    "multihead-1": rival(MultiheadAttentionExtractor, 1),
    "multihead-2": rival(MultiheadAttentionExtractor, 2),
    "ego-attention": rival(EgoAttentionExtractor, 1),
    "encoder-1": rival(TransformerEncoderExtractor, 1),
    "encoder-2": rival(TransformerEncoderExtractor, 2),
    "ours-1": ours(n_layers=1),
    "ours-2": ours(n_layers=2),
    "ours-default": ours(DEFAULT_NET_ARCH, d_model=32),
    "ours-1-modules": ours(n_layers=1, kernels=False),
    "ours-2-modules": ours(n_layers=2, kernels=False),
    "ours-default-modules": ours(DEFAULT_NET_ARCH, d_model=32, kernels=False),
    "seek-1-plain": entities(SEEK, 1, "off"),
    "seek-1-declared": entities(SEEK, 1, "declared"),
    "odd-2-plain": entities(MATCH, 2, "off", rule="odd"),
    "odd-2-declared": entities(MATCH, 2, "declared", rule="odd"),
    "odd-2-learned": entities(MATCH, 2, "auto", rule="odd"),
}
