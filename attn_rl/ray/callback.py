"""AttentionCallback for RLlib: the records and tags of SB3's, in the folder of the trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.callbacks.callbacks import RLlibCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import obs_as_tensor

from attn_rl.inspection.tensorboard.callback import AttentionCallback as SB3AttentionCallback
from attn_rl.ray.batches import make_one
from attn_rl.ray.round_trip import make_sb3_agent, take_over
from attn_rl.ray.trained import read_trained
from attn_rl.sb3.compat import aim_at, total_timesteps

N_LIVE = 16
"""Environments that the callback plays in itself."""


class AttentionCallback(RLlibCallback):  # type: ignore[misc]
    """Record attention while RLlib trains: ``config.callbacks(AttentionCallback)``.

    On the driver, an agent of SB3 gets the learner's weights after each iteration and is watched by the very
    :class:`attn_rl.AttentionCallback` that watches SB3: the same records in ``<trial>/attention``, the same tags and
    pictures for TensorBoard, of which ``tensorboard --logdir ~/ray_results`` shows the Attention tab. Rollouts are
    played elsewhere, so ``attention_live/`` is of a step that the callback plays itself, in environments of its own.

    The last record, with an episode, is made where the iteration reaches the ``total_timesteps`` of ``ppo_config``.

    Args:
        every: iterations between records; more where a run would keep more than 50 records.
        n_scenes, n_pictures: see :class:`attn_rl.AttentionCallback`. Other values than the defaults:
            ``config.callbacks(functools.partial(AttentionCallback, every=5))``.
        folder: where to write; None = the trial's folder.
    """

    def __init__(
        self, every: int = 20, *, n_scenes: int = 32, n_pictures: int = 6, folder: str | Path | None = None
    ) -> None:
        super().__init__()
        self.every, self.n_scenes, self.n_pictures, self.folder = every, n_scenes, n_pictures, folder
        self._watching: SB3AttentionCallback | None = None
        self._ended = False

    def on_algorithm_init(self, *, algorithm: Algorithm, metrics_logger: Any = None, **kwargs: Any) -> None:
        """Build the agent that is watched."""
        trained = read_trained(algorithm, None, trust=True)
        self.agent = make_sb3_agent(trained, N_LIVE)
        folder = Path(self.folder or algorithm.logdir)
        folder.mkdir(parents=True, exist_ok=True)
        self.agent.set_logger(configure(str(folder), ["tensorboard"]))
        aim_at(self.agent, trained.run["total_timesteps"])
        self._obs: Any = self.agent.get_env().reset()  # type: ignore[union-attr]
        probe_env = make_one(trained.run["env"], trained.run["env_kwargs"])
        watching = SB3AttentionCallback(
            probe_env, folder, self.every, n_scenes=self.n_scenes, n_pictures=self.n_pictures,
            settings=trained.run["settings"],
        )  # fmt: skip
        watching.init_callback(self.agent)
        watching.on_training_start({}, {})
        self._watching = watching

    def on_train_result(
        self, *, algorithm: Algorithm, metrics_logger: Any = None, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """Take over the weights; record where it is due."""
        watching = self._watching
        if watching is None or self._ended:
            return
        take_over(self.agent, read_trained(algorithm, None, trust=True))
        self._act(watching)
        watching.on_rollout_end()
        self.agent.logger.dump(self.agent.num_timesteps)
        if self.agent.num_timesteps >= total_timesteps(self.agent):
            self._ended = True
            watching.on_training_end()

    def _act(self, watching: SB3AttentionCallback) -> None:
        """Play one step, watched."""
        env: Any = self.agent.get_env()
        self.agent.policy.set_training_mode(False)
        watching.on_rollout_start()
        with torch.no_grad():
            actions, _, _ = self.agent.policy(obs_as_tensor(self._obs, self.agent.device))
        self._obs, *_ = env.step(actions.cpu().numpy())
        watching.on_step()
