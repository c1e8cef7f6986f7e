"""Structured actions: dependent arguments, one for every entity, several of many; see ``docs/actions.md``.

``layout`` packs what the head needs into a row of features; ``head`` computes scores; ``choices`` and ``subsets`` draw
by them and say how likely what was drawn is; ``distribution`` is what Stable-Baselines3 asks.
"""
