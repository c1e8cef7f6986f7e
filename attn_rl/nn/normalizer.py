"""Feature normalisation inside the network: per entity type, shared over slots, present rows only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from attn_rl.nn.stages import Described, ScalingStage, stage_of
from attn_rl.nn.token_order import EGO

Entities = Mapping[str, tuple[Tensor, Tensor]]
"""Per entity type, in slot order: features (B,N,F) and presence (B,N), boolean."""


def standardize(x: Tensor, mean: Tensor, scale: Tensor, clip: float) -> Tensor:
    """Shift and scale features (..., F), each within ``clip`` of zero."""
    return ((x - mean) * scale).clamp(-clip, clip)


class RunningNormalizer(Described):
    r"""Scale features to zero mean and unit variance with statistics that move once per rollout.

    .. math:: y = \mathrm{clip}\left((x - \mu) / \sqrt{\sigma^2 + \epsilon},\, -c,\, c\right)

    ``VecNormalize`` keeps statistics per slot and feature, which breaks permutation invariance; here all slots of a
    type share them and absent rows do not count. Forward passes in training mode only *collect*; the
    statistics in use move when the module next enters evaluation mode, which Stable-Baselines3 does at the
    start of each rollout. So they are constant while a rollout is collected and optimised, and PPO's
    probability ratio on the first minibatch is 1. What is collected is saved with the weights.

    The buffers in use are called ``running_*`` because Stable-Baselines3's off-policy algorithms copy buffers of
    that name to their target networks.

    Args:
        n_features: width F.
        clip: bound c of the output, in standard deviations; keeps a huge feature from overflowing later.
        epsilon: added to the variance; a constant feature is not blown up.
        unscaled: columns that stay as they are: those of a category, 1 for its value and 0 for the others.
    """

    running_mean: Tensor
    running_var: Tensor
    running_count: Tensor
    pending_sum: Tensor
    pending_square: Tensor
    pending_count: Tensor

    def __init__(
        self, n_features: int, *, clip: float = 10.0, epsilon: float = 1e-4, unscaled: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.clip, self.epsilon, self.unscaled = clip, epsilon, list(unscaled)
        self.collecting = True
        self.register_buffer("running_mean", torch.zeros(n_features))
        self.register_buffer("running_var", torch.ones(n_features))
        self.register_buffer("running_count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("pending_sum", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("pending_square", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("pending_count", torch.zeros((), dtype=torch.float64))
        self._leave_unscaled()

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Normalise ``x`` (..., F). Absent rows must be zero; they are not counted.

        Args:
            x: features, zero in absent rows.
            present: boolean (...), None = all.
        """
        if self.collects:
            self.collect(x.detach(), present)
        return standardize(x, self.running_mean, torch.rsqrt(self.running_var + self.epsilon), self.clip)

    def stage(self) -> ScalingStage:
        """Describe the scaling of this moment."""
        return ScalingStage(self.running_mean, self.running_var, self.epsilon, self.clip)

    @property
    def collects(self) -> bool:
        """Whether what is seen now counts."""
        return self.training and self.collecting and torch.is_grad_enabled()

    @torch.no_grad()
    def collect(self, x: Tensor, present: Tensor | None) -> None:
        """Take note of the rows of ``x`` (..., F) that are ``present`` (...), None = all; absent ones must be zero."""
        rows = x.reshape(-1, x.shape[-1]).double()  # float32 squares of a feature near 1e4 lose its variance
        if present is None:
            shifted, count = rows - self.running_mean, torch.tensor(rows.shape[0])
        else:
            shifted = (rows - self.running_mean) * present.reshape(-1, 1)
            count = present.sum()
        self.pending_sum += shifted.sum(0)
        self.pending_square += (shifted * shifted).sum(0)
        self.pending_count += count

    def train(self, mode: bool = True) -> RunningNormalizer:
        """Switch the mode; entering evaluation adopts what was collected since the last time."""
        if not mode:  # even if it was evaluation before: weights just loaded may bring something collected
            self._adopt()
        return super().train(mode)

    @torch.no_grad()
    def _adopt(self) -> None:
        """Merge the collected moments (Chan et al. 1979), each rollout weighing by the rows it showed."""
        if self.pending_count == 0:
            return
        total = self.running_count + self.pending_count
        shift = self.pending_sum / self.pending_count  # of the collected mean from the one in use
        pending_var = self.pending_square / self.pending_count - shift**2
        weight = self.pending_count / total
        var = (1 - weight) * self.running_var + weight * pending_var + weight * (1 - weight) * shift**2
        self.running_mean += (weight * shift).to(self.running_mean.dtype)
        self.running_var.copy_(var.clamp(min=0.0, max=torch.finfo(self.running_var.dtype).max))
        self.running_count.copy_(total)
        self._leave_unscaled()
        for pending in (self.pending_sum, self.pending_square, self.pending_count):
            pending.zero_()

    def _leave_unscaled(self) -> None:
        """(x - 0) / sqrt(1) for these columns, whatever was seen: exact in float32."""
        if self.unscaled:
            self.running_mean[self.unscaled], self.running_var[self.unscaled] = 0.0, 1.0 - self.epsilon


