"""Observation wrappers: other forms of a varying set of entities -> the Dict contract of ``docs/observations.md``.

They need Gymnasium and NumPy only.
"""

from attn_rl.wrappers.arrays import ArraysToEntities, BoxToEntities
from attn_rl.wrappers.block import EntityBlock
from attn_rl.wrappers.grid import GridToEntities, ImageToEntities
from attn_rl.wrappers.memory import MemoryWrapper
from attn_rl.wrappers.parts import DiscreteToBox, FlattenDict
from attn_rl.wrappers.sets import GraphToEntities, SequenceToEntities
from attn_rl.wrappers.text import TextToEntities, collect_vocabulary

__all__ = [
    "ArraysToEntities",
    "BoxToEntities",
    "DiscreteToBox",
    "EntityBlock",
    "FlattenDict",
    "GraphToEntities",
    "GridToEntities",
    "ImageToEntities",
    "MemoryWrapper",
    "SequenceToEntities",
    "TextToEntities",
    "collect_vocabulary",
]
