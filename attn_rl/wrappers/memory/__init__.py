"""The past as entities; see ``docs/memory.md``."""

from attn_rl.wrappers.memory.past import Memory, MemoryOptions
from attn_rl.wrappers.memory.wrapper import MemoryWrapper

__all__ = ["Memory", "MemoryOptions", "MemoryWrapper"]