@contextmanager
def collect_statistics(network: nn.Module, collect: bool) -> Iterator[None]:
    """Within the block, let the normalisers of ``network`` collect, or not.

    A training loop that shows every observation n times collects at the first showing only: the same moments, since
    all weigh n times as much otherwise.
    """
    normalizers = [module for module in network.modules() if isinstance(module, RunningNormalizer)]
    for normalizer in normalizers:
        normalizer.collecting = collect
    try:
        yield
    finally:
        for normalizer in normalizers:
            normalizer.collecting = True


class Unchanged(Described):
    """A normaliser that leaves features as they are."""

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Return ``x``."""
        return x

    def stage(self) -> None:
        """There is nothing to compute."""


class EntityNormalizer(Described):
    """The gate of the network: absent rows become zeros before anything else touches them, then features are scaled.

    NaN and inf in padding never get past this point.

    Args:
        widths: number of features F of each entity type.
        ego_width: number of ego features E; 0 = no ego.
        normalize: keep running statistics (:class:`RunningNormalizer`) of every type and of the ego.
        unscaled: per owner, an entity type or ``"ego"``, the columns that stay as they are.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        ego_width: int,
        *,
        normalize: bool = True,
        unscaled: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        kept = unscaled or {}
        # Lists in slot order: a ModuleDict refuses names such as "items".
        self.types = nn.ModuleList(
            RunningNormalizer(width, unscaled=kept.get(name, ())) if normalize else Unchanged()
            for name, width in widths.items()
        )
        self.ego = RunningNormalizer(ego_width, unscaled=kept.get(EGO, ())) if ego_width and normalize else None

    def forward(self, ego: Tensor | None, entities: Entities) -> tuple[Tensor | None, Entities]:
        """Return the ego's features (B,E) and, per type, features (B,N,F) with their presence, cleaned."""
        cleaned = {}
        for normalizer, (name, (x, present)) in zip(self.types, entities.items(), strict=True):
            cleaned[name] = normalizer(torch.where(present.unsqueeze(-1), x, 0.0), present), present
        return ego if ego is None or self.ego is None else self.ego(ego), cleaned

    def collect(self, ego: Tensor | None, entities: Entities) -> None:
        """Collect statistics as :meth:`forward` does, and nothing else."""
        for normalizer, (x, present) in zip(self.types, entities.values(), strict=True):
            if isinstance(normalizer, RunningNormalizer) and normalizer.collects:
                normalizer.collect(torch.where(present.unsqueeze(-1), x, 0.0), present)
        if self.ego is not None and ego is not None and self.ego.collects:
            self.ego.collect(ego, None)

    def stage(self) -> dict[str, ScalingStage | None]:
        """The scaling of each entity type and of the ego; None = features stay as they are."""
        parts = {f"types.{i}": part for i, part in enumerate(self.types)}
        if self.ego is not None:
            parts["ego"] = self.ego
        return {path: stage_of(part, path, ScalingStage, type(None)) for path, part in parts.items()}
