"""A live progress bar: success, return, steps per second, time left."""

from __future__ import annotations

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback


class ProgressCallback(BaseCallback):
    """Shows how training goes, over the last 100 episodes. In a log file (no terminal) it stays silent."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
        )

    def _on_training_start(self) -> None:
        self._bar.start()
        self._start = self.num_timesteps
        total = self.locals.get("total_timesteps", self.model._total_timesteps)
        self._task = self._bar.add_task("training", total=total, completed=self.num_timesteps, figures="")

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._bar.update(self._task, completed=self.num_timesteps, figures=self._figures())

    def _figures(self) -> str:
        episodes = self.model.ep_info_buffer or ()
        successes = self.model.ep_success_buffer or ()
        elapsed = self._bar.tasks[self._task].elapsed or 0.0
        parts = [f"success {np.mean(successes):.2f}"] if successes else []
        if episodes:
            parts.append(f"return {np.mean([episode['r'] for episode in episodes]):.2f}")
        parts.append(f"{(self.num_timesteps - self._start) / max(elapsed, 1e-9):,.0f} steps/s")
        return "  ".join(parts)

    def _on_training_end(self) -> None:
        self._bar.update(self._task, completed=self.num_timesteps)
        self.close()

    def close(self) -> None:
        """Give the terminal back, also after an error."""
        self._bar.stop()
