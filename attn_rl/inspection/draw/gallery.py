"""Which pictures of a record go to TensorBoard, as encoded files."""

from __future__ import annotations

import numpy as np

from attn_rl.inspection import draw
from attn_rl.inspection.measure.history import History
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.record.frame import Picture

N_OVERLAYS = 3
N_TABLES = 2


def pictures(probe: ProbeRecord, history: History) -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Draw a record: tag -> (PNG or GIF file, (height, width)).

    Args:
        probe: the record; one with an episode, as made at the end of training, also shows the worst disagreements.
        history: the records so far.
    """
    complete = len(probe.scenes.episode_states) > 0
    n_scenes = len(probe.scenes) - len(probe.scenes.episode_states)
    sheets = {
        "attention/scenes": draw.overlay(probe, range(min(N_OVERLAYS, n_scenes))),
        "attention/heads_by_entities": draw.heads_by_entities(probe, range(min(N_TABLES, n_scenes))),
    }
    if probe.record.layers:
        sheets["attention/over_training"] = draw.training(history)
        if any(layer.pattern.shape[2] > 1 for layer in probe.record.layers):
            sheets["attention/layers"] = draw.layers(probe, 0)
        if complete:
            sheets["attention/disagreements"] = draw.disagreements(probe)
    if complete:
        sheets["attention/episode"] = draw.episode_strip(probe)
    drawn = {tag: (Picture(sheet).png, _size(sheet)) for tag, sheet in sheets.items()}
    if complete:
        film = draw.episode_gif(probe)
        width, height = (int.from_bytes(film[i : i + 2], "little") for i in (6, 8))  # a GIF says so itself
        drawn["attention/episode_film"] = film, (height, width)
    return drawn


def _size(sheet: np.ndarray) -> tuple[int, int]:
    return sheet.shape[0], sheet.shape[1]
