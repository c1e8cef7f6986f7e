"""Pictures of records, drawn with NumPy and Pillow alone: ``VIEWS`` holds those that go to TensorBoard."""

from attn_rl.inspection.draw.cells import cells_and_words
from attn_rl.inspection.draw.gallery import VIEWS, View, named_views, pictures
from attn_rl.inspection.draw.grid import heads_by_entities, layers
from attn_rl.inspection.draw.notebook import record_png
from attn_rl.inspection.draw.scene import disagreements, episode_frames, overlay
from attn_rl.inspection.draw.timeline import episode_strip, training

__all__ = [
    "VIEWS",
    "View",
    "cells_and_words",
    "disagreements",
    "episode_frames",
    "episode_strip",
    "heads_by_entities",
    "layers",
    "named_views",
    "overlay",
    "pictures",
    "record_png",
    "training",
]
