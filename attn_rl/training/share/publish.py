"""A run as a folder to hand on: weights, what rebuilds the agent, figures, a picture of the map, a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attn_rl.adapters import make_env
from attn_rl.inspection.draw import overlay
from attn_rl.inspection.draw.gallery import telling_states, with_few_colours
from attn_rl.inspection.measure.probe import make_probe
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.frame import Picture
from attn_rl.inspection.record.scenes import probe_scenes
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.loading import find_checkpoint, load
from attn_rl.training.presets import find_preset
from attn_rl.training.report import evaluate_or_null
from attn_rl.training.run.agent_state import needed_bytes, without_shared
from attn_rl.training.run.checkpoint import FOLDER, Checkpoint, checkpoint_name, write_checkpoint
from attn_rl.training.run.folder import versions, write_json
from attn_rl.training.run.resume import ARGS, read_agent_args
from attn_rl.training.run.state_form import CONFIG
from attn_rl.training.run.stored_environment import refuse_foreign_module, refuse_stored_arguments
from attn_rl.training.share.card import card_text
from attn_rl.vec_envs.adapter import make_vec_env

COLOURS = 32
SCENES, PICTURES, DRAWN = 32, 8, 2
"""Scenes that are recorded, of which have pictures, of which are drawn."""
LEFT_OUT = ("sha256", "schema", "files")
"""What :func:`write_checkpoint` finds itself."""


def publish(
    run: Path,
    out: Path,
    *,
    episodes: int = 1000,
    source: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> Path:
    """Write what others need of a run, and nothing of the machine that it ran on.

    The folder is a run folder: :func:`attn_rl.load`, ``attn-rl evaluate`` and ``attn-rl record`` take it. The
    optimiser's moments and the environments' state stay behind: it can be trained on (``--load``), not resumed.

    Args:
        run: folder of the run, or of one of its checkpoints.
        out: folder to write, which must not be there.
        episodes: to play for every row of the card's table.
        source: what the card says to load; None: ``out``.
        env_kwargs: arguments of the environment that figures and picture are of; None: those of the run.

    Raises:
        ValueError: no run, ``out`` is there, or the run names an environment out of a module that was not imported, or
            arguments of one that are more than data.
    """
    if out.exists():
        raise ValueError(f"{out} exists already; choose another --out (nothing is overwritten)")
    args = plain_args(run)
    refuse_foreign_module(args["env"])
    if env_kwargs is None:
        refuse_stored_arguments(args["env"], args["env_kwargs"])
    played = {**args, "env_kwargs": dict(args["env_kwargs"] if env_kwargs is None else env_kwargs)}
    agent = load(run, env=make_vec_env(played["env"], 1, env_kwargs=played["env_kwargs"]))
    checkpoint = slim(find_checkpoint(run, needed_bytes(agent)), agent)
    out.mkdir(parents=True)
    write_checkpoint(out / FOLDER / checkpoint_name(agent.num_timesteps), checkpoint)
    write_json(out / ARGS, args)
    found = figures(agent, {**played, "eval_episodes": episodes})
    write_json(out / "evaluation.json", found)
    (out / "map.png").write_bytes(picture(agent, played["env"], played["env_kwargs"]))
    about = _about(played["env"], played["env_kwargs"])
    text = card_text(played, found, source or str(out), about, changed=played != args)
    (out / "README.md").write_text(text, encoding="utf-8")
    return out


def plain_args(run: Path) -> dict[str, Any]:
    """What rebuilds agent and environment, and the versions that it was trained with."""
    args = read_agent_args(run)
    kept = {name: args[name] for name in CONFIG} | {"settings": vars(args["settings"])}
    stored = args.get("versions")
    known = stored if isinstance(stored, dict) else versions()
    plain: dict[str, Any] = json.loads(json.dumps(kept | {"versions": known}))
    return plain


def slim(checkpoint: Checkpoint, agent: EntityPPO) -> Checkpoint:
    """Weights and what rebuilds the agent; each shared tensor once."""
    state = {name: value for name, value in checkpoint.state.items() if name not in LEFT_OUT}
    nothing: dict[str, Any] = {"episodes": [], "successes": [], "logger": {}, "environment": None, "callbacks": {}}
    state |= nothing | {"events": {}, "records": {}}
    state["counters"] = {**state["counters"], "_n_updates": 0}  # an optimiser that has not stepped
    state["config"] = {name: state["config"][name] for name in CONFIG}
    return Checkpoint(state, without_shared(checkpoint.model, agent.policy.state_dict()))


def figures(agent: EntityPPO, args: Mapping[str, Any]) -> dict[str, Any]:
    """As ``evaluation.json`` has them: at the trained counts, then with more entities than ever seen."""
    transfer = find_preset(args["env"], args["env_kwargs"]).transfer
    variants = [args["env_kwargs"], *({**args["env_kwargs"], **change} for change in transfer)]
    return {
        **{name: args[name] for name in ("env", "env_kwargs", "policy", "seed")},
        "total_timesteps": agent.num_timesteps,
        "parameters": sum(p.numel() for p in agent.policy.parameters()),
        "results": [asdict(evaluate_or_null(agent, args, kwargs)) for kwargs in variants],
    }


def picture(agent: EntityPPO, env_id: str, env_kwargs: Mapping[str, Any]) -> bytes:
    """A PNG of two probe scenes with the map drawn in, of few colours; without attention, what absence does.

    What it says of the map (whether it is used at all) is of all SCENES.
    """
    actor = Actor(agent, detached=True)
    env = make_env(env_id, render_mode="rgb_array", **env_kwargs)
    scenes = probe_scenes(env, sum(actor.spec.capacities.values()), SCENES, PICTURES)
    probe = make_probe(actor, scenes, env, agent.num_timesteps, episode=False)
    env.close()
    return with_few_colours(Picture(overlay(probe, telling_states(probe, DRAWN))).png, COLOURS)


def _about(env_id: str, env_kwargs: Mapping[str, Any]) -> str:
    """The first line of the environment's docstring, where it has one."""
    env: Any = make_env(env_id, **env_kwargs).unwrapped
    doc = type(getattr(env, "rules", env)) if not isinstance(getattr(env, "rules", None), type) else env.rules
    return ((doc.__doc__ or "").strip().splitlines() or [""])[0]
