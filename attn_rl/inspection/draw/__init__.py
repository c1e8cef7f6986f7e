"""Pictures of records, drawn with NumPy and Pillow alone: every view is a function from a record to an RGB array."""

from attn_rl.inspection.draw.grid import heads_by_entities, layers
from attn_rl.inspection.draw.scene import disagreements, episode_gif, overlay, worst_states
from attn_rl.inspection.draw.timeline import episode_strip, training

__all__ = [
    "disagreements",
    "episode_gif",
    "episode_strip",
    "heads_by_entities",
    "layers",
    "overlay",
    "training",
    "worst_states",
]
