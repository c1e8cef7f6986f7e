"""The curves that :mod:`attn_rl.training.diagnosis` reads: what the logger records of a training, kept small."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from attn_rl.training.run.json_form import from_json

MOST_ROWS = 200
"""Rows that are kept of a training, however long."""
LOGGED = {
    "train/approx_kl": "approx_kl",
    "train/clip_fraction": "clip_fraction",
    "train/explained_variance": "explained_variance",
    "train/entropy_loss": "entropy_loss",
    "train/std": "std",
    "attention_live/entropy": "attention_entropy",
    "attention/uniform_kl": "uniform_kl",
}
"""Tag of the logger -> name of the curve."""
RELATION = "attention_relations/"
"""What tags of relations, and their curves, begin with."""

Row = dict[str, float]


class Curves:
    """Figures of a training, a row for every dump of the logger; in a long training, for the mean of several.

    Args:
        rows: oldest first, each of ``per_row`` dumps.
        per_row: doubles whenever :data:`MOST_ROWS` are reached.
        pending: dumps that do not fill a row yet.
    """

    def __init__(self, rows: Sequence[Row] = (), per_row: int = 1, pending: Sequence[Row] = ()) -> None:
        self.rows, self.per_row, self.pending = list(rows), per_row, list(pending)

    def add(self, figures: Row) -> None:
        """Add what one dump of the logger tells."""
        self.pending.append(figures)
        if len(self.pending) >= self.per_row:
            self.rows.append(_mean(self.pending))
            self.pending = []
        if len(self.rows) >= MOST_ROWS:
            self.rows = [_mean(self.rows[i : i + 2]) for i in range(0, len(self.rows), 2)]
            self.per_row *= 2

    def values(self, name: str, begin: float = 0.0, end: float = 1.0) -> list[float]:
        """A curve, or a part of it.

        Args:
            name: of the curve.
            begin, end: of the part, as shares of the training so far.
        """
        rows = [*self.rows, *([_mean(self.pending)] if self.pending else [])]
        part = rows[int(begin * len(rows)) : max(math.ceil(end * len(rows)), 1)]
        return [row[name] for row in part if name in row]

    def mean(self, name: str, begin: float = 0.5, end: float = 1.0) -> float:
        """Mean of a part of a curve, by default the last half; NaN where there is nothing."""
        found = self.values(name, begin, end)
        return float(np.mean(found)) if found else math.nan

    def get_state(self) -> dict[str, Any]:
        """What :meth:`from_state` makes the same curves of, JSON-able."""
        return {"rows": self.rows, "per_row": self.per_row, "pending": self.pending}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Curves:
        """The curves of :meth:`get_state`.

        Raises:
            ValueError: a state that no curves could have had.
        """
        rows, pending = (from_json(state[name], list[dict[str, float]], name) for name in ("rows", "pending"))
        per_row = from_json(state["per_row"], int, "per_row")
        if per_row < 1 or len(rows) > MOST_ROWS or len(pending) > per_row:
            raise ValueError(f"{len(rows)} rows of {per_row} and {len(pending)} pending; expected {MOST_ROWS} at most")
        return cls(rows, per_row, pending)


def _mean(rows: Sequence[Row]) -> Row:
    """The mean of each figure over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


class CurvesCallback(BaseCallback):
    """Keeps :class:`Curves` of what the logger records, and of the last 100 episodes; adds nothing to the log.

    Order in the list of callbacks does not matter: the logger hands its figures over when it writes them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.curves = Curves()
        self._reader = _Reader(self)
        self._resumed = False

    def get_state(self) -> dict[str, Any]:
        """The curves so far, JSON-able."""
        return self.curves.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on with the curves of :meth:`get_state`; before ``learn``.

        Raises:
            ValueError: a state that no curves could have had.
        """
        self.curves = Curves.from_state(state)
        self._resumed = True

    def _on_training_start(self) -> None:
        if not self._resumed:
            self.curves = Curves()
        self._resumed = False
        if self._reader not in self.logger.output_formats:
            self.logger.output_formats.append(self._reader)

    def _on_step(self) -> bool:
        return True

    def read(self, logged: Mapping[str, Any]) -> None:
        """Add a row of what the logger writes now."""
        found = _logged(logged) | self._episodes()
        buffer = getattr(self.model, "rollout_buffer", None)
        if buffer is not None:
            found["returns_std"] = float(np.std(buffer.returns))
            minibatches = math.ceil(buffer.returns.size / getattr(self.model, "batch_size", buffer.returns.size))
            found["gradient_steps"] = float(logged.get("train/n_updates", 0) * minibatches)  # SB3 counts epochs
        self.curves.add({name: value for name, value in found.items() if math.isfinite(value)})

    def _episodes(self) -> Row:
        """What the last 100 episodes say; nothing before the first has ended."""
        episodes, successes = self.model.ep_info_buffer or (), self.model.ep_success_buffer or ()
        found = {"success_rate": float(np.mean(successes))} if successes else {}
        if not episodes:
            return found
        returns = [float(episode["r"]) for episode in episodes]
        lengths = [float(episode["l"]) for episode in episodes]
        return found | {
            "episode_return": float(np.mean(returns)),
            "episode_return_std": float(np.std(returns)),
            "episode_length": float(np.mean(lengths)),
        }


def _logged(logged: Mapping[str, Any]) -> Row:
    """The figures among what the logger writes; of a relation, the greatest strength over layers and heads."""
    found = {name: float(logged[tag]) for tag, name in LOGGED.items() if tag in logged}
    for tag, value in logged.items():
        relation = tag.rpartition("/")[0]
        if tag.startswith(RELATION) and " = " in relation:  # others are weights of either sign
            found[relation] = max(float(value), found.get(relation, 0.0))
    return found


class _Reader(KVWriter):
    """The logger's output that hands everything to a :class:`CurvesCallback`."""

    def __init__(self, callback: CurvesCallback) -> None:
        self._callback = callback

    def write(self, key_values: Mapping[str, Any], key_excluded: Mapping[str, Any], step: int = 0) -> None:
        self._callback.read(key_values)

    def close(self) -> None:
        """Nothing is open."""
