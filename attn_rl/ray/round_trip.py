"""From a run of SB3 to RLlib and back: the same tensors by the same names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from stable_baselines3.common.logger import configure

from attn_rl.inspection.measure.probe import make_probe
from attn_rl.inspection.measure.record_file import record_path
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.scenes import probe_scenes
from attn_rl.inspection.tensorboard.callback import PROBE_FILE
from attn_rl.ray.batches import make_one
from attn_rl.ray.config import ppo_config
from attn_rl.ray.trained import POLICY, Trained, read_trained
from attn_rl.sb3.compat import aim_at, go_on_from
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.sb3.reward_scale import FIELDS
from attn_rl.training.agent import make_agent
from attn_rl.training.loading import agent_memory, find_checkpoint, load
from attn_rl.training.policies import used_settings
from attn_rl.training.presets import from_json
from attn_rl.training.run.agent_state import capture, needed_bytes, to_arrays, with_shared, without_shared
from attn_rl.training.run.checkpoint import FOLDER, checkpoint_name, write_checkpoint
from attn_rl.training.run.folder import create_run_folder, describe_run, write_whole
from attn_rl.training.run.resume import read_agent_args
from attn_rl.training.share.sources import local_path
from attn_rl.vec_envs.adapter import make_vec_env

N_SCENES, N_PICTURES = 32, 6


def to_sb3(
    source: Algorithm | str | Path,
    runs_dir: str | Path = "runs",
    *,
    name: str | None = None,
    module_id: str | None = None,
    trust: bool = False,
) -> Path:
    """Write what RLlib has learned as a run folder: for ``attn_rl.load``, ``attn-rl evaluate``, ``record``, ``export``.

    Weights, normaliser statistics, Adam's moments, the scale of rewards and the count of steps move bit for bit. The
    folder gets a record of where the agent looks, so that ``attn-rl inspect`` shows it. ``attn-rl train --resume`` goes
    on from it, with episodes begun anew.

    Args:
        source: the algorithm, or a checkpoint that ``algorithm.save_to_path`` wrote.
        runs_dir: parent of the run folder.
        name: of the run folder; None = composed, as ``attn-rl train`` does.
        module_id: which module, where there are several.
        trust: checkpoints of RLlib are pickled: reading one executes whatever code its author put there.

    Returns:
        The run folder.

    Raises:
        ValueError: no checkpoint, one that is not trusted, or an agent of a multi-agent environment, which no run
            folder can make.
    """
    trained = read_trained(source, module_id, trust)
    agent = make_sb3_agent(trained, trained.run["n_envs"])
    folder = create_run_folder(Path(runs_dir), trained.run["env"], trained.run["policy"], trained.run["seed"], name)
    describe_run(folder, trained.run)
    _save_checkpoint(agent, trained, folder)
    write_whole(folder / "model.zip", agent.save)
    _record(agent, trained.run, folder)
    agent.get_env().close()  # type: ignore[union-attr]
    return folder


def make_sb3_agent(trained: Trained, n_envs: int) -> EntityPPO:
    """The agent as ``make_agent`` builds it, with what was learned.

    Raises:
        ValueError: its environment has several agents.
    """
    run = trained.run
    try:
        env = make_vec_env(run["env"], n_envs, seed=run["seed"], env_kwargs=run["env_kwargs"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{run['env']!r} makes no environment of a single agent ({error}); load the weights into one of your own: "
            "agent.policy.load_state_dict(...)"
        ) from error
    settings = used_settings(run["policy"], vars(from_json(run["settings"])))
    agent = make_agent(env, run["policy"], seed=run["seed"], **settings)
    take_over(agent, trained)
    return agent


def take_over(agent: EntityPPO, trained: Trained) -> None:
    """Put into an agent of SB3 what RLlib has learned so far."""
    own = agent.policy.state_dict()
    agent.policy.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in with_shared(trained.weights, own).items()}
    )
    if trained.optimizer is not None:
        groups = agent.policy.optimizer.state_dict()["param_groups"]
        rates = [
            {**mine, "lr": theirs["lr"]} for mine, theirs in zip(groups, trained.optimizer["param_groups"], strict=True)
        ]
        agent.policy.optimizer.load_state_dict({"state": trained.optimizer["state"], "param_groups": rates})
    agent.num_timesteps = trained.num_timesteps
    if agent.normalize_reward:
        agent.return_statistics.update(trained.reward_statistics)


def _save_checkpoint(agent: EntityPPO, trained: Trained, folder: Path) -> None:
    env: Any = agent.get_env()
    agent.set_logger(configure(None, []))
    aim_at(agent, trained.run["total_timesteps"])
    go_on_from(agent, env.reset(), np.ones(env.num_envs, bool))
    checkpoint = capture(agent)
    checkpoint.state |= {"config": trained.run, "rollouts": 0, "seconds": 1.0}  # RLlib does not say how many
    checkpoint.state |= {name: {} for name in ("callbacks", "events", "records", "digests")}
    write_checkpoint(folder / FOLDER / checkpoint_name(agent.num_timesteps), checkpoint)


def _record(agent: EntityPPO, run: Mapping[str, Any], folder: Path) -> None:
    """Record where the agent looks, as the last record of a training."""
    actor = Actor(agent, detached=True)
    env = make_one(run["env"], run["env_kwargs"], agent_memory(agent))
    scenes = probe_scenes(env, sum(actor.spec.capacities.values()), N_SCENES, N_PICTURES)
    probe = make_probe(actor, scenes, env, agent.num_timesteps)
    env.close()
    record_path(folder, probe.step).parent.mkdir(exist_ok=True)
    for path in (record_path(folder, probe.step), folder / PROBE_FILE):
        probe.save(path)


def from_sb3(run: str | Path, **changes: Any) -> PPOConfig:
    """RLlib's PPO on the environment of a run folder, with its settings, going on from its weights.

    Normaliser statistics and the scale of rewards come along; Adam begins anew. The folder is read here and now, so
    only this machine needs it.

    Args:
        run: run folder, one of its checkpoints, or what :func:`attn_rl.load` takes otherwise, ``"zoo:Seek"`` too.
        changes: arguments of :func:`attn_rl.ray.ppo_config` that shall differ.

    Raises:
        ValueError: no run.
    """
    with local_path(run) as folder:
        args, agent = read_agent_args(folder), load(folder)
        rewards = find_checkpoint(folder, needed_bytes(agent)).state.get("rewards") or {"statistics": {}}
    known_sums = {name: value for name, value in rewards["statistics"].items() if name in FIELDS}
    agent.return_statistics.update(known_sums)  # older runs have other ones
    settings = used_settings(args["policy"], vars(args["settings"]))
    known = {name: args[name] for name in ("env", "policy", "env_kwargs", "n_envs", "seed")}
    config = ppo_config(**{**known, **settings, **changes})
    return config.callbacks(on_algorithm_init=Start(module_state(agent)))


def module_state(agent: EntityPPO) -> dict[str, np.ndarray]:
    """An agent's weights and statistics, as :class:`~attn_rl.ray.module.EntityRLModule` takes them."""
    weights = agent.policy.state_dict()
    own = without_shared(to_arrays(weights), weights)
    return {
        **{f"{POLICY}{name}": value for name, value in own.items()},
        "reward_statistics": np.array([agent.return_statistics[name] for name in FIELDS]),
        "num_timesteps": np.array(agent.num_timesteps),
    }


class Start:
    """A callback that puts weights into an algorithm when it is built."""

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self.state = state

    def __call__(self, *, algorithm: Algorithm, **kwargs: Any) -> None:
        """Put them into the learners, then into the runners."""
        algorithm.learner_group.set_weights({DEFAULT_MODULE_ID: self.state})
        algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=algorithm.learner_group)
