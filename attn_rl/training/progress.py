"""A live progress line that fits the terminal: success, return, steps per second, time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text
from stable_baselines3.common.callbacks import BaseCallback

from attn_rl.sb3.compat import total_timesteps

BAR = 20
"""Characters of the bar."""
LINES = 10
"""Lines in a log file, where there is no terminal: one for every tenth of the training, and"""
SECONDS = 60.0
"""one after so many seconds at the latest."""


class ProgressCallback(BaseCallback):
    """Shows how training goes, over the last 100 episodes: one live line in a terminal, a line now and then elsewhere.

    Args:
        console: to print on; None: standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console()
        self._in_terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live: Live | None = None

    def _on_training_start(self) -> None:
        self._total: int = self.locals.get("total_timesteps", total_timesteps(self.model))
        self._first, self._begun = self.num_timesteps, time.perf_counter()
        self._printed = self._tenth(), self._begun
        self._shown = self._share(), self._fields()
        if self._in_terminal:
            self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)
            self._live.start()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._shown = self._share(), self._fields()  # the live line is drawn in a thread of its own
        due = self._tenth() > self._printed[0] or self._since(self._printed[1]) >= SECONDS
        if due and not self._in_terminal:
            self._printed = self._tenth(), time.perf_counter()
            print("training  " + "  ".join(self._shown[1]), flush=True)

    def _on_training_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Give the terminal back, also after an error."""
        if self._live is not None:
            self._live.stop()

    def _tenth(self) -> int:
        return LINES * self.num_timesteps // self._total

    def _since(self, moment: float) -> float:
        return max(time.perf_counter() - moment, 1e-9)

    def _share(self) -> float:
        return min(self.num_timesteps / self._total, 1.0)

    def _render(self) -> Text:
        share, fields = self._shown
        bar = "━" * round(BAR * share)
        line = fit(fields, [f"{share:4.0%}", bar.ljust(BAR, "─")], self._console.width)
        return Text(line, no_wrap=True, overflow="crop")

    def _fields(self) -> list[str]:
        """What there is to say, the most telling first."""
        speed = (self.num_timesteps - self._first) / self._since(self._begun)
        left = round((self._total - self.num_timesteps) / speed) if speed else None
        episodes, successes = self.model.ep_info_buffer or (), self.model.ep_success_buffer or ()
        return [
            *([f"success {np.mean(successes):.2f}"] if successes else []),
            *([f"return {np.mean([episode['r'] for episode in episodes]):.2f}"] if episodes else []),
            *([] if left is None else [f"{timedelta(seconds=max(left, 0))} left"]),
            f"{speed:,.0f} steps/s",
            f"{self.num_timesteps:,}/{self._total:,}",
        ]


def fit(fields: Sequence[str], lead: Sequence[str], width: int) -> str:
    """As many fields as fit into ``width`` characters, whole ones only.

    Args:
        fields: by importance, the first first.
        lead: what stands before them: the share that is done, which always stays, and the bar, the last to come.
        width: characters of the line; one is left free, or a terminal would begin a new one.
    """
    share, bar = lead
    line = [share]
    for field in fields:
        if len("  ".join([*line, field])) < width:
            line.append(field)
    if len("  ".join([*line, bar])) < width:
        line.insert(1, bar)
    return "  ".join(line)
