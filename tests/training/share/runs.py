"""A short run, as ``train.py`` leaves one behind."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from attn_rl import make_agent, make_vec_env
from attn_rl.training.presets import find_preset
from attn_rl.training.run.folder import describe_run
from attn_rl.training.run.save_callback import SaveCallback

MATCH = "AttnRL/Match-v0"


def make_run(folder: Path, env_id: str = MATCH) -> Path:
    """Train a little, save a checkpoint and the arguments."""
    folder.mkdir()
    settings = asdict(find_preset(MATCH).settings("attention")) | {"n_steps": 8, "batch_size": 64}
    config = {"env": env_id, "env_kwargs": {}, "policy": "attention", "seed": 0, "n_envs": 16, "settings": settings}
    config["runs_dir"] = str(folder.parent)
    describe_run(folder, config)
    agent = make_agent(make_vec_env(env_id, 16, seed=0), seed=0, **settings)
    agent.learn(256, callback=SaveCallback(folder, config))
    return folder
