"""Attention on a grid as a heat map over its cells, on a sentence as shaded words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageColor

from attn_rl.inspection.draw.sheet import (
    ATTENTION,
    EFFECT,
    FAINT,
    INK,
    LINE,
    MUTED,
    PAPER,
    POINTER,
    TARGET,
    Colour,
    Sheet,
    number,
    sentences,
    shade,
    shorten,
    text_width,
    wrap,
)
from attn_rl.inspection.measure import metrics
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.summary import owners
from attn_rl.inspection.record.attention_record import AttentionRecord

SENTENCE = ("word", "place")
"""Features of a word, as :class:`attn_rl.wrappers.TextToEntities` names them."""
DOWNWARDS = "row"
"""Name of a first feature that counts cells downwards; otherwise the first goes right and the second up."""
FEWEST, SIDE, MOST = 3, 196, 64
"""Cells along a grid's side that make it one; pixels of a panel; cells beyond which a side is no grid."""
MARGIN, GAP = 16, 16
WORD, WORD_LINE = 11, 19
LEGEND = "depth of colour: weight, or effect relative to the largest; numbers: the largest, effects in nats"
READS = (
    "on the right, in layer 1: cells that read the word that the most attended cell reads most; what that cell reads"
)


@dataclass
class Lattice:
    """Where the entities of one type stand in a grid.

    Attributes:
        slots: their numbers among all slots (n,).
        at: column and row of each, from the top left (S,n,2); 0 where absent.
        size: columns and rows.
    """

    slots: np.ndarray
    at: np.ndarray
    size: tuple[int, int]


@dataclass
class Shades:
    """What one panel shows, for one state.

    Attributes:
        title: written above.
        colour: of its shades.
        strength: of every slot (N,), in [0,1]; NaN: nothing is said of it.
        numbers: what the strongest's number is (N,).
    """

    title: str
    colour: Colour
    strength: np.ndarray
    numbers: np.ndarray


def cells_and_words(probe: ProbeRecord, states: Sequence[int]) -> np.ndarray | None:
    """States downwards; across: the map, the absence effect, and which cells read the word that the first cell reads.

    Args:
        probe: the record.
        states: which states S to draw.

    Returns:
        Picture (height, width, 3) uint8; None where no type of entity stands in a grid and none is a sentence.
    """
    grids, words = lattices(probe.record), sentence(probe.record)
    if not grids and not len(words):
        return None
    panels = [_panels(probe, state, grids, words) for state in states]
    across = max(map(len, panels))
    width = 2 * MARGIN + across * (SIDE + GAP) - GAP
    heights = [SIDE * len(grids) + 34 + _text_height(probe.record, state, words) for state in states]
    told = f"{LEGEND}; {READS}" if any(panel.colour == POINTER for shown in panels for panel in shown) else LEGEND
    captions = [(line, MUTED) for line in wrap(told, width - 2 * MARGIN, 12)]
    captions += sentences(probe.verdicts, width - 2 * MARGIN)
    sheet = Sheet(width, 40 + sum(heights) + LINE * len(captions) + 6)
    sheet.text((MARGIN, 20), "Cells and words" if len(words) else "Cells", 15)
    sheet.text((width - MARGIN, 20), f"step {probe.step:,}", 11, MUTED, "rm")
    y = 44.0
    for state, shown, height in zip(states, panels, heights, strict=True):
        for c, panel in enumerate(shown):
            x = MARGIN + c * (SIDE + GAP)
            sheet.text((x, y), shorten(panel.title, SIDE, 11), 11, panel.colour)
            for i, grid in enumerate(grids):
                _draw_grid(sheet, probe, state, grid, panel, x, y + 12 + i * SIDE)
            _draw_sentence(sheet, probe.record, state, words, panel, x, y + 24 + SIDE * len(grids))
        y += height
    sheet.lines((MARGIN, y + 4), captions)
    return sheet.pixels()


def lattices(record: AttentionRecord) -> list[Lattice]:
    """The types of entities whose first two features are the columns and rows of a grid, each place taken once."""
    types = {name: columns - record.lead for name, columns in owners(record).items() if columns[0] >= record.lead}
    found = [_lattice(record, name, slots) for name, slots in types.items()]
    return [lattice for lattice in found if lattice is not None]


def _lattice(record: AttentionRecord, name: str, slots: np.ndarray) -> Lattice | None:
    block = np.asarray(record.obs.get(name, record.obs.get("")), float)
    features = record.feature_names.get(name, ())
    if features == SENTENCE or block.ndim != 3 or block.shape[2] < 2:
        return None
    there = record.slot_present[:, slots]
    first, second = (_steps(np.where(there, block[..., i], np.nan)) for i in range(2))
    if first is None or second is None:
        return None
    x, y = (second, first) if features[:1] == (DOWNWARDS,) else (first, np.nanmax(second) - second)
    at = np.stack([x, y], -1)
    if any(len(np.unique(places[who], axis=0)) < who.sum() for places, who in zip(at, there, strict=True)):
        return None
    return Lattice(slots, np.nan_to_num(at).astype(int), (int(np.nanmax(x)) + 1, int(np.nanmax(y)) + 1))


def sentence(record: AttentionRecord) -> np.ndarray:
    """The slots that are words, all sentences one after another."""
    found = [
        columns - record.lead
        for name, columns in owners(record).items()
        if record.feature_names.get(name, ()) == SENTENCE and columns[0] >= record.lead
    ]
    return np.concatenate(found) if found else np.zeros(0, int)


