"""Sweeps: ``attn-rl tune ENV`` searches settings and writes the best ones as a preset file. See ``docs/cluster.md``."""
