"""PPO as Stable-Baselines3 computes it, with less around every minibatch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from operator import is_
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from attn_rl.backends.choose import force, learning, mode_of, using
from attn_rl.backends.explain import explain, parts
from attn_rl.backends.kernels.build import why_not as why_no_kernels
from attn_rl.backends.kernels.losses import Coefficients, ppo_losses
from attn_rl.backends.kernels.threads import taking_over_threads
from attn_rl.compat import scale_all
from attn_rl.nn.changes import is_plain
from attn_rl.nn.normalizer import collect_statistics
from attn_rl.sb3.collection import LeanRollouts
from attn_rl.sb3.contiguous_adam import ContiguousAdam, side_by_side
from attn_rl.sb3.distributions import LeanCategorical
from attn_rl.sb3.losses import Losses, UpdateLog, approximate_kl, relative_difference, torch_losses
from attn_rl.sb3.past_buffer import PastBuffer
from attn_rl.sb3.policy import EntityAttentionPolicy
from attn_rl.sb3.samples import Samples, why_not_plain_buffer

TOLERANCE = 1e-4
"""How far the chosen backends may be from the plain modules on the first minibatch, relative to the larger entries."""
MOST_PAIRS = 1 << 22
"""Pairs of slots, over all observations, that the modules are shown for it: their patterns fill the memory."""


class EntityPPO(LeanRollouts, PPO):
    """:class:`stable_baselines3.PPO` with a leaner training step; same arguments, same zips, same learning.

    The update is SB3's: same minibatches from the same draws, same losses, weights equal to rounding. What is
    spared is around it: the rollout becomes tensors once per update instead of once per minibatch, the normaliser looks
    at each observation once instead of once per epoch, figures for the log are read once, weights and gradients lie
    side by side, and networks, heads and losses are computed in C++ where that can be (:mod:`attn_rl.backends`;
    ``attn_rl.explain(model)`` tells). Rollouts, and the two arguments more that it takes, ``normalize_reward`` and
    ``shared_baseline``: see :class:`attn_rl.sb3.collection.LeanRollouts`. Zips load with plain ``PPO.load`` and the
    other way round.

    On the first minibatch of every training, losses and gradients are computed by the plain modules too. If they differ
    by more than rounding, a warning gives the numbers, and the modules serve from then on.

    :meth:`train` consists of small methods; :meth:`optimize` is the place where a subclass checks loss, gradients
    and weights.
    """

    LEARNS_BY_KERNELS: ClassVar[bool] = True
    _checked = False
    _adam: ContiguousAdam | None = None
    _gradient: Tensor | None = None
    _weights: Sequence[Tensor] = ()
    _placed: tuple[list[Tensor], list[int]] = ([], [])

    def _setup_model(self) -> None:
        with taking_over_threads():  # PyTorch's orthogonal matrices depend on how many there are
            super()._setup_model()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self._checked = False
        return super()._setup_learn(*args, **kwargs)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_checked", "_adam", "_gradient", "_weights", "_placed"]

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """Collect a rollout; see :class:`LeanRollouts`."""
        self._find_adam()  # the last bit of a matrix product may depend on where weights lie, so it is always there
        with taking_over_threads(self._learns_by_kernels()):
            return super().collect_rollouts(*args, **kwargs)

    def train(self) -> None:
        """Optimise on the rollout just collected."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self._adam, self._weights = self._find_adam(), [*self.policy.parameters()]
        try:
            with taking_over_threads(self._learns_by_kernels()):
                self._train()
        finally:
            self._adam, self._gradient, self._weights, self._placed = None, None, (), ([], [])

    def _learns_by_kernels(self) -> bool:
        """Whether every network is: what PyTorch still computes is little then."""
        networks = [how for part, how in parts(self, learns=True) if part.rpartition(".")[2] == "network"]
        return bool(networks) and set(networks) == {"kernels"}

    def _find_adam(self) -> ContiguousAdam | None:
        """The step on all parameters at once; None where the optimiser's own must be taken."""
        return ContiguousAdam.of(self.policy.optimizer) if self._may_step_at_once() else None

    def _may_step_at_once(self) -> bool:
        """Whether this is plain Adam on all of the policy."""
        optimizer: Any = self.policy.optimizer
        own = [p for group in optimizer.param_groups for p in group["params"]]
        return _same(own, [*self.policy.parameters()]) and ContiguousAdam.can_take(optimizer)

    def _train(self) -> None:
        log = UpdateLog()
        minibatches = self._minibatches()
        for epoch in range(self.n_epochs):
            log.begin_epoch()
            with collect_statistics(self.policy, epoch == 0), learning(self.policy):
                within_target_kl = all(self._minibatch(samples, log) for samples in minibatches())
            self._n_updates += 1
            if not within_target_kl:
                break
        self._record(log)

    def _minibatches(self) -> Callable[[], Iterator[Samples]]:
        """Hands out an epoch's minibatches; a rollout buffer of the user's own is asked for its own."""
        buffer = self.rollout_buffer
        if why_not_plain_buffer(buffer) is None:
            rollout = Samples.from_buffer(buffer, self.device)
            if isinstance(buffer, PastBuffer):
                past = buffer.gatherer(self.device)
                return lambda: rollout.with_past(past, self.batch_size)
            return lambda: rollout.minibatches(self.batch_size)
        discrete = isinstance(self.action_space, spaces.Discrete)
        return lambda: (Samples.from_sb3(samples, discrete) for samples in buffer.get(self.batch_size))

    def _minibatch(self, samples: Samples, log: UpdateLog) -> bool:
        """Take one gradient step; False (and no step) where the policy has moved beyond ``target_kl``."""
        if not self._checked:
            self._checked = True
            self._check_backends(samples.with_at_most(MOST_PAIRS))
        losses = self.losses(samples)
        log.add(losses)
        if self.target_kl is not None and approximate_kl(losses.log_ratio) > 1.5 * self.target_kl:
            return False
        self.optimize(losses)
        return True

    def _check_backends(self, samples: Samples) -> None:
        """Compare losses and gradients with those of the plain modules; take these from now on where they differ."""
        if all(backend != "kernels" for _, backend in parts(self, learns=True)):
            return
        with collect_statistics(self.policy, False):
            found = self._figures_and_gradients(samples)
            with using(self.policy, "plain"):
                expected = self._figures_and_gradients(samples)
        apart = relative_difference(found, expected)
        if not apart <= TOLERANCE:
            warnings.warn(
                f"on the first minibatch, losses or gradients were {apart:.1e} from those of the plain modules, where "
                f"at most {TOLERANCE:.0e} is rounding; the plain modules serve from now on. Please report it with the "
                f"policy's arguments and this: {explain(self)}",
                stacklevel=2,
            )
            force(self.policy, "plain")

    def _figures_and_gradients(self, samples: Samples) -> list[Tensor]:
        """Losses and gradients; everything else, random numbers too, is as if they had not been computed."""
        parameters = self._weights
        kept, buffers = [p.grad for p in parameters], [(x, x.clone()) for x in self.policy.buffers()]
        with torch.random.fork_rng(devices=[]):
            losses = self.losses(samples)
            for parameter in parameters:
                parameter.grad = None
            torch.autograd.backward(*zip(*losses.gradients, strict=True))  # type: ignore[arg-type]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient
        for buffer, value in buffers:
            buffer.copy_(value)
        return [losses.figures, losses.log_ratio, *gradients]

    def explain_updates(self) -> dict[str, str]:
        """What computes losses and takes steps; see :func:`attn_rl.explain`."""
        own = "all weights at once" if self._may_step_at_once() else "the optimiser's own step"
        if (reason := self._why_not_losses()) is not None:
            return {"losses": f"plain, because {reason}", "step": own}
        reason = self.policy.why_not_at_once(learns=True)  # type: ignore[operator]
        calls = "one call" if reason is None else f"parts, because {reason}"
        return {"losses": "kernels", "observation to losses": calls, "step": own}

    def _why_not_losses(self) -> str | None:
        """Why PPO's losses are not computed in C++, None where they are."""
        if not isinstance(self.policy, EntityAttentionPolicy):
            return "the policy is not an EntityAttentionPolicy"
        reason = self.policy.why_no_logits("evaluate_actions", "_get_action_dist_from_latent")
        forced = mode_of(self.policy).forced
        return reason or (f"{forced!r} is asked for" if forced not in (None, "kernels") else why_no_kernels())

    def losses(self, samples: Samples) -> Losses:
        """Compute PPO's clipped losses (Schulman et al. 2017, equations 7 and 9) of a minibatch."""
        observations: Any = samples.observations.get("", samples.observations)
        left = self._current_progress_remaining
        clip = self.clip_range(left)  # type: ignore[operator]
        clip_values = None if self.clip_range_vf is None else self.clip_range_vf(left)  # type: ignore[operator]
        weights = Coefficients(self.normalize_advantage, clip, clip_values, self.ent_coef, self.vf_coef)
        policy: Any = self.policy
        if self._why_not_losses() is not None:
            values, log_prob, entropy = policy.evaluate_actions(observations, samples.actions)
            return torch_losses(samples, values, log_prob, entropy, weights)
        at_once = policy.losses_at_once(observations, samples.actions, samples[2:], weights)
        if at_once is not None:
            figures, log_ratio, total = at_once
            return Losses(figures, log_ratio, [(total, None)])
        logits, values = policy.logits_and_values(observations)  # once: the normaliser looks at what passes
        fit = all(map(is_plain, (logits, values, *samples[2:]))) and values.numel() == len(samples.actions)
        if not fit or samples.actions.dtype != torch.int64:
            distribution = LeanCategorical(logits.shape[-1]).proba_distribution(logits)
            return torch_losses(
                samples, values, distribution.log_prob(samples.actions), distribution.entropy(), weights
            )
        figures, log_ratio, *gradients = ppo_losses(logits, values, samples.actions, samples[2:], weights)
        return Losses(figures, log_ratio, list(zip((logits, values), gradients, strict=True)))

    def optimize(self, losses: Losses) -> Tensor:
        """Take one optimiser step; return the norm of the gradient before clipping."""
        norm = self.backward(losses)
        self.step()
        return norm

    def backward(self, losses: Losses) -> Tensor:
        """Compute the gradient, clipped as :meth:`step` takes it; return its norm before clipping.

        Where all parameters have one in an update's first minibatch, one that is missing later on counts as zero.
        """
        parameters = self._weights
        if self._gradient is not None and self._in_place():
            self._gradient.zero_()
        else:
            self._gradient = None
            self.policy.optimizer.zero_grad()  # what it does not move adds up, as in SB3
        torch.autograd.backward(*zip(*losses.gradients, strict=True))  # type: ignore[arg-type]
        if self._gradient is None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            if self._adam is None or len(gradients) < len(parameters):
                self._adam = None  # some parameters stay where they are
                return clip_gradients(gradients, self.max_grad_norm)
            self._gradient = side_by_side(gradients)
            self._placed = gradients, [*map(Tensor.data_ptr, gradients)]
        return clip_gradients([self._gradient], self.max_grad_norm)

    def step(self) -> None:
        """Move the weights along the gradient that :meth:`backward` has left."""
        adam = self._adam
        if adam is not None and self._gradient is not None and self._in_place() and adam.weights_in_place():
            adam.step(self._gradient)
        else:
            self.policy.optimizer.step()

    def _in_place(self) -> bool:
        """Whether gradients still lie side by side: a subclass may have given a weight another."""
        gradients, (placed, addresses) = [p.grad for p in self._weights], self._placed
        return all(map(is_, gradients, placed)) and [*map(Tensor.data_ptr, placed)] == addresses

    def _record(self, log: UpdateLog) -> None:
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        figures = log.figures(clip_range)
        buffer = self.rollout_buffer
        figures["explained_variance"] = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        if hasattr(self.policy, "log_std"):
            figures["std"] = float(self.policy.log_std.detach().exp().mean())
        if self._reward_scale is not None:
            figures["reward_scale"] = self._reward_scale.scale
        figures["clip_range"] = clip_range
        if self.clip_range_vf is not None:
            figures["clip_range_vf"] = self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]
        for name, value in figures.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")


@torch.no_grad()
def clip_gradients(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Scale ``gradients`` in place to a common norm of at most ``max_norm``; return their norm before.

    ``torch.nn.utils.clip_grad_norm_`` in a third of its time: one norm of all instead of a norm of norms.
    """
    norm: Tensor = (torch.cat([g.flatten() for g in gradients]) if len(gradients) > 1 else gradients[0]).norm()
    if norm.is_cpu:  # its number is at hand: four operations on scalars less
        if not (size := float(norm) + 1e-6) <= max_norm:
            scale_all(gradients, max_norm / size)
    else:
        scale_all(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Whether two lists hold the same tensors in the same order."""
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
