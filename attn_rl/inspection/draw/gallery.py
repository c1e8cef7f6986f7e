"""Which pictures of a record go to TensorBoard, as encoded files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from attn_rl.inspection.draw import cells, grid, past, scene, timeline
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.record.frame import Picture

N_OVERLAYS = 3
N_TABLES = 2
TELLING = 2
"""Entities from which a map shows a choice."""
FRAME_MILLISECONDS = 350
PALETTE_FRAMES = 4

View = Callable[[ProbeRecord], "np.ndarray | None"]
"""A picture (height, width, 3) uint8 of a record, a film (frames, height, width, 3), or None: nothing to draw in it."""


def telling_states(probe: ProbeRecord, count: int) -> list[int]:
    """The first probe scenes in which there is somebody to choose from; others only where these are too few.

    A map over one entity, or none, shows nothing. Scenes with a picture come before those without.
    """
    n = probe.n_probe_states
    undrawn = [frame is None for frame in probe.scenes.frame[:n]]
    lonely = (probe.record.slot_present[:n].sum(1) < TELLING).tolist()
    return sorted(sorted(range(n), key=lambda state: (undrawn[state], lonely[state]))[:count])


def scenes(probe: ProbeRecord) -> np.ndarray:
    """Probe scenes, head by head."""
    return scene.overlay(probe, telling_states(probe, N_OVERLAYS))


def heads_by_entities(probe: ProbeRecord) -> np.ndarray:
    """Probe scenes as tables."""
    return grid.heads_by_entities(probe, telling_states(probe, N_TABLES))


def cells_and_words(probe: ProbeRecord) -> np.ndarray | None:
    """Heat maps over the cells of a grid, and shaded words."""
    return cells.cells_and_words(probe, telling_states(probe, N_TABLES))


def layers(probe: ProbeRecord) -> np.ndarray | None:
    """Every layer's matrix, where entities look at entities."""
    full = any(layer.pattern.shape[2] > 1 for layer in probe.record.layers)
    return grid.layers(probe, telling_states(probe, 1)[0]) if full else None


def over_training(probe: ProbeRecord) -> np.ndarray | None:
    """Who is looked at, record after record."""
    return timeline.training(probe.history) if probe.history.steps else None


def disagreements(probe: ProbeRecord) -> np.ndarray | None:
    """Where map and absence effect differ most; at the end of training, which draws those scenes."""
    comparable = bool(probe.record.layers) and "absence_kl" in probe.effects
    return scene.disagreements(probe) if comparable and _has_episode(probe) else None


def episode(probe: ProbeRecord) -> np.ndarray | None:
    """The episode as a strip."""
    return timeline.episode_strip(probe) if _has_episode(probe) else None


def episode_film(probe: ProbeRecord) -> np.ndarray | None:
    """The episode as a film."""
    return scene.episode_frames(probe) if _has_episode(probe) else None


def over_the_past(probe: ProbeRecord) -> np.ndarray | None:
    """How far back the episode's steps look; where something is remembered."""
    return past.over_the_past(probe) if _has_episode(probe) else None


VIEWS: dict[str, View] = {
    "scenes": scenes,
    "heads_by_entities": heads_by_entities,
    "cells_and_words": cells_and_words,
    "layers": layers,
    "over_training": over_training,
    "disagreements": disagreements,
    "episode": episode,
    "over_the_past": over_the_past,
    "episode_film": episode_film,
}
"""Every picture by name; ``attention/<name>`` is its tag. An entry more is all that a new one needs."""


def named_views(chosen: Sequence[str | View] | None = None) -> dict[str, View]:
    """Pictures by name.

    Args:
        chosen: names in ``VIEWS``, or functions, which are called like themselves; None = all of ``VIEWS``.

    Raises:
        ValueError: an unknown name, a function without one, or two of the same name.
        TypeError: neither a name nor a function.
    """
    views: dict[str, View] = {}
    for view in VIEWS if chosen is None else chosen:
        if isinstance(view, str) and view not in VIEWS:
            raise ValueError(f"views: {view!r} is unknown; choose from {list(VIEWS)}, or pass a function")
        if not isinstance(view, str) and not callable(view):
            raise TypeError(f"views: got {view!r}, expected names from {list(VIEWS)} or functions of a record")
        name = view if isinstance(view, str) else getattr(view, "__name__", "")
        if not name.isidentifier():
            raise ValueError(f"views: {view!r} has no name for its tag; define it with def")
        if name in views:
            raise ValueError(f"views: {name!r} is there twice; rename one of them")
        views[name] = VIEWS[view] if isinstance(view, str) else view
    return views


def pictures(probe: ProbeRecord, views: Mapping[str, View] | None = None) -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Draw a record: tag -> (PNG or GIF file, (height, width)).

    A picture that fails is left out with a warning: it is not worth the training that it is drawn in.

    Args:
        probe: the record; one with an episode, as made at the end of training, gives more pictures.
        views: from :func:`named_views`; None = all.
    """
    drawn = {}
    for name, view in (VIEWS if views is None else views).items():
        try:
            pixels = view(probe)
            if pixels is not None:
                drawn[f"attention/{name}"] = _encode(pixels), pixels.shape[-3:-1]
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            warnings.warn(f"the picture {name!r} of step {probe.step} is left out: {problem}", stacklevel=2)
    return drawn


def _encode(pixels: np.ndarray) -> bytes:
    """A PNG file, or of several frames a GIF that loops and rests on the last one."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3 or not pixels.size:
        expected = "uint8 (height, width, 3) or (frames, height, width, 3)"
        raise ValueError(f"got {pixels.dtype} of shape {pixels.shape}, expected {expected}")
    if pixels.ndim == 3:
        return Picture(pixels).png
    frames = [Image.fromarray(frame) for frame in pixels]
    some = pixels[:: -(-len(pixels) // PALETTE_FRAMES)]
    palette = Image.fromarray(np.concatenate(some)).quantize(64)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [FRAME_MILLISECONDS] * (len(frames) - 1) + [4 * FRAME_MILLISECONDS]
    buffer = io.BytesIO()
    indexed[0].save(buffer, "GIF", save_all=True, append_images=indexed[1:], duration=times, loop=0)
    return buffer.getvalue()


def with_few_colours(png: bytes, colours: int) -> bytes:
    """The same picture in a small file."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _has_episode(probe: ProbeRecord) -> bool:
    return len(probe.scenes.episode_states) > 0
