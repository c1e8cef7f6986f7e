"""Agents as `train.py` builds them: presets, evaluation, the final table; `run/` is the folder of one run."""
