"""The presets as RL Zoo imports them: ``--conf-file attn_rl.training.rl_zoo.hyperparameters``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent / "ppo.yml"
hyperparams: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
"""Environment id -> the entry of ``ppo.yml``."""
