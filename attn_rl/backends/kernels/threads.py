"""On how many cores the kernels work. Their results do not depend on it, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_n_threads: ContextVar[int] = ContextVar("n_threads", default=1)
n_threads = _n_threads.get
"""How many cores a pass may take now."""


@contextmanager
def taking_over_threads(take_over: bool = True) -> Iterator[None]:
    """Within the block, the kernels work on as many cores as PyTorch would, and PyTorch on one.

    PyTorch cuts sums where its threads meet, so that their last digits depend on how many there are; and its operations
    beside the kernels are too small to share.

    Args:
        take_over: False: everything stays as it is.
    """
    threads = torch.get_num_threads()
    if not take_over or threads == 1:
        yield
        return
    token = _n_threads.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _n_threads.reset(token)
