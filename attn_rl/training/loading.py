"""load and adapt: trained weights into an environment, also one with more entity slots."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from attn_rl.sb3.ppo import EntityPPO
from attn_rl.sb3.vec_env import make_vec_env
from attn_rl.training.agent import make_agent

Agent = TypeVar("Agent", bound=BaseAlgorithm)
ENVIRONMENT_BOUND = (
    "observation_space",
    "action_space",
    "n_envs",
    "_last_obs",
    "_last_episode_starts",
    "_last_original_obs",
)


class DoesNotFit(ValueError):
    """Trained weights cannot serve an environment."""


def load(path: str | Path, env: VecEnv | None = None, *, device: str = "cpu", trust: bool = False) -> EntityPPO:
    """Load a trained agent, also into an environment with more entity slots.

    A run folder is rebuilt from its ``args.json`` through :func:`make_agent`; the weights are read as plain tensors.
    Nothing is unpickled, so a stranger's run folder cannot run code. A bare SB3 zip is pickled through and through.

    Args:
        path: a run folder, or a model zip of SB3.
        env: to act and learn in; None: for a run folder, the environment that it was trained in.
        device: torch's name of it.
        trust: unpickle a bare zip, which executes whatever code its author put there.

    Raises:
        ValueError: a path that is neither, a zip without ``trust``, or weights that do not fit the environment.
    """
    path = Path(path)
    if (path / "args.json").is_file():
        return _load_run(path, env, device)
    if not path.is_file():
        raise ValueError(f"{path} is neither a run folder (with an args.json) nor a model zip; check the path")
    if not trust:
        raise ValueError(
            f"{path} is a bare SB3 zip: loading it executes the code its author put there. Pass trust=True if you know "
            "where it comes from, or give the run folder that it lies in"
        )
    model = EntityPPO.load(path, device=device)
    return model if env is None else adapt(model, env)


def _load_run(folder: Path, env: VecEnv | None, device: str) -> EntityPPO:
    args = json.loads((folder / "args.json").read_text())
    if env is None:
        env = make_vec_env(args["env"], args["n_envs"], seed=args["seed"], env_kwargs=args["env_kwargs"])
    agent = make_agent(env, args["policy"], device=device, **_tuples(args["settings"]))
    with zipfile.ZipFile(folder / "model.zip") as archive:
        agent.policy.load_state_dict(_tensors(archive, "policy.pth", device))
        agent.policy.optimizer.load_state_dict(_tensors(archive, "policy.optimizer.pth", device))
    agent.num_timesteps = int(json.loads((folder / "evaluation.json").read_text())["total_timesteps"])
    return agent


def _tensors(archive: zipfile.ZipFile, name: str, device: str) -> dict[str, Any]:
    return torch.load(io.BytesIO(archive.read(name)), map_location=device, weights_only=True)


def _tuples(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def adapt(model: Agent, env: VecEnv) -> Agent:
    """Put a trained agent's weights, optimiser state and settings into another environment.

    The weights of set networks do not depend on the number of slots, so the environment may hold more entities than the
    agent ever saw (``PPO.load(env=...)`` refuses that). The agent given stays as it is.

    Args:
        model: an SB3 algorithm with one of our policies.
        env: with the same entity types and features; capacity may differ.

    Raises:
        DoesNotFit: weights that depend on the number of slots, or other types, features or actions.
    """
    kept = set(vars(model)) - set(model._excluded_save_params()) - set(ENVIRONMENT_BOUND)
    fresh = type(model)(model.policy_class, env, device=model.device, _init_setup_model=False)  # type: ignore[call-arg]
    vars(fresh).update({name: vars(model)[name] for name in kept})
    fresh.seed = None  # SB3 would seed every generator of the process anew
    fresh._setup_model()
    fresh.seed = model.seed
    try:
        fresh.set_parameters(model.get_parameters(), device=model.device)  # type: ignore[arg-type]
    except RuntimeError as error:
        raise DoesNotFit(
            "the weights do not fit the environment: the policy's shapes depend on the number of slots (a flat "
            "extractor, or a flat action head over slots), or entity types, features or actions differ. Use the "
            f"attention or deepsets policy, with pointer= where actions are slots. Torch says: {error}"
        ) from error
    return fresh
