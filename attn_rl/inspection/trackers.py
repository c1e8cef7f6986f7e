"""Weights & Biases and MLflow, beside TensorBoard: the same scalars and pictures. Neither is imported unless used.

Put one beside :class:`attn_rl.AttentionCallback` in the list of callbacks; the run is yours to open and close::

    with wandb.init(project="entities") as run:
        agent.learn(100_000, callback=[AttentionCallback("AttnRL/Seek-v0"), WandbCallback(run)])
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from attn_rl.type_names import with_article

FORMAT = "tensorboard"
"""Figures that are kept out of TensorBoard are kept out of these, too."""


class Tracker(KVWriter):
    """An output of Stable-Baselines3's logger that takes pictures too."""

    def write(self, key_values: Mapping[str, Any], key_excluded: Mapping[str, Any], step: int = 0) -> None:
        """Hand on the numbers of one dump of the logger."""
        found = {
            key: float(value)
            for key, value in key_values.items()
            if isinstance(value, int | float | np.number) and FORMAT not in (key_excluded.get(key) or ())
        }
        if found:
            self.write_scalars(found, step)

    def close(self) -> None:
        """The run belongs to whoever opened it."""

    @abstractmethod
    def write_scalars(self, figures: Mapping[str, float], step: int) -> None:
        """Log figures at an environment step."""

    @abstractmethod
    def write_picture(self, tag: str, file: bytes, step: int) -> None:
        """Log an encoded PNG or GIF."""


class TrackerCallback(BaseCallback):
    """Adds a tracker to the logger of the agent that learns, once.

    Args:
        tracker: where figures and pictures go.
    """

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.tracker = tracker

    def _on_training_start(self) -> None:
        if self.tracker not in self.logger.output_formats:
            self.logger.output_formats.append(self.tracker)

    def _on_step(self) -> bool:
        return True


class WandbCallback(TrackerCallback):
    """Log to a run of Weights & Biases.

    Args:
        run: what ``wandb.init(...)`` returned.

    Raises:
        TypeError: something else.
    """

    def __init__(self, run: Any) -> None:
        if not callable(getattr(run, "log", None)):
            raise TypeError(f"run is {with_article(type(run))}; expected what wandb.init(project=...) returns")
        super().__init__(_Wandb(run))


class MlflowCallback(TrackerCallback):
    """Log to a run of MLflow, wherever ``mlflow.set_tracking_uri`` says.

    Args:
        run_id: of the run; None: the active one (``with mlflow.start_run():``).

    Raises:
        ValueError: MLflow is not installed, or no run is active.
    """

    def __init__(self, run_id: str | None = None) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise ValueError("MLflow is an extra: pip install 'attn_rl[mlflow]'") from error
        active = mlflow.active_run()
        if run_id is None and active is None:
            raise ValueError("no run of MLflow is active; expected a run_id, or `with mlflow.start_run():` around it")
        super().__init__(_Mlflow(mlflow, run_id or active.info.run_id))


class _Wandb(Tracker):
    def __init__(self, run: Any) -> None:
        self._run = run

    def write_scalars(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def write_picture(self, tag: str, file: bytes, step: int) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ValueError("Weights & Biases is an extra: pip install 'attn_rl[wandb]'") from error
        with TemporaryDirectory() as folder:
            path = _write(Path(folder), tag, file, step)
            film = path.suffix == ".gif"
            picture = wandb.Video(str(path), format="gif") if film else wandb.Image(str(path))
            self._run.log({tag: picture}, step=step)


class _Mlflow(Tracker):
    def __init__(self, mlflow: Any, run_id: str) -> None:
        self._mlflow, self._client, self._run_id = mlflow, mlflow.MlflowClient(), run_id

    def write_scalars(self, figures: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(figures), step=step, run_id=self._run_id)

    def write_picture(self, tag: str, file: bytes, step: int) -> None:
        with TemporaryDirectory() as folder:
            path = _write(Path(folder), tag, file, step)
            self._client.log_artifact(self._run_id, str(path), tag.rpartition("/")[0] or None)


def _write(folder: Path, tag: str, file: bytes, step: int) -> Path:
    """The picture as ``scenes-000000004096.png``."""
    suffix = "gif" if file.startswith(b"GIF") else "png"
    path = folder / f"{tag.rpartition('/')[2]}-{step:012d}.{suffix}"
    path.write_bytes(file)
    return path
