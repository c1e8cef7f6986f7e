"""Attention policies over entities for Stable-Baselines3."""

from attn_rl.entities import EntitySpec
from attn_rl.inspection.callback import AttentionCallback
from attn_rl.inspection.recorder import record_attention
from attn_rl.nn.attention import attend
from attn_rl.sb3.extractor import DeepSetsExtractor, EntityAttentionExtractor, FlatExtractor
from attn_rl.sb3.policy import EntityAttentionPolicy
from attn_rl.sb3.vec_env import make_vec_env
from attn_rl.training.agent import make_agent
from attn_rl.training.loading import load

__all__ = [
    "AttentionCallback",
    "DeepSetsExtractor",
    "EntityAttentionExtractor",
    "EntityAttentionPolicy",
    "EntitySpec",
    "FlatExtractor",
    "attend",
    "load",
    "make_agent",
    "make_vec_env",
    "record_attention",
]
