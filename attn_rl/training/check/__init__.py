"""Does an environment fit? What ``attn-rl check`` and ``attn_rl.check`` look at; start reading in ``check.py``."""