def _steps(values: np.ndarray) -> np.ndarray | None:
    """Values as whole numbers of steps from the smallest; None where they are none."""
    known = np.unique(np.round(values[~np.isnan(values)], 5))
    if not FEWEST <= len(known) <= MOST:
        return None
    step = np.diff(known).min()
    steps = (values - known[0]) / step
    whole = np.round(steps)
    return whole if np.nanmax(np.abs(steps - whole)) < 0.05 and np.nanmax(whole) < MOST else None


def _panels(probe: ProbeRecord, state: int, grids: Sequence[Lattice], words: np.ndarray) -> list[Shades]:
    record, panels = probe.record, []
    if record.layers:
        weights = record.entity_map()[state]
        panels.append(Shades("map (mean of heads)", ATTENTION, _relative(weights, 0.01), weights))
    if "absence_kl" in probe.effects:
        effect = np.asarray(probe.effects["absence_kl"][state], float)
        panels.append(
            Shades(metrics.effect_title("absence_kl"), EFFECT, _relative(effect, metrics.UNUSED_BELOW), effect)
        )
    if grids and len(words) and record.layers and record.layers[0].pattern.shape[2] > 1:
        panels += _found_by_a_word(probe, state, np.concatenate([grid.slots for grid in grids]), words)
    return panels


def _found_by_a_word(probe: ProbeRecord, state: int, cells: np.ndarray, words: np.ndarray) -> list[Shades]:
    """How much each cell reads the word that the most attended cell reads most, and which words that cell reads."""
    record, lead = probe.record, probe.record.lead
    cells = cells[record.slot_present[state, cells]]
    words = words[record.slot_present[state, words]]
    if not len(cells) or not len(words):
        return []
    reads = record.layers[0].pattern[state].mean(0)[lead:, lead:]  # (N,N)
    cell = cells[record.entity_map()[state, cells].argmax()]
    word = words[reads[cell, words].argmax()]
    numbers = np.full(reads.shape[0], np.nan)
    numbers[cells], numbers[words] = reads[cells, word], reads[cell, words]
    strength = np.full(len(numbers), np.nan)
    for group in (cells, words):
        strength[group] = _relative(numbers[group], 0.01)
    title = f"cells that read {record.words(state)[word]!r}"
    return [Shades(title, POINTER, strength, numbers)]


def _relative(values: np.ndarray, least: float) -> np.ndarray:
    """Values relative to the largest, which counts at least ``least``."""
    known = np.nan_to_num(values)
    relative: np.ndarray = known / max(float(known.max(initial=0.0)), least)
    return relative


def _draw_grid(sheet: Sheet, probe: ProbeRecord, state: int, grid: Lattice, panel: Shades, x: float, y: float) -> None:
    cell = (SIDE - 6) / max(grid.size)
    said, present = probe.record.words(state), probe.record.slot_present[state]
    sheet.box(x, y, cell * grid.size[0], cell * grid.size[1], PAPER, FAINT)
    shown = [slot for slot in grid.slots if present[slot]]
    best = max(shown, key=lambda slot: np.nan_to_num(panel.strength[slot]), default=None)
    relevant = int(probe.scenes.relevant[state])
    for slot, (column, row) in zip(grid.slots, grid.at[state], strict=True):
        if not present[slot]:
            continue
        left, top, amount = x + column * cell, y + row * cell, float(np.nan_to_num(panel.strength[slot]))
        sheet.box(left + 0.5, top + 0.5, cell - 1, cell - 1, shade(panel.colour, amount), FAINT)
        ink = PAPER if amount > 0.45 else INK
        if cell >= 18 and said[slot]:
            colour, thing = _named(said[slot])
            if colour is not None:
                sheet.box(left + 2, top + cell - 4, cell - 4, 2.5, colour)
            sheet.text((left + cell / 2, top + cell * 0.36), shorten(thing.split()[0], cell - 2, 7), 7, ink, "mm")
        if slot == best and amount > 0.03:
            sheet.text((left + cell / 2, top + cell * 0.68), number(float(panel.numbers[slot])), 8, ink, "mm")
        if slot == relevant:
            sheet.triangle((left + cell / 2, top + 3), 7, TARGET)


def _named(words: str) -> tuple[Colour | None, str]:
    """A colour among the words of a cell, and its other words."""
    for word in (parts := words.split()):
        if word in ImageColor.colormap:
            rest = " ".join(other for other in parts if other != word)
            return ImageColor.getrgb(word)[:3], rest or word
    return None, words


def _placed(record: AttentionRecord, state: int, words: np.ndarray) -> list[tuple[int, str, float, int]]:
    """Slot, word, offset from the left and line of each word of the sentence, broken at the panel's width."""
    said, placed, x, line = record.words(state), [], 0.0, 0
    for slot in words[record.slot_present[state, words]]:
        width = text_width(said[slot], WORD) + 8
        if x and x + width > SIDE:
            x, line = 0.0, line + 1
        placed.append((int(slot), said[slot], x, line))
        x += width + 2
    return placed


def _text_height(record: AttentionRecord, state: int, words: np.ndarray) -> float:
    placed = _placed(record, state, words)
    return (placed[-1][3] + 1) * WORD_LINE + 12 if placed else 0.0


def _draw_sentence(
    sheet: Sheet, record: AttentionRecord, state: int, words: np.ndarray, panel: Shades, x: float, y: float
) -> None:
    for slot, word, left, line in _placed(record, state, words):
        amount = float(np.nan_to_num(panel.strength[slot]))
        middle = y + line * WORD_LINE
        sheet.box(x + left, middle - 8, text_width(word, WORD) + 8, 16, shade(panel.colour, amount))
        sheet.text((x + left + 4, middle), word, WORD, PAPER if amount > 0.45 else INK)
