"""Where a pattern can be observed, or replaced."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from attn_rl.nn.stages import Described

Observer = Callable[[Tensor, Tensor, Tensor], None]
"""Called with a pattern (B,H,Q,N), the tokens looked at (B,N,D) and which are there (B,N)."""


class Tap(Described):
    """Where a pattern passes by on its way to the values.

    :meth:`observe` it, whatever backend runs: it shows the pattern that is used and changes no bit. A forward hook may
    replace the pattern by returning another one; the modules themselves run then.

    Attributes:
        observers: who is called; see :data:`Observer`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observers: OrderedDict[int, Observer] = OrderedDict()  # a handle refers to it weakly

    def observe(self, observer: Observer) -> RemovableHandle:
        """Call ``observer`` with every pattern until the handle's ``remove()``."""
        handle = RemovableHandle(self.observers)
        self.observers[handle.id] = observer
        return handle

    def show(self, pattern: Tensor, tokens: Tensor, present: Tensor) -> None:
        """Call all observers."""
        for observer in tuple(self.observers.values()):
            observer(pattern, tokens, present)

    def forward(self, pattern: Tensor, tokens: Tensor, present: Tensor) -> Tensor:
        """Show ``pattern`` (B,H,Q,N), tokens (B,N,D) and which of them are there (B,N); return the pattern."""
        self.show(pattern, tokens, present)
        return pattern

    def stage(self) -> None:
        """There is nothing to compute."""
