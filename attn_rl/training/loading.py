"""load and adapt: trained weights into an environment, also one with more entity slots."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from attn_rl.regular_files import refuse_irregular
from attn_rl.sb3.compat import ENVIRONMENT_BOUND, set_up, unsaved_names
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.agent import make_agent
from attn_rl.training.guarded_ppo import GuardedPPO
from attn_rl.training.policies import used_settings
from attn_rl.training.resizing import Capacity, SpacesOnly, with_capacity
from attn_rl.training.run.agent_state import needed_bytes, restore_weights
from attn_rl.training.run.checkpoint import STATE, Checkpoint, Sizes, newest_checkpoint, read_checkpoint
from attn_rl.training.run.optimizer_state import DoesNotFit
from attn_rl.training.run.state_form import refuse_wrong_state, settings_of
from attn_rl.training.run.stored_environment import refuse_foreign_module, refuse_stored_arguments
from attn_rl.training.share.sources import local_path
from attn_rl.vec_envs.adapter import make_vec_env
from attn_rl.vec_envs.memory import memory_of, remembering
from attn_rl.wrappers.memory import MemoryOptions

Agent = TypeVar("Agent", bound=BaseAlgorithm)


def load(
    path: str | Path,
    env: VecEnv | None = None,
    *,
    capacity: Capacity | None = None,
    device: str = "cpu",
    trust: bool = False,
) -> EntityPPO:
    """Load a trained agent, also into an environment with more entity slots.

    A run, also one that is still going or was killed, is rebuilt from its newest valid checkpoint through
    :func:`make_agent`. Nothing is unpickled, so a stranger's run folder cannot run code. A bare SB3 zip is pickled
    through and through.

    Args:
        path: a run folder, one of its checkpoints, or a model zip of SB3; ``"zoo:Seek"``, an agent of this package; or
            ``"hf:user/name"``, one on the Hugging Face Hub (``pip install 'attn_rl[hub]'``).
        env: to act and learn in; None: of a run, the environment that it was trained in.
        capacity: to act on observations of so many slots, per entity type or for all, without an environment that has
            them. Of a run, the environment that it was trained in is made, to read its spaces, and closed.
        device: torch's name of it.
        trust: unpickle a bare zip, which executes whatever code its author put there.

    Raises:
        ValueError: ``env`` and ``capacity`` together, a path that is none of these, a zip without ``trust``, weights
            that do not fit the environment, an environment whose module was not imported, or arguments of one that are
            more than data (:mod:`attn_rl.training.run.stored_environment`).
    """
    if capacity is not None:
        if env is not None:
            raise ValueError(
                "both env= and capacity= were given; the environment says how many slots there are: leave one"
            )
        agent = load(path, device=device, trust=trust)
        larger = adapt(agent, with_capacity(agent, capacity))
        if agent.env is not None:
            agent.env.close()
        return larger
    with local_path(path) as found:
        return _load(found, env, device, trust)


def _load(path: Path, env: VecEnv | None, device: str, trust: bool) -> EntityPPO:
    if path.is_dir():
        return _rebuild(path, env, device)
    if not path.is_file():
        raise ValueError(f"{path} is neither a run folder, nor a checkpoint, nor a model zip; check the path")
    if not trust:
        raise ValueError(
            f"{path} is a bare SB3 zip: loading it executes the code its author put there. Pass trust=True if you know "
            "where it comes from, or give the run folder that it lies in"
        )
    model = GuardedPPO.load(path, device=device)
    return model if env is None else adapt(model, env)


def find_checkpoint(path: Path, needed: Sizes | Callable[[dict[str, object]], Sizes]) -> Checkpoint:
    """Read a checkpoint, or the newest valid one of a run folder; warn of damaged ones.

    Args:
        path: of either.
        needed: bytes that the agent needs (:func:`attn_rl.training.run.agent_state.needed_bytes`), or a function that
            finds them from a checkpoint's state.

    Raises:
        DamagedCheckpoint: none is valid.
        IrregularFile: something in the folder is a link, a FIFO or a device.
    """

    def admit(state: dict[str, object]) -> Sizes:
        refuse_wrong_state(state)
        return needed(state) if callable(needed) else needed

    if not path.is_dir():
        raise ValueError(f"{path} is neither a run folder nor a checkpoint; give runs/<name>")
    refuse_irregular(path)
    if (path / STATE).exists():
        return read_checkpoint(path, admit)
    _, checkpoint, skipped = newest_checkpoint(path, admit)
    for reason in skipped:
        warnings.warn(f"skipped a damaged checkpoint: {reason}", stacklevel=3)
    return checkpoint


def _rebuild(path: Path, env: VecEnv | None, device: str) -> EntityPPO:
    agents: list[EntityPPO] = []

    def build(state: dict[str, Any]) -> Sizes:
        config = state["config"]
        agents[:] = [
            make_agent(
                _stored_env(config) if env is None else env,
                config["policy"],
                device=device,
                **used_settings(config["policy"], vars(settings_of(config))),
            )
        ]
        return needed_bytes(agents[0])

    checkpoint = find_checkpoint(path, build)
    agent = agents[0]
    restore_weights(agent, checkpoint)
    agent.num_timesteps = checkpoint.state["counters"]["num_timesteps"]
    return agent


def _stored_env(config: dict[str, Any]) -> VecEnv:
    """The environment that a run was trained in, as its checkpoint says."""
    refuse_foreign_module(config["env"])
    refuse_stored_arguments(config["env"], config["env_kwargs"], config["n_envs"])
    return make_vec_env(config["env"], config["n_envs"], seed=config["seed"], env_kwargs=config["env_kwargs"])


def agent_memory(model: BaseAlgorithm) -> MemoryOptions | None:
    """What an agent remembers of the past; None: nothing."""
    own = getattr(model, "memory", None)
    return memory_of(model.env) if own is None else MemoryOptions(**own)


def adapt(model: Agent, env: VecEnv) -> Agent:
    """Put a trained agent's weights, optimiser state and settings into another environment.

    The weights of set networks do not depend on the number of slots, so the environment may hold more entities than the
    agent ever saw (``PPO.load(env=...)`` refuses that). The agent given stays as it is.

    Args:
        model: an SB3 algorithm with one of our policies.
        env: with the same entity types and features; capacity may differ.

    Raises:
        DoesNotFit: weights that depend on the number of slots, or other types, features or actions.

    An environment without the agent's memory gets it.
    """
    if not isinstance(env, SpacesOnly):
        env = remembering(env, agent_memory(model))
    kept = set(vars(model)) - unsaved_names(model) - set(ENVIRONMENT_BOUND)
    fresh = type(model)(model.policy_class, env, device=model.device, _init_setup_model=False)  # type: ignore[call-arg]
    vars(fresh).update({name: vars(model)[name] for name in kept})
    fresh.seed = None  # SB3 would seed every generator of the process anew
    set_up(fresh)
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
