"""EntityEnvRunner: RLlib's runner over batches of environments, array by array instead of step by step."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from torch import Tensor

from attn_rl.ray.batches import make_batch, split_env_config
from attn_rl.ray.chunks import Fragment, Step
from attn_rl.ray.compat import has_own_connectors

SEEDS_APART = 1_000_003
"""Between the first seeds of two runners, so that no two play the same episodes."""


class EntityEnvRunner(SingleAgentEnvRunner):  # type: ignore[misc]
    """Samples as RLlib's ``SingleAgentEnvRunner`` does, several times as fast.

    RLlib appends every step of every environment to a Python list and asks a pipeline of connectors for each batch.
    This runner steps a native batch (:mod:`attn_rl.ray.batches`), keeps arrays, and cuts them into RLlib's episodes
    at the end of the fragment. It therefore calls no connectors of yours and no callbacks of single episodes:
    ``.env_runners(env_runner_cls=SingleAgentEnvRunner)`` brings RLlib's own back.
    """

    env: Any
    _observation: Any
    _ids: list[str]
    _started: list[int]

    def make_env(self) -> None:
        """Make the batch."""
        if has_own_connectors(self.config):
            raise ValueError(
                "EntityEnvRunner calls no connectors of your own; choose RLlib's runner, which does: "
                ".env_runners(env_runner_cls=ray.rllib.env.single_agent_env_runner.SingleAgentEnvRunner)"
            )
        if self.env is not None:
            self.env.close()
        env_kwargs, memory = split_env_config(self.config.env_config)
        self.env = make_batch(self.config.env, self.config.num_envs_per_env_runner, env_kwargs, memory)
        self.num_envs = self.env.num_envs
        self._needs_initial_reset = True

    def _sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[Any]:
        if force_reset or num_episodes is not None or self._needs_initial_reset:
            self._begin()
            self._needs_initial_reset = num_episodes is not None
        fragment = Fragment(self._observation, self._ids, self._started)
        while (
            fragment.n_steps * self.num_envs < num_timesteps
            if num_timesteps is not None
            else fragment.n_done < (num_episodes or 0)
        ):
            step = self._step(explore, random_actions)
            if step is None:  # an environment failed; RLlib has made the batch anew
                self._begin()
                fragment = Fragment(self._observation, self._ids, self._started)
                continue
            fragment.add(step)
            self._observation = step.observation
        done, running = fragment.episodes(self.env.single_observation_space, self.env.single_action_space)
        self._ids, self._started = fragment.ids, fragment.started
        self._done_episodes_for_metrics.extend(done)
        for chunk in running:
            self._ongoing_episodes_for_metrics[chunk.id_].append(chunk)
        n_steps = fragment.n_steps * self.num_envs
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=n_steps)
        self._increase_sampled_metrics(n_steps, len(done))
        for success in fragment.successes:
            self.metrics.log_value("success_rate", float(success), window=self._window)
        return done + running if num_timesteps is not None else done[:num_episodes]

    def _begin(self) -> None:
        """Reset all environments; episodes that were running are forgotten."""
        seed = self.config.seed
        first = None if seed is None or not self._needs_initial_reset else seed + SEEDS_APART * (self.worker_index or 0)
        self._observation, _ = self.env.reset(seed=first)
        self._ids = [uuid.uuid4().hex for _ in range(self.num_envs)]
        self._started = [0] * self.num_envs
        self._ongoing_episodes_for_metrics.clear()

    def _step(self, explore: bool, random_actions: bool) -> Step | None:
        """Act once in every environment; None where that failed."""
        actions, outputs = self._act(explore, random_actions)
        space = self.env.single_action_space
        bounded = np.clip(actions, space.low, space.high) if hasattr(space, "low") else actions
        results = self._try_env_step(bounded)
        if results == ENV_STEP_FAILURE:
            return None
        observation, rewards, terminated, truncated, infos = results
        return Step(observation, actions, rewards, terminated, truncated, outputs, infos)

    def _act(self, explore: bool, random_actions: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Actions of all environments, and what the learner must know of how they were drawn."""
        sequence = np.full(self.num_envs, self._weights_seq_no)
        if random_actions:
            return self.env.action_space.sample(), {"weights_seq_no": sequence}
        batch = {Columns.OBS: _tensors(self._observation, self._device)}
        forward = self.module.forward_exploration if explore else self.module.forward_inference
        inputs = forward(batch)[Columns.ACTION_DIST_INPUTS]
        distribution = self.module.get_exploration_action_dist_cls().from_logits(inputs)
        drawn: Tensor = distribution.sample() if explore else distribution.to_deterministic().sample()
        known = {Columns.ACTION_DIST_INPUTS: inputs, Columns.ACTION_LOGP: distribution.logp(drawn)}
        return drawn.cpu().numpy(), {name: x.cpu().numpy() for name, x in known.items()} | {"weights_seq_no": sequence}

    @property
    def _window(self) -> int:
        """How many episodes of this runner a mean is over."""
        window: int = self.config.metrics_num_episodes_for_smoothing // (self.config.num_env_runners or 1)
        return max(1, window)


def _tensors(obs: Any, device: Any) -> Any:
    if isinstance(obs, dict):
        return {key: torch.as_tensor(block, device=device) for key, block in obs.items()}
    return torch.as_tensor(obs, device=device)
