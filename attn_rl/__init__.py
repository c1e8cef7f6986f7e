"""Attention policies over entities for Stable-Baselines3.

The public names are imported when first used: TensorBoard loads this package for its tab and needs no torch. The
environments' ids (``AttnRL/Seek-v0``, ...) are registered at once: Gymnasium reads no entry points since 1.0.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attn_rl import envs  # noqa: F401

if TYPE_CHECKING:
    from attn_rl.backends.choose import using
    from attn_rl.backends.explain import explain
    from attn_rl.deployment.export import export
    from attn_rl.entities import EntitySpec
    from attn_rl.inspection.record.recorder import record_attention
    from attn_rl.inspection.tensorboard.callback import AttentionCallback
    from attn_rl.nn.attention import attend
    from attn_rl.sb3.extractor import DeepSetsExtractor, EntityAttentionExtractor, FlatExtractor
    from attn_rl.sb3.policy import EntityAttentionPolicy
    from attn_rl.training.agent import make_agent
    from attn_rl.training.check.check import check
    from attn_rl.training.loading import load
    from attn_rl.training.solve import solve
    from attn_rl.training.train import train
    from attn_rl.vec_envs.adapter import make_vec_env

__version__ = "0.2.0"

_HOMES = {
    "AttentionCallback": "attn_rl.inspection.tensorboard.callback",
    "DeepSetsExtractor": "attn_rl.sb3.extractor",
    "EntityAttentionExtractor": "attn_rl.sb3.extractor",
    "EntityAttentionPolicy": "attn_rl.sb3.policy",
    "EntitySpec": "attn_rl.entities",
    "FlatExtractor": "attn_rl.sb3.extractor",
    "attend": "attn_rl.nn.attention",
    "check": "attn_rl.training.check.check",
    "explain": "attn_rl.backends.explain",
    "export": "attn_rl.deployment.export",
    "load": "attn_rl.training.loading",
    "make_agent": "attn_rl.training.agent",
    "make_vec_env": "attn_rl.vec_envs.adapter",
    "record_attention": "attn_rl.inspection.record.recorder",
    "solve": "attn_rl.training.solve",
    "train": "attn_rl.training.train",
    "using": "attn_rl.backends.choose",
}

__all__ = [
    "AttentionCallback",
    "DeepSetsExtractor",
    "EntityAttentionExtractor",
    "EntityAttentionPolicy",
    "EntitySpec",
    "FlatExtractor",
    "attend",
    "check",
    "explain",
    "export",
    "load",
    "make_agent",
    "make_vec_env",
    "record_attention",
    "solve",
    "train",
    "using",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attn_rl' has no attribute {name!r}; its names are {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
