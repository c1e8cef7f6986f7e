"""The same agent on Ray RLlib: from one machine to a cluster, with the same weights. See ``docs/cluster.md``.

Imported only on request: ``import attn_rl`` knows nothing of Ray.
"""

try:
    import ray.rllib  # noqa: F401 (asked for first, so that the message is ours)
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"attn_rl.ray needs Ray RLlib ({error}); install it with: pip install 'attn_rl[ray]'", name=error.name
    ) from error

from attn_rl.ray.callback import AttentionCallback
from attn_rl.ray.config import ppo_config
from attn_rl.ray.learner import EntityPPOLearner
from attn_rl.ray.module import EntityRLModule
from attn_rl.ray.round_trip import from_sb3, to_sb3
from attn_rl.ray.runner import EntityEnvRunner

__all__ = [
    "AttentionCallback",
    "EntityEnvRunner",
    "EntityPPOLearner",
    "EntityRLModule",
    "from_sb3",
    "ppo_config",
    "to_sb3",
]
