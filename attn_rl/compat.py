"""Private names of PyTorch and of its TensorBoard writer that attn_rl uses, in one place.

Those of Stable-Baselines3 are in :mod:`attn_rl.sb3.compat`. ``tests/test_compat.py`` checks all of them against the
installed version and says what needs each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import SummaryWriter


def sum_of_norms(tensors: list[Tensor]) -> Tensor:
    """Return the sum of the tensors' Euclidean norms, a scalar: finite only where every element is."""
    return torch.stack(torch._foreach_norm(tensors)).sum()


def add_summary(writer: SummaryWriter, summary: Summary, step: int | None = None) -> None:
    """Write a ready-made summary: the writer's own methods re-encode pictures."""
    writer._get_file_writer().add_summary(summary, step)
