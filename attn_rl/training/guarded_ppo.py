"""The gates around an update: no loss or gradient that is not finite reaches a weight, no such weight is kept.

The gate before them, between environments and agent, is :mod:`attn_rl.vec_envs.guarded`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.vec_env import unwrap_vec_wrapper
from torch import Tensor

from attn_rl.compat import sum_of_norms
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.sb3.losses import Losses, UpdateLog
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.sb3.samples import Samples
from attn_rl.vec_envs.guarded import GuardedVecEnv
from attn_rl.vec_envs.observation_form import GuardError
from attn_rl.vec_envs.policy_input import check_policy_input

REFUSED = "refused.npz"
"""File in the run folder that keeps what a gate refused."""


@contextmanager
def keeping_what_is_refused(folder: Path) -> Iterator[None]:
    """Write the batch of a :class:`GuardError` to ``refused.npz`` in ``folder`` and say so in the message."""
    try:
        yield
    except GuardError as error:
        kept = _keep(folder / REFUSED, error.batch)
        raise GuardError(
            f"{error}. Nothing of it was learned; checkpoints are as they were, {kept}", error.batch
        ) from error


def _keep(path: Path, batch: Mapping[str, np.ndarray]) -> str:
    try:
        np.savez(path, **batch)  # type: ignore[arg-type]
    except OSError as error:  # the fault matters more than a full disk
        return f"the batch could not be written ({error.strerror})"
    return f"the batch is in {path}"


class GuardedPPO(EntityPPO):
    """:class:`EntityPPO` that stops where a loss, a gradient or a weight is not finite; it learns the same bit for bit.

    It stops before such a loss or gradient reaches a weight, and after a step that made a weight so.

    Attributes:
        check_observations: :meth:`predict` refuses what it could answer only with nonsense; False saves some ten
            microseconds a call.
    """

    check_observations = True

    def _setup_model(self) -> None:
        super()._setup_model()
        guard = None if self.env is None else unwrap_vec_wrapper(self.env, GuardedVecEnv)
        if isinstance(guard, GuardedVecEnv):  # what it says of an empty mask, the policy does not say again
            guard.mask_watch = getattr(getattr(self.policy, "action_net", None), "mask_watch", None)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose actions for one observation or a batch, as SB3's ``predict``.

        Raises:
            ValueError: the observation makes no sense, see :func:`attn_rl.vec_envs.policy_input.check_policy_input`;
                not for policies that look through an extractor of another package.
        """
        extractor = getattr(self.policy, "features_extractor", None)
        if self.check_observations and isinstance(extractor, EntityExtractor):
            check_policy_input(observation, self.observation_space, extractor.spec)
        return super().predict(observation, state, episode_start, deterministic)

    def train(self) -> None:
        """Optimise on the rollout just collected."""
        super().train()
        restarts = getattr(self.env, "restarts", None)
        if restarts is not None:
            self.logger.record("rollout/worker_restarts", int(restarts.sum()))

    def _minibatch(self, samples: Samples, log: UpdateLog) -> bool:
        self._samples = samples
        return super()._minibatch(samples, log)

    def optimize(self, losses: Losses) -> Tensor:
        """Take one optimiser step if ``losses`` are sound; return the norm of the gradient before clipping.

        Raises:
            GuardError: naming what is not finite, with the minibatch.
        """
        norm, loss = self.backward(losses), losses.total
        if not (np.isfinite(float(norm)) and np.isfinite(loss)):
            self._refuse("gradient", {n: p.grad for n, p in self.policy.named_parameters() if p.grad is not None}, loss)
        self.step()
        weights = [p.detach() for p in self._weights]
        size = sum_of_norms(weights) if self._adam is None else self._adam.weights.norm()
        if not np.isfinite(float(size)):
            self._refuse("weight", dict(self.policy.named_parameters()), loss)
        return norm

    def _refuse(self, what: str, tensors: Mapping[str, Tensor], loss: float) -> None:
        names = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
        batch = {f"observations.{key}": block for key, block in self._samples.observations.items()}
        batch |= {name: getattr(self._samples, name) for name in Samples._fields[1:]}
        where = f", and the {what} of {len(names)} tensors is not finite, first {names[0]}" if names else ""
        raise GuardError(
            f"update {self._n_updates} at {self.num_timesteps} steps: loss {loss:g}{where}",
            {name: tensor.detach().cpu().numpy() for name, tensor in batch.items()},
        )
